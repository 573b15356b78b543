"""The report as one self-contained HTML page that opens without a server.

Everything that a model or a data set wrote is escaped, characters that cannot be seen are shown,
and the page's content security policy lets nothing run or load but its own script and style.
"""

import base64
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup

from alignment_extraction.files import atomic_path
from alignment_extraction.report import figures, gate, leaks, wording
from alignment_extraction.report.cards import citation
from alignment_extraction.report.rows import AT_RISK, leaked, mask, page_data, ranked
from alignment_extraction.report.sections import sections
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import Verdict

HERE = Path(__file__).parent
TOP_ROWS = 10
"""Rows that stand in the page itself, for paper and for browsers without scripts."""
PARQUET_BYTES = 600_000
"""A rows.parquet of at most this size goes with the page; a larger one is linked beside it."""


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _top(rows: pl.DataFrame, model: str, masked: bool) -> list[dict[str, Any]]:
    top = ranked(rows.filter(pl.col("trained") & (pl.col("model") == model))).head(TOP_ROWS)
    texts = mask(top)["question_sha256"] if masked else top["question"]
    return [
        {
            "id": wording.visible(row["id"]),
            "chance": wording.percent(row["chance_1e6"]),
            "repetitions": wording.count(row["repetitions"]),
            "seen": row["seen"],
            "text": wording.visible(text or ""),
        }
        for row, text in zip(top.iter_rows(named=True), texts, strict=True)
    ]


def _parquet(results: Results, masked: bool) -> str | None:
    """A link to all rows as Parquet: inside the page where it is small enough, else beside it."""
    rows = results["rows"]
    buffer = io.BytesIO()
    (mask(rows) if masked else rows).write_parquet(buffer, compression="zstd", compression_level=19)
    if buffer.tell() <= PARQUET_BYTES:
        return f"data:application/vnd.apache.parquet;base64,{_base64(buffer.getvalue())}"
    return None if masked else "rows.parquet"


def _unbroken(value: Any) -> Any:
    """No line may end between a number and its sign."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return value.replace(" %", "\u00a0%") if plain else value


def environment() -> jinja2.Environment:
    """Templates with every text escaped."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_unbroken,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "base64": lambda text: _base64(text.encode()),
        "count": wording.count,
        "listed": wording.listed,
    }
    made.filters |= filters
    return made


def write_page(
    results: Results,
    verdict: Verdict,
    settings: Mapping[str, Any],
    provenance: Mapping[str, str],
    output: Path,
    *,
    masked: bool = False,
) -> None:
    """Write a study's report.

    Args:
        results: its tables.
        verdict: of `verdict.verdict`.
        settings: of the study: `name`, `title`, `models`, `prefixes`, `thresholds`, `gate`,
            `search` (sentences on how the search was checked).
        provenance: what the results were made with: names and values.
        output: the page; the same inputs give the same bytes.
        masked: write ids, hashes and scores, and no text of the corpus or of a generation.
    """
    own = verdict.first
    rows = results["rows"]
    models = [headline.model for headline in verdict.headlines]
    data, shown, with_texts = page_data(rows, models, masked=masked)
    risky = leaked(rows.filter(pl.col("model").is_in(models)))
    texts = [text for name in ("question", "answer") for text in risky[name]]
    limits = gate.limits_from(settings.get("gate") or {})
    style, script = (
        "\n".join((HERE / name).read_text() for name in names)
        for names in (
            ("vendor/tabulator_simple.min.css", "templates/report.css"),
            ("vendor/tabulator.min.js", "vendor/diff.min.js", "templates/report.js"),
        )
    )
    page = environment().get_template("report.html").render(
        title=settings.get("title") or settings.get("name", "Report"),
        name=settings.get("name", ""),
        verdict=verdict,
        first=own,
        cards=verdict.cards(own) if own else [],
        overview=figures.overview(results, verdict),
        gate=gate.check(results, limits, settings) if limits.given() else None,
        gate_states=gate.STATES,
        citation=citation(verdict, settings, provenance),
        data=data,
        parquet=_parquet(results, masked) if rows.height else None,
        counts={"rows": rows.height, "shown": shown, "texts": with_texts, "leaked": risky.height},
        at_risk=AT_RISK,
        found=leaks.scan(texts),
        models=models,
        top=_top(rows, own.model, masked) if own else [],
        masked=masked,
        sections=sections(results, verdict, settings),
        provenance=provenance,
        licences=[path.read_text() for path in sorted((HERE / "vendor").glob("*.LICENSE"))],
        markup=Markup,
        style=Markup(style),
        script=Markup(script),
        policy=Markup(
            f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
            f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
        ),
    )  # fmt: skip
    with atomic_path(output) as partial:
        partial.write_text(page, encoding="utf-8")
