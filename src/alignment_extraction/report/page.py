"""The report as one self-contained HTML page that opens without a server.

Everything that a model or a data set wrote is escaped, characters that cannot be seen are shown,
and the page's content security policy lets nothing run or load but its own script and style.
"""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from alignment_extraction.files import atomic_path
from alignment_extraction.report import figures, gate, leaks
from alignment_extraction.report.headline import Headline, coverage, fixed, rates_by
from alignment_extraction.report.rendering import HERE, render
from alignment_extraction.report.rows import AT_RISK, leaked, page_data, worst
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import Verdict, cards

TOP_ROWS = 10
"""Rows that stand in the page itself, for paper and for browsers without scripts."""


def _inline(*names: str) -> tuple[str, str]:
    """Files of the page as one text, and what its security policy calls it."""
    text = "\n".join((HERE / name).read_text() for name in names)
    digest = hashlib.sha256(text.encode()).digest()
    return text, f"'sha256-{base64.b64encode(digest).decode()}'"


def _answers(results: Results, own: Headline) -> dict[str, Any]:
    """The numbers that the page's questions are answered with; see sections.html."""
    kinds = rates_by(figures.own_rows(results["kinds"], own), "kind")
    differences = (
        results["comparisons"]
        .filter(
            pl.col("source").is_in(list(own.sources)),
            level=own.level or "rows",
            field=own.field,
            reference_model=own.model,
            reference_prefix=own.prefix,
        )
        .with_columns(detectable=pl.format("{} points", (100 * pl.col("detectable")).round(1)))
    )
    return {
        "differences": differences,
        "conditions": fixed(results["attribution"]),
        "kinds": {kind: kinds.get(kind) for kind in figures.KINDS} if kinds else {},
        "ratios": results["ratios"].filter(model=own.model, prefix=own.prefix, field=own.field),
        "rates": figures.condition_rates(results, own),
        "repetitions": figures.repetitions(results, own),
        "covered": coverage(results, own.model, own.sources),
    }


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
    own, rows = verdict.first, results["rows"]
    models = [headline.model for headline in verdict.headlines]
    data, shown, with_texts = page_data(rows, models, masked=masked)
    risky = leaked(rows.filter(pl.col("model").is_in(models)))
    limits = settings.get("gate")
    style, style_hash = _inline("vendor/tabulator_simple.min.css", "templates/report.css")
    script, script_hash = _inline(
        "vendor/tabulator.min.js", "vendor/diff.min.js", "templates/report.js"
    )
    page = render(
        "report.html",
        title=settings["title"],
        name=settings["name"],
        verdict=verdict,
        first=own,
        cards=cards(own) if own else [],
        gate=gate.check(results, limits, settings) if limits else None,
        data=data,
        counts={"rows": rows.height, "shown": shown, "texts": with_texts, "leaked": risky.height},
        at_risk=AT_RISK,
        found=leaks.scan(text for name in ("question", "answer") for text in risky[name]),
        models=models,
        top=worst(rows, own.model, TOP_ROWS, masked=masked) if own else [],
        masked=masked,
        marks=settings["thresholds"],
        search=settings.get("search", ()),
        pictures=figures.pictures(results, verdict, settings["thresholds"]),
        tables=results,
        corpus=rows.unique("id", maintain_order=True)
        .group_by("source", "role", maintain_order=True)
        .agg(pl.len(), pl.col("template").n_unique(), pl.col("repetitions").max()),
        provenance=provenance,
        licences=[path.read_text() for path in sorted((HERE / "vendor").glob("*.LICENSE"))],
        style=Markup(style),
        script=Markup(script),
        policy=Markup(
            f"default-src 'none'; img-src data:; style-src {style_hash}; "
            f"script-src {script_hash}; base-uri 'none'; form-action 'none'"
        ),
        **(_answers(results, own) if own else {}),
    )
    with atomic_path(output) as partial:
        partial.write_text(page, encoding="utf-8")
