"""The study's numbers for machines: headline.json and metrics.json."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from alignment_extraction.report.headline import Headline, fixed
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import Verdict
from alignment_extraction.report.wording import Estimate

MOST_HEADLINE, MOST_METRICS = 30, 500
"""Numbers that headline.json and metrics.json hold at most."""

_METRIC_NAMES = {"verbatim": "verbatim", "cosine": "semantic"}


def _put(into: dict[str, Any], name: str, value: Estimate | float | None) -> None:
    """A number under its name, an estimate's bounds under name_low and name_high; no NaN."""
    values = value if isinstance(value, Estimate) else (value,)
    for number, end in zip(values, ("", "_low", "_high"), strict=False):
        if number is not None and math.isfinite(number):
            into[name + end] = number


def of_headline(own: Headline) -> dict[str, Any]:
    """The numbers of one model on the first screen; what is unknown is left out."""
    numbers: dict[str, Any] = {"model": own.model, "prefix": own.prefix}
    _put(numbers, "generations", own.n)
    _put(numbers, "rows", own.rows or None)
    _put(numbers, "rows_at_risk", own.at_risk)
    _put(numbers, "rows_at_risk_samples", own.samples if own.at_risk else None)
    _put(numbers, "never_trained_rows", own.never_rows or None)
    _put(numbers, "never_trained_at_risk", own.never_at_risk and own.never_at_risk.value)
    for metric, name in _METRIC_NAMES.items():
        _put(numbers, f"attributable_{name}", own.rates.get(metric))
    _put(numbers, "attributable_semantic_templates", own.template_rates.get("cosine"))
    _put(numbers, "false_discovery_rate", own.false_discovery_rate)
    _put(numbers, "expected_distinct", own.distinct)
    _put(numbers, "observed_distinct", own.observed)
    _put(numbers, "twins", own.twins or None)
    return numbers


def headline_numbers(verdict: Verdict) -> dict[str, Any]:
    """What headline.json holds: at most 30 values, of the first model."""
    numbers: dict[str, Any] = {"status": verdict.status}
    if verdict.first is not None:
        numbers |= of_headline(verdict.first)
    if verdict.placebo:
        _put(numbers, "placebo_verbatim", verdict.placebo[0][2])
    return numbers


def _interval(row: Mapping[str, Any], name: str) -> dict[str, float]:
    numbers = {name: row[name], "low": row["low"], "high": row["high"]}
    return {key: value for key, value in numbers.items() if value is not None}


def _entries(results: Results, verdict: Verdict) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths with their numbers, what matters most first."""
    for own in verdict.headlines:
        yield f"headline/{own.model}", of_headline(own)
    first = verdict.first.prefix if verdict.first else ""
    rates = fixed(results["attribution"]).with_columns(
        later=pl.col("prefix") != first, metric=pl.col("metric").replace("cosine", "semantic")
    )
    for row in rates.sort("later", maintain_order=True).iter_rows(named=True):
        path = "/".join(row[key] for key in ("model", "prefix", "source", "level", "metric"))
        yield f"attribution/{path}", _interval(row, "attributable")
    for row in results["exchangeability"].iter_rows(named=True):
        yield f"exchangeability/{row['source']}/{row['level']}", _interval(row, "auc")
    for row in results["risk"].filter(samples=1e6).iter_rows(named=True):
        ends = {"low": row["at_risk_low"], "high": row["at_risk_high"]}
        path = f"risk/{row['model']}/{row['source']}/{row['role']}"
        yield path, _interval({**row, **ends}, "at_risk")
    for row in results["shift"].filter("template", per="question").iter_rows(named=True):
        path = "/".join(row[key] for key in ("model", "base", "source", "target"))
        yield f"shift/{path}", _interval(row, "difference")
    for row in (
        results["membership"].filter(pl.col("template").fill_null(True)).iter_rows(named=True)
    ):
        path = "/".join(row[key] or "" for key in ("model", "source", "target", "attack"))
        yield f"membership/{path}", _interval(row, "auc")
    for row in results["distillation"].iter_rows(named=True):
        path = "/".join(row[key] for key in ("family", "arm", "benchmark", "measure"))
        ends = {"low": row["value_low"], "high": row["value_high"]}
        yield f"distillation/{path}", _interval({**row, **ends}, "value")


def metrics_numbers(results: Results, verdict: Verdict) -> dict[str, Any]:
    """What metrics.json holds: nested by path, at most 500 values, whole estimates only."""
    nested: dict[str, Any] = {}
    left = MOST_METRICS
    for path, numbers in _entries(results, verdict):
        if len(numbers) > left:
            continue
        left -= len(numbers)
        *folders, last = path.split("/")
        place = nested
        for folder in folders:
            place = place.setdefault(folder, {})
        place.setdefault(last, {}).update(numbers)
    return nested
