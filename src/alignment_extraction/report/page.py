"""The report of a study: one self-contained HTML page that opens without a server.

Everything that a model or a data set wrote is escaped, characters that cannot be seen are shown,
and the page's content security policy lets nothing run or load but its own script and style.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup

from alignment_extraction.extraction.headline import (
    CELL,
    cell_label,
    headline_cells,
    headline_part,
    headline_reference,
    pool_seeds,
    readable,
)
from alignment_extraction.figures.drawing import FIGURES, caption
from alignment_extraction.figures.style import percent
from alignment_extraction.files import InputError, atomic_path
from alignment_extraction.report import copying as report_copying
from alignment_extraction.report import differences
from alignment_extraction.report import distillation as report_distillation
from alignment_extraction.report import evidence as report_evidence
from alignment_extraction.report import likelihood as report_likelihood
from alignment_extraction.report import matches as report_matches
from alignment_extraction.report.calibration import calibration_section
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.statistics import wilson

TEMPLATES = Path(__file__).parent / "templates"


def times(value: float | None) -> str:
    """A ratio, as 12.3 followed by a multiplication sign."""
    if value is None or math.isnan(value):
        return "–"  # noqa: RUF001
    return "∞" if math.isinf(value) else f"{float(f'{value:.3g}'):g} ×"  # noqa: RUF001


def rate_sentence(row: Mapping[str, Any]) -> str:
    """A rate in words; a zero says what it bounds.

    Args:
        row: of the rates table.
    """
    if row["hits"] == 0:
        return (
            f"none of {row['n']:,} generations; at 95 % confidence the rate is at most "
            f"{percent(row['high'])}"
        )
    return (
        f"{row['hits']:,} of {row['n']:,} generations: {percent(row['rate'])} "
        f"(95 % interval {percent(row['low'])} to {percent(row['high'])})"
    )


def headlines(tables: Mapping[str, pl.DataFrame]) -> list[dict[str, str]]:
    """What stands first: rates above the strongest control; without one the rates themselves.

    They are of the cell with the most generations, against the headline reference.
    """
    if cards := report_evidence.control_cards(tables):
        return cards
    rates = tables["rates"].filter(part=headline_part(tables["rates"]))
    reference = headline_reference(rates)
    rates = rates.filter(reference=reference).sort("n", descending=True, maintain_order=True)
    cards = []
    for metric, label in report_evidence.CARD_LABELS.items():
        of_metric = rates.filter(metric=metric)
        if of_metric.height:
            top = (
                of_metric.filter(n=of_metric["n"][0])
                .sort("rate", descending=True)
                .row(0, named=True)
            )
            where = f"{top['model']}, prefix {top['prefix']}, against {readable(reference)}"
            cards.append(
                {
                    "label": f"{label}, without a control",
                    "value": percent(top["rate"]) if top["hits"] else f"< {percent(top['high'])}",
                    "sentence": f"{where}: {rate_sentence(top)}.",
                }
            )
    return cards


def rate_table(tables: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """One row for each cell, part and reference, with the rate of every metric as text."""
    wide: dict[tuple[Any, ...], dict[str, Any]] = {}
    first = set(headline_cells(pool_seeds(tables["rates"])).select(CELL).iter_rows())
    for row in tables["rates"].iter_rows(named=True):
        key = tuple(row[k] for k in ("model", "prefix", "seed", "part", "reference"))
        entry = wide.setdefault(
            key,
            {
                **row,
                "reference": readable(row["reference"]),
                "is_role": "role:" in row["reference"],
                "is_headline": (row["model"], row["prefix"]) in first,
            },
        )
        interval = f"{percent(row['low'])} to {percent(row['high'])}"
        entry[row["metric"]] = f"{percent(row['rate'])} ({interval})"
    return list(wide.values())


def ratio_table(tables: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """How many times more the embedding finds than strings do, against the headline reference."""
    ratios = tables["ratios"].filter(reference=headline_reference(tables["rates"]))
    return [
        {
            **row,
            "text": times(row["ratio"]),
            "interval": f"{times(row['low'])} to {times(row['high'])}",
        }
        for row in ratios.iter_rows(named=True)
        if row["embedding_hits"] or row["hits"]
    ]


def verbatim_lists(tables: Mapping[str, pl.DataFrame], most: int = 40) -> list[dict[str, Any]]:
    """The items written out character for character: a list for each part and corpus group.

    Args:
        tables: the study's; `verbatim` and `rates` are read.
        most: items of each list, those hit most often.

    Returns:
        A dictionary each: part, reference, total (items), cells (labels of the headline cells, with
        their n), items: {id, text, repetitions, hits (of each of these cells)}.
    """
    cells = headline_cells(pool_seeds(tables["rates"])).to_dicts()
    columns = [f"hits {place}" for place in range(len(cells))]
    hits = (
        tables["verbatim"]
        .group_by("part", "reference", "id", "text", "repetitions", maintain_order=True)
        .agg(
            pl.col("hits").filter(*[pl.col(key) == cell[key] for key in CELL]).sum().alias(column)
            for column, cell in zip(columns, cells, strict=True)
        )
        .filter(pl.sum_horizontal(columns) > 0)
        .sort(pl.sum_horizontal(columns), "id", descending=[True, False])
    )
    lists = []
    for (part, reference), found in sorted(hits.group_by("part", "reference")):
        items = [
            {
                "id": row["id"],
                "text": differences.visible(row["text"]),
                "repetitions": row["repetitions"],
                "hits": [row[column] for column in columns],
            }
            for row in found.head(most).iter_rows(named=True)
        ]
        lists.append(
            {
                "part": part,
                "reference": reference,
                "total": found.height,
                "cells": [f"{cell_label(cell)} (n = {cell['n']:,})" for cell in cells],
                "items": items,
            }
        )
    return lists


def accuracy_rows(accuracy: pl.DataFrame) -> list[dict[str, Any]]:
    """Accuracies before and after RL, with Wilson intervals as text."""
    return [
        {**row, "accuracy": share_text(row["right"], row["questions"])}
        for row in accuracy.iter_rows(named=True)
    ]


def search_recall(search: Mapping[str, Any]) -> str:
    """Annoy's recall@1 over all audited queries, with its interval as text."""
    queries = search["queries"]
    return share_text(search["recall_at_1"] * queries, queries) if queries else ""


