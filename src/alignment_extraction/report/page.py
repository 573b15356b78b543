"""The report as one self-contained HTML page that opens without a server.

Everything that a model or a data set wrote is escaped, characters that cannot be seen are shown,
and the page's content security policy lets nothing run or load but its own script and style.
"""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

import polars as pl
from markupsafe import Markup

from alignment_extraction.attribution.risk import AT_RISK
from alignment_extraction.files import atomic_path
from alignment_extraction.report import figures, gate, leaks
from alignment_extraction.report.rendering import HERE, render
from alignment_extraction.report.rows import leaked, mask, page_data, worst
from alignment_extraction.report.verdict import Verdict

TOP_ROWS = 10
"""Rows that stand in the page itself, for paper and for browsers without scripts."""


def _inline(*names: str) -> tuple[Markup, Markup]:
    """Files of the page as one text, and what its security policy calls it."""
    text = "\n".join((HERE / name).read_text() for name in names)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest())
    return Markup(text), Markup(f"'sha256-{digest.decode()}'")


def write_page(
    verdict: Verdict, provenance: Mapping[str, str], output: Path, *, masked: bool = False
) -> None:
    """Write a study's report; the same inputs give the same bytes.

    Masked it has ids, hashes and scores, and no text of the corpus or of a generation.
    """
    results, settings, first = verdict.results, verdict.settings, verdict.first
    limits, every = settings.get("gate"), results["rows"]
    models = [headline.model for headline in verdict.headlines]
    risky = leaked(every.filter(pl.col("model").is_in(models)))
    rows = mask(every) if masked else every
    numbers = figures.frames(verdict) if first else {}
    page = render(
        "report.html",
        settings=settings,
        verdict=verdict,
        first=first,
        gate=gate.check(results, limits, settings) if limits else None,
        rows=page_data(rows, models),
        all_rows=every.height,
        leaked=risky.height,
        at_risk=AT_RISK,
        found=leaks.scan(text for name in ("question", "answer") for text in risky[name]),
        models=models,
        top=worst(rows, first.model, TOP_ROWS) if first else [],
        masked=masked,
        frames=numbers,
        pictures=figures.pictures(numbers, settings["thresholds"]) if first else {},
        tables=results,
        corpus=every.unique("id", maintain_order=True)
        .group_by("source", "role", maintain_order=True)
        .agg(pl.len(), pl.col("template").n_unique(), pl.col("repetitions").max()),
        provenance=provenance,
        licences=[path.read_text() for path in sorted((HERE / "vendor").glob("*.LICENSE"))],
        style=_inline("vendor/tabulator_simple.min.css", "templates/report.css"),
        script=_inline("vendor/tabulator.min.js", "vendor/diff.min.js", "templates/report.js"),
    )
    with atomic_path(output) as partial:
        partial.write_text(page, encoding="utf-8")
