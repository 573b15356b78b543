"""A block for a model's card, in words and as YAML."""

from collections.abc import Mapping
from typing import Any

import yaml

from alignment_extraction.report.numbers import of_headline
from alignment_extraction.report.rendering import render
from alignment_extraction.report.verdict import Verdict, cards


def model_card(
    verdict: Verdict, settings: Mapping[str, Any], provenance: Mapping[str, str]
) -> tuple[str, str]:
    """A block for the card of the first model.

    Args:
        verdict: of the study.
        settings: of the study.
        provenance: version, commit, and hashes by name.

    Returns:
        Markdown with the sentences and numbers; the numbers as YAML.
    """
    own = verdict.first
    text = render(
        "model_card.md",
        own=own,
        sentences=verdict.sentences,
        cards=cards(own) if own else (),
        caveats=verdict.caveats,
        provenance=provenance,
    )
    about = {"study": settings["name"], "provenance": dict(provenance)}
    numbers = {"memorisation": (of_headline(own) if own else {}) | about}
    return text, yaml.safe_dump(numbers, sort_keys=False, allow_unicode=True)
