"""What the report says of calibrated thresholds: the rows of its tables and its verdict."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from alignment_extraction.extraction.headline import (
    headline_reference,
    of_headline_cells,
    readable,
)
from alignment_extraction.figures.style import METRIC_LABELS

FIXED = "fixed"
"""What the fixed threshold is called among the operating points; the others are rates."""

ORDER_OF_MAGNITUDE = 10
"""The ratio of semantic to string memorisation that the paper claims at 0.95 and 0.9."""


def calibration_section(tables: Mapping[str, pl.DataFrame]) -> dict[str, Any] | None:
    """What the template of the section shows; None where nothing was calibrated.

    Args:
        tables: the study's.

    Returns:
        `held_out` (whether there are held-out rows to hold generations against),
        `false_positive_rates`, `reference`, and the lists `rates` and `ratios`. An entry of them
        has cell, held_out, length_band, metric, n and `points`: the table's row at `fixed` and at
        each false positive rate; of `rates` also `area`, its row of calibration_areas or None.
        `verdicts` are the entries of `ratios` that the order of magnitude is read from.
    """
    if "calibration" not in tables:
        return None
    rows = of_headline_cells(tables, "calibration").filter(length_band="all")
    keys = ["cell", "held_out", "metric"]
    areas = {
        tuple(row[key] for key in keys): row
        for row in of_headline_cells(tables, "calibration_areas")
        .filter(length_band="all")
        .iter_rows(named=True)
    }
    rates = _entries(rows, keys)
    for entry in rates:
        entry["area"] = areas.get(tuple(entry[key] for key in keys))
        entry["held_out"] = readable(entry["held_out"]) if entry["held_out"] else None
    ratios = _entries(
        of_headline_cells(tables, "calibration_ratios")
        .filter(pl.col("metric") != "verbatim")
        .filter(pl.col("held_out").eq("role:held-out").fill_null(True)),
        ["cell", "length_band", "metric"],
    )
    verdicts = [entry for entry in ratios if entry["length_band"] == "all"]
    return {
        "held_out": tables["calibration"]["held_out"].is_not_null().any(),
        "false_positive_rates": sorted(
            tables["calibration"]["false_positive_rate"].drop_nulls().unique(), reverse=True
        ),
        "reference": readable(headline_reference(tables["rates"])),
        "rates": rates,
        "ratios": ratios,
        "verdicts": [entry for entry in verdicts if entry["metric"] == "levenshtein"],
        "order_of_magnitude": ORDER_OF_MAGNITUDE,
    }


def _entries(rows: pl.DataFrame, keys: list[str]) -> list[dict[str, Any]]:
    """One entry for each value of `keys`, in order, with the rows at its operating points."""
    entries: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows.iter_rows(named=True):
        entry = entries.setdefault(
            tuple(row[key] for key in keys),
            {
                **{key: row[key] for key in ("cell", "held_out", "length_band", "metric", "n")},
                "label": METRIC_LABELS[row["metric"]],
                "points": {},
            },
        )
        rate = row["false_positive_rate"]
        entry["points"][FIXED if rate is None else rate] = row
    return list(entries.values())
