"""Calibrated rates of a study as tables: generations against the held-out rows of its corpus."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.extraction.calibration import (
    DRAWS,
    Calibration,
    Populations,
    calibrate,
    effective_number,
    needed,
)
from alignment_extraction.extraction.scores import KEYS, SCORE, threshold_of
from alignment_extraction.search.held_out import (
    ALL_HELD_OUT,
    ALL_LENGTHS,
    Comparison,
    comparisons,
    fixed_hits,
    held_out_scores,
    populations,
)
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import Array, Interval, named_seed, subtract, wilson

OPERATING_RATES = (0.01, 0.001)
"""False positive rates at which rates and ratios are reported."""

CURVE_RATES = np.geomspace(0.001, 1, 31).round(6)
"""False positive rates at which curves are drawn, the operating ones among them."""

_SCORED = tuple(SCORE)
TABLE_COLUMNS = {
    "calibration": (
        "false_positive_rate threshold n hits rate low high held_out_rows held_out_effective "
        "held_out_needed length_matched control control_low control_high "
        "excess excess_low excess_high"
    ),
    "calibration_ratios": "false_positive_rate n embedding_hits hits ratio low high",
    "calibration_areas": "n held_out_rows auc low high",
    "calibration_curves": "false_positive_rate threshold n rate low high",
}
"""The tables, with their columns after model, prefix, seed, part, reference, held_out, length_band
and metric."""

_COUNTS = ("seed", "n", "hits", "embedding_hits", "held_out_rows", "held_out_needed")
_TEXTS = (*(key for key in KEYS if key != "seed"), "held_out", "length_band", "metric")


def _schema(table: str) -> dict[str, Any]:
    names = [*KEYS, "held_out", "length_band", "metric", *TABLE_COLUMNS[table].split()]
    types = dict.fromkeys(_TEXTS, pl.String) | dict.fromkeys(_COUNTS, pl.Int64)
    return {name: types.get(name, pl.Float64) for name in names}


def calibration_tables(
    scored: pl.DataFrame,
    matches: pl.DataFrame,
    corpus: pl.DataFrame,
    thresholds: ThresholdSettings,
    seed: int,
    draws: int = DRAWS,
) -> dict[str, pl.DataFrame]:
    """Rates, ratios, areas and curves at chosen false positive rates, beside the fixed thresholds.

    Args:
        scored: from `results.score`; the rows against members and unknown items are read.
        matches: from `matching.match_held_out`. Without rows only the fixed thresholds are given,
            with `held_out` null.
        corpus: in the corpus schema.
        thresholds: the fixed ones.
        seed: of the study.
        draws: of the bootstrap.

    Returns:
        The tables `calibration`, `calibration_ratios`, `calibration_areas` and
        `calibration_curves`; docs/files.md has their columns. Where `false_positive_rate` is null,
        a row is about the fixed thresholds.
    """
    negatives = held_out_scores(matches, corpus)
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLE_COLUMNS}
    for comparison in comparisons(scored, negatives):
        # Curves are for all held-out rows alone: they take most of the time.
        drawn = comparison.headline and comparison.held_out.height > 0
        rates = CURVE_RATES if drawn else np.array(OPERATING_RATES)
        stream = "/".join(map(str, comparison.keys.values()))
        sides = populations(comparison, thresholds)
        found = calibrate(sides, rates, named_seed(seed, f"calibration/{stream}"), draws)
        tables["calibration"] += _rate_rows(comparison, found, rates, sides, thresholds)
        tables["calibration_ratios"] += _ratio_rows(comparison, found, rates)
        if comparison.held_out.height:
            tables["calibration_areas"] += _area_rows(comparison, found)
        if drawn:
            tables["calibration_curves"] += _curve_rows(comparison, found, rates)
    return {
        name: pl.DataFrame(rows, schema=_schema(name), orient="row")
        for name, rows in tables.items()
    }


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _points(rates: Array) -> list[tuple[int, float | None]]:
    """Places of the operating rates among `rates`, and of the fixed threshold: after the last."""
    places = [(int(np.flatnonzero(rates == rate)[0]), rate) for rate in OPERATING_RATES]
    return [*places, (len(rates), None)]


def _rate_rows(
    comparison: Comparison,
    found: Calibration,
    rates: Array,
    sides: Populations,
    thresholds: ThresholdSettings,
) -> Iterator[dict[str, Any]]:
    weights, n = comparison.weights, comparison.generations.height
    effective = effective_number(weights)
    fixed = fixed_hits(comparison.held_out, thresholds)
    for metric, operation in found.metrics.items():
        for at, rate in _points(rates):
            if rate is not None and metric not in _SCORED:
                continue
            threshold = (
                threshold_of(metric, thresholds) if rate is None else operation.threshold[at]
            )
            reached = bool(np.isfinite(threshold))
            row: dict[str, Any] = {
                **comparison.keys,
                "metric": metric,
                "false_positive_rate": rate,
                "threshold": float(threshold) if reached else None,
                "n": n,
                "hits": int(operation.hits[at]) if reached else None,
                **{
                    name: _number(values[at])
                    for name, values in zip(("rate", "low", "high"), operation.rate, strict=True)
                },
                "held_out_rows": len(weights),
                "held_out_effective": effective,
                "held_out_needed": None if rate is None else needed(weights, rate),
                "length_matched": comparison.matched,
            }
            if len(weights) and reached:
                beyond = fixed[metric] if rate is None else sides.held_out[metric] > threshold
                control = float(np.average(beyond, weights=weights))
                controls = wilson(control * effective, effective)
                reached_rate = Interval(*(values[at] for values in operation.rate))
                # At a calibrated threshold the interval of the rate is that at the true false
                # positive rate, which is what would be taken off.
                off = controls if rate is None else Interval(rate, rate, rate)
                for name, interval in (
                    ("control", controls),
                    ("excess", subtract(reached_rate, off)),
                ):
                    values = (float(value) for value in interval)
                    row |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
            yield row


def _ratio_rows(
    comparison: Comparison, found: Calibration, rates: Array
) -> Iterator[dict[str, Any]]:
    embedding = found.metrics["embedding"]
    for metric, interval in found.ratios.items():
        for at, rate in _points(rates):
            if rate is not None and metric not in _SCORED:
                continue
            operation = found.metrics[metric]
            # Neither metric may have found anything: the ratio is unknown, its bounds are not.
            if np.isnan(interval.low[at]):
                numbers = dict.fromkeys(("embedding_hits", "hits", "ratio", "low", "high"))
            else:
                numbers = {
                    "embedding_hits": int(embedding.hits[at]),
                    "hits": int(operation.hits[at]),
                    "ratio": float(interval.estimate[at]),
                    "low": float(interval.low[at]),
                    "high": float(interval.high[at]),
                }
            yield {
                **comparison.keys,
                "metric": metric,
                "false_positive_rate": rate,
                "n": comparison.generations.height,
                **numbers,
            }


def _area_rows(comparison: Comparison, found: Calibration) -> Iterator[dict[str, Any]]:
    for metric in _SCORED:
        area = found.metrics[metric].auc
        yield {
            **comparison.keys,
            "metric": metric,
            "n": comparison.generations.height,
            "held_out_rows": comparison.held_out.height,
            "auc": float(area.estimate),
            "low": float(area.low),
            "high": float(area.high),
        }


def _curve_rows(
    comparison: Comparison, found: Calibration, rates: Array
) -> Iterator[dict[str, Any]]:
    for metric in _SCORED:
        operation = found.metrics[metric]
        for at in np.flatnonzero(np.isfinite(operation.threshold)):
            yield {
                **comparison.keys,
                "metric": metric,
                "false_positive_rate": float(rates[at]),
                "threshold": float(operation.threshold[at]),
                "n": comparison.generations.height,
                "rate": float(operation.rate.estimate[at]),
                "low": float(operation.rate.low[at]),
                "high": float(operation.rate.high[at]),
            }


def headline_numbers(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The calibrated numbers that metrics.json and MLflow hold: all lengths, all held-out rows.

    Args:
        tables: from `calibration_tables`.

    Returns:
        Columns model, prefix, seed, part, reference, metric, and for each false positive rate
        threshold_at_fpr_0.01, rate_at_fpr_0.01, excess_at_fpr_0.01 (above it) and
        embedding_ratio_at_fpr_0.01; auc; and control, the share of held-out rows extracted at the
        fixed threshold. All but thresholds have _low and _high. Null where not known.
    """
    keys = [*KEYS, "metric"]
    chosen = {
        name: table.filter(held_out=ALL_HELD_OUT, length_band=ALL_LENGTHS)
        for name, table in tables.items()
    }
    fixed = chosen["calibration"].filter(pl.col("false_positive_rate").is_null())
    wide = fixed.select(*keys, "control", "control_low", "control_high")
    areas = chosen["calibration_areas"].select(*keys, "auc", auc_low="low", auc_high="high")
    wide = wide.join(areas, on=keys, how="left", maintain_order="left")
    for rate in OPERATING_RATES:
        at = f"at_fpr_{rate}"
        rates, ratios = (
            chosen[name].filter(false_positive_rate=rate)
            for name in ("calibration", "calibration_ratios")
        )
        numbers = {"rate": "rate", "rate_low": "low", "rate_high": "high", "threshold": "threshold"}
        numbers |= {name: name for name in ("excess", "excess_low", "excess_high")}
        rates = rates.select(*keys, **{_at(name, at): column for name, column in numbers.items()})
        numbers = {"ratio": "ratio", "ratio_low": "low", "ratio_high": "high"}
        ratios = ratios.select(
            *keys, **{_at(f"embedding_{name}", at): column for name, column in numbers.items()}
        )
        for more in (rates, ratios):
            wide = wide.join(more, on=keys, how="left", maintain_order="left")
    return wide


def _at(name: str, at: str) -> str:
    """`rate_low` at `at_fpr_0.01` is rate_at_fpr_0.01_low: ends stand last, as everywhere."""
    for end in ("_low", "_high"):
        if name.endswith(end):
            return f"{name.removesuffix(end)}_{at}{end}"
    return f"{name}_{at}"