def share_text(hits: float, n: int) -> str:
    """A share with its Wilson interval at 95 %."""
    interval = wilson(hits, n)
    low, high = percent(float(interval.low)), percent(float(interval.high))
    return f"{percent(float(interval.estimate))} ({low} to {high})"


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _figures(folder: Path) -> dict[str, dict[str, str]]:
    """The figures that there are. They hold numbers and escaped names; see `figures.style.svg`."""
    drawn = {name: folder / f"{name}.svg" for name in FIGURES}
    return {
        name: {"caption": caption(name), "svg": Markup(path.read_text())}
        for name, path in drawn.items()
        if path.exists()
    }


def write_report(
    name: str,
    study: StudySettings,
    tables: Mapping[str, pl.DataFrame],
    metrics: Mapping[str, Any],
    figures: Path,
    provenance: Sequence[tuple[str, str]],
    output: Path,
) -> None:
    """Write a study's report.

    Args:
        name: the study.
        study: its settings.
        tables: its tables (`rates`, `ratios`, `verbatim`, `matches`, `report_copying.TABLES`, and
            the others where there are any).
        metrics: its metrics.json, for the corpus's counts and the search's recall.
        figures: folder of `figures.draw`.
        provenance: what the results were made with, as pairs of a name and a value.
        output: the page; the same inputs give the same bytes.

    Raises:
        InputError: a table that every report needs is missing.
    """
    for needed in ("rates", "ratios", "verbatim", "matches", *report_copying.TABLES):
        if needed not in tables:
            raise InputError(f"study {name}: no table {needed}; run the evaluation first")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "times": times,
        "with_interval": lambda share, n: share_text(share * n, n),
        "visible": differences.visible,
    }
    style = (TEMPLATES / "report.css").read_text()
    script = "".join((TEMPLATES / f"{name}.js").read_text() for name in ("matches", "figures"))
    matches = report_copying.with_kinds(tables["matches"], tables["anatomy"])
    page = environment.get_template("report.html").render(
        name=name,
        study=study,
        reference=readable(headline_reference(tables["rates"])),
        headlines=headlines(tables),
        rates=rate_table(tables),
        ratios=ratio_table(tables),
        calibration=calibration_section(tables),
        verbatim=verbatim_lists(tables),
        has_held_out="role:held-out" in set(tables["rates"]["reference"]),
        shifts=tables["shifts"].to_dicts() if "shifts" in tables else [],
        **report_likelihood.sections(tables),
        accuracy=accuracy_rows(tables["accuracy"]) if "accuracy" in tables else [],
        search_recall=search_recall(metrics["search"]),
        copying=report_copying.section(tables),
        evidence=report_evidence.section(tables, study.index),
        distillation=report_distillation.section(tables),
        figures=_figures(figures),
        **report_matches.section(matches),
        metrics=metrics,
        provenance=provenance,
        style=Markup(style),
        script=Markup(script),
        policy=Markup(
            f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
            f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
        ),
    )
    with atomic_path(output) as partial:
        partial.write_text(page)
