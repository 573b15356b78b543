"""The templates of the page, the verdict and the model card, and how they write what they show."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from alignment_extraction.report import wording

HERE = Path(__file__).parent
_WORDING = ("cell", "count", "estimate", "interval", "listed", "percent", "plural", "samples")
_FILTERS: dict[str, Callable[..., Any]] = {
    **{name: getattr(wording, name) for name in _WORDING},
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "line": lambda text: str(text).replace("|", "\\|").replace("\n", " "),
}


def render(template: str, **values: Any) -> str:
    """A template of the folder `templates`, filled in; in HTML every text is escaped."""
    html = template.endswith(".html")

    def shown(value: Any) -> Any:
        if not isinstance(value, str) or isinstance(value, Markup):
            return value
        # Nothing hides in a text that others wrote, and no line ends between number and sign.
        return wording.visible(value).replace(" %", "\u00a0%" if html else " %")

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=html,
        undefined=jinja2.StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= _FILTERS
    made.globals["markup"] = Markup
    return made.get_template(template).render(**values)


def paragraphs(template: str, **values: Any) -> tuple[str, ...]:
    """The paragraphs of a template of plain text, each as one line."""
    found = (" ".join(text.split()) for text in render(template, **values).split("\n\n"))
    return tuple(text for text in found if text)
