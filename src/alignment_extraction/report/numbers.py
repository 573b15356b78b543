"""The study's numbers for machines, headline.json and metrics.json, and for a model's card."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
import yaml

from alignment_extraction.report.headline import AT_RISK_SAMPLES, Headline, fixed
from alignment_extraction.report.rendering import render
from alignment_extraction.report.verdict import Verdict
from alignment_extraction.report.wording import estimate
from alignment_extraction.statistics import Interval

MOST_METRICS = 500
"""Numbers that metrics.json holds at most."""


def _known(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Estimates as three numbers, bounds as name_low and name_high; without what is unknown."""
    flat: dict[str, Any] = {}
    for name, value in numbers.items():
        values = value if isinstance(value, Interval) else (value,)
        flat |= {name + end: v for v, end in zip(values, ("", "_low", "_high"), strict=False)}
    return {
        name: value
        for name, value in flat.items()
        if isinstance(value, str) or (value is not None and math.isfinite(value))
    }


def _of_headline(own: Headline | None) -> dict[str, Any]:
    """The numbers of one model on the first screen; what is unknown is left out."""
    if own is None:
        return {}
    risk, never = own.risk, own.never
    return _known(
        {
            "model": own.model,
            "prefix": own.prefix,
            "generations": own.n,
            "rows": risk and risk.rows,
            "rows_at_risk": risk and risk.at_risk,
            "rows_at_risk_samples": risk and own.samples,
            "never_trained_rows": never and never.rows,
            "never_trained_at_risk": never and never.at_risk.estimate,
            "attributable_verbatim": own.rates.get("verbatim"),
            "attributable_semantic": own.rates.get("cosine"),
            "attributable_semantic_templates": own.template_rates.get("cosine"),
            "false_discovery_rate": own.false_discovery_rate,
            "expected_distinct": risk and risk.distinct,
            "observed_distinct": risk and risk.observed,
            "twins": own.twins or None,
        }
    )


def headline_numbers(verdict: Verdict) -> dict[str, Any]:
    """What headline.json holds: values of the first model."""
    placebo = verdict.placebo[0][2] if verdict.placebo else None
    own = _of_headline(verdict.first)
    return {"status": verdict.status, **own, **_known({"placebo_verbatim": placebo})}


def _entries(verdict: Verdict) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Paths with their numbers, what matters most first."""
    results, first = verdict.results, verdict.first.prefix if verdict.first else ""
    for own in verdict.headlines:
        yield ["headline", own.model], _of_headline(own)
    rates = fixed(results["attribution"]).sort(pl.col("prefix") != first, maintain_order=True)
    rates = rates.with_columns(pl.col("metric").replace("cosine", "semantic"))
    risk = results["risk"].filter(samples=AT_RISK_SAMPLES)
    shift = results["shift"].filter("template", per="question")
    membership = results["membership"].filter(pl.col("template").fill_null(True))
    for name, rows, path, value in (
        ("attribution", rates, "model prefix source level metric", "attributable"),
        ("exchangeability", results["exchangeability"], "source level", "auc"),
        ("risk", risk, "model source role", "at_risk"),
        ("shift", shift, "model base source target", "difference"),
        ("membership", membership, "model source target attack", "auc"),
        ("distillation", results["distillation"], "family arm benchmark measure", "value"),
    ):
        for row in rows.iter_rows(named=True):
            estimated = zip((value, "low", "high"), estimate(row, value), strict=True)
            yield [name, *(row[key] or "" for key in path.split())], _known(dict(estimated))


def metrics_numbers(verdict: Verdict) -> dict[str, Any]:
    """What metrics.json holds: nested by path, at most 500 values, whole estimates only."""
    nested: dict[str, Any] = {}
    left = MOST_METRICS
    for path, numbers in _entries(verdict):
        if len(numbers) <= left:
            left -= len(numbers)
            place = nested
            for folder in path:
                place = place.setdefault(folder, {})
            place.update(numbers)
    return nested


def model_card(verdict: Verdict, provenance: Mapping[str, str]) -> tuple[str, str]:
    """A block for the card of the first model: Markdown as the page says it, numbers as YAML."""
    about = {"study": verdict.settings["name"], "provenance": dict(provenance)}
    numbers = {"memorisation": _of_headline(verdict.first) | about}
    text = render("model_card.md", verdict=verdict, provenance=provenance)
    return text, yaml.safe_dump(numbers, sort_keys=False, allow_unicode=True)
