"""Which models the report speaks of, and their numbers: sources and seeds put together."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.report.tables import Results
from alignment_extraction.report.wording import Estimate

AT_RISK_SAMPLES = 10**6
"""Number of samples that rows at risk are counted for, where nobody asks for another."""
ENOUGH_TWINS = 100
"""Fewer twins than these support no comparison."""
FIELDS = ("question", "both", "answer")
"""Of a generation; the first that was searched is the report's."""
_NEVER = {"rows": "twin", "templates": "held-out"}


@dataclass(frozen=True)
class Headline:
    """What the report says of one model at one prefix.

    Attributes:
        model: name.
        prefix: name.
        n: generations, of all seeds.
        sources: those that the model was trained on.
        noun: what its rows are called: `training row`, or `row` where it was not trained on them.
        level: `rows`, `templates`, or None without anything to compare with.
        field: of the generations.
        rates: attributable rate of generations by metric, at the study's thresholds, at `level`.
        template_rates: the same at level `templates`, where `level` is `rows`.
        false_discovery_rate: of verbatim hits, or NaN.
        members: rows trained on that were compared.
        twins: never-trained rows that they were compared with.
        rows: rows trained on whose likelihood is known; 0 without likelihoods.
        at_risk: of them, those with a chance of at least 10 % to be written in `samples`.
        never_rows: never-trained rows whose likelihood is known.
        never_at_risk: of them, those at risk.
        samples: number of samples that rows are at risk in.
        distinct: expected distinct rows written in `samples`.
        observed: distinct rows seen in the samples drawn, or None.
        told_apart: sources whose members can be told from never-trained rows by text alone.
        untested: sources with too few never-trained rows for that test, with the rows needed.
    """

    model: str
    prefix: str
    n: int
    sources: tuple[str, ...]
    noun: str = "training row"
    level: str | None = None
    field: str = "question"
    rates: Mapping[str, Estimate] = dataclasses.field(default_factory=dict)
    template_rates: Mapping[str, Estimate] = dataclasses.field(default_factory=dict)
    false_discovery_rate: float = math.nan
    members: int = 0
    twins: int = 0
    rows: int = 0
    at_risk: Estimate | None = None
    never_rows: int = 0
    never_at_risk: Estimate | None = None
    samples: int = AT_RISK_SAMPLES
    distinct: Estimate | None = None
    observed: float | None = None
    told_apart: tuple[tuple[str, float], ...] = ()
    untested: tuple[tuple[str, int], ...] = ()

    @property
    def trained(self) -> bool:
        """Whether the model is known to be trained on the rows."""
        return self.noun == "training row"


def estimate(row: Mapping[str, Any], name: str, low: str = "low", high: str = "high") -> Estimate:
    """An estimate from a table's row; NaN stands for null."""
    values = (row[name], row[low], row[high])
    return Estimate(*(math.nan if value is None else float(value) for value in values))


def add(estimates: Sequence[Estimate]) -> Estimate:
    """The sum of independent estimates (variance estimates recovered, Zou and Donner 2008)."""
    values, lows, highs = np.array(estimates, np.float64).T
    below, above = (float(np.sqrt(np.square(values - ends).sum())) for ends in (lows, highs))
    total = float(values.sum())
    return Estimate(total, total - below, total + above)


def pool_seeds(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """One row for each of `keys`, over seeds.

    Rates are means weighted by the generations. So are their bounds: seeds share the coin that made
    members and twins, so that no interval gets narrower by more seeds than by one of them.

    Args:
        frame: with n, attributable, low, high.
        keys: columns that stay.
    """
    weight = pl.col("n") / pl.col("n").sum()
    rates = [(pl.col(name) * weight).sum().alias(name) for name in ("attributable", "low", "high")]
    most = [
        pl.col(name).max() for name in ("false_discovery_rate", "members", "twins") if name in frame
    ]
    # The sums come last: the weights are of the rows as they are.
    return frame.group_by(*keys, maintain_order=True).agg(*rates, *most, pl.col("n").sum())


def fixed(attribution: pl.DataFrame) -> pl.DataFrame:
    """The rows at the study's own thresholds, over seeds, of the report's field."""
    field_ = next((name for name in FIELDS if name in set(attribution["field"])), None)
    own = attribution.filter(
        (pl.col("at") == "fixed") & (pl.col("field").eq_missing(pl.lit(field_)))
    )
    keys = ["model", "prefix", "source", "level", "field", "metric", "trained"]
    return pool_seeds(own, keys)


def rate_of(rows: pl.DataFrame) -> Estimate | None:
    """The attributable rate of one metric over sources; None without any.

    Each source has a coin of its own, so its estimates are independent of the others'.
    """
    found = [estimate(row, "attributable") for row in rows.iter_rows(named=True)]
    return add(found) if found else None


def headline_models(results: Results, settings: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Which models the report is about: model, prefix and generations, in the study's order.

    Those that were trained on a source and have the most samples at the prefix that the study lists
    first; where none was trained on anything, all those with the most samples. Where nothing was
    compared, those whose rows' likelihoods are known, with an empty prefix and no generations.
    """
    attribution = results["attribution"]
    if attribution.is_empty():
        names = results["risk"]["model"].unique(maintain_order=True).to_list()
        trained_models = set(results["rows"].filter("trained")["model"])
        chosen = [name for name in names if name in trained_models] or names
        return [(name, "", 0) for name in _ordered(chosen, settings)]
    own = fixed(attribution)
    trained = own.filter("trained")
    own = own if trained.is_empty() else trained
    known = own["prefix"].unique(maintain_order=True).to_list()
    listed = [name for name in settings.get("prefixes", ()) if name in known]
    own = own.filter(prefix=(listed or known)[0])
    own = own.filter(pl.col("n") == pl.col("n").max())
    samples = dict(own.select("model", "n").iter_rows())
    names = _ordered(list(dict.fromkeys(own["model"])), settings)
    return [(name, own["prefix"][0], samples[name]) for name in names]


def _ordered(names: list[str], settings: Mapping[str, Any]) -> list[str]:
    order = {name: place for place, name in enumerate(settings.get("models", ()))}
    return sorted(names, key=lambda name: order.get(name, len(order)))


def risk_of(
    results: Results, model: str, sources: Sequence[str], samples: float, role: str
) -> tuple[int, Estimate, Estimate, float | None] | None:
    """Rows of a role, those at risk, distinct rows expected, and those seen, over sources.

    None where the likelihoods of no such row are known at that number of samples.
    """
    own = results["risk"].filter(
        pl.col("source").is_in(list(sources)), model=model, role=role, samples=float(samples)
    )
    if own.is_empty():
        return None
    rows = own.to_dicts()
    at_risk = add([estimate(row, "at_risk", "at_risk_low", "at_risk_high") for row in rows])
    distinct = add(
        [estimate(row, "expected_distinct", "distinct_low", "distinct_high") for row in rows]
    )
    seen = results["risk"].filter(
        pl.col("source").is_in(list(sources)) & pl.col("observed_distinct").is_not_null(),
        model=model,
        role=role,
    )
    last = seen.filter(pl.col("samples") == pl.col("samples").max())["observed_distinct"]
    return (
        sum(row["rows"] for row in rows),
        at_risk,
        distinct,
        float(sum(last)) if len(last) else None,
    )


def headline(
    results: Results, model: str, prefix: str, n: int, samples: int = AT_RISK_SAMPLES
) -> Headline:
    """The numbers of one model at one prefix.

    Args:
        results: the study's.
        model: name.
        prefix: name.
        n: its generations.
        samples: that rows are at risk in.
    """
    own = fixed(results["attribution"]).filter(model=model, prefix=prefix)
    trained = bool(own["trained"].any())
    own = own.filter("trained") if trained else own
    levels = [name for name in ("rows", "templates") if name in set(own["level"])]
    level = levels[0] if levels else None
    risk = results["risk"].filter(model=model)
    role = "member" if trained or "member" in set(risk["role"]) else "unknown"
    sources = tuple(own["source"].unique(maintain_order=True))
    if not levels:
        trained_rows = results["rows"].filter("trained", model=model)
        trained = trained_rows.height > 0
        own_rows = trained_rows if trained else risk.filter(role=role)
        sources = tuple(own_rows["source"].unique(maintain_order=True))
    rates = {name: _rates(own.filter(level=name)) for name in levels}
    compared = own.filter(level=level, metric=next(iter(rates[level]))) if level else own
    verbatim = own.filter(level=level, metric="verbatim") if level else own
    members = risk_of(results, model, sources, samples, role)
    never = risk_of(results, model, sources, samples, _NEVER[level or "rows"]) or risk_of(
        results, model, sources, samples, "held-out"
    )
    tested = results["exchangeability"].filter(
        pl.col("source").is_in(list(sources)) & (pl.col("level") == (level or "rows"))
    )
    apart = tested.filter(verdict="told apart").select("source", "auc")
    few = tested.filter(verdict="too few").select(
        "source", pl.col("needed").fill_null(ENOUGH_TWINS)
    )
    return Headline(
        model=model,
        prefix=prefix,
        n=n,
        sources=sources,
        noun="training row" if trained else "row",
        level=level,
        field=own["field"][0] if level else "question",
        rates=rates.get(level or "", {}),
        template_rates=rates.get("templates", {}) if level == "rows" else {},
        false_discovery_rate=_worst(verbatim["false_discovery_rate"]),
        members=int(compared["members"].sum()),
        twins=int(compared["twins"].sum()),
        rows=members[0] if members else 0,
        at_risk=members[1] if members else None,
        never_rows=never[0] if never else 0,
        never_at_risk=never[1] if never else None,
        samples=samples,
        distinct=members[2] if members else None,
        observed=members[3] if members else None,
        told_apart=tuple(apart.iter_rows()),
        untested=tuple(few.iter_rows()),
    )


def _rates(rows: pl.DataFrame) -> dict[str, Estimate]:
    """The attributable rate by metric, sources summed up."""
    groups = rows.partition_by("metric", as_dict=True, maintain_order=True)
    found = {str(name): rate_of(group) for (name,), group in groups.items()}
    return {name: rate for name, rate in found.items() if rate is not None}


def _worst(values: pl.Series) -> float:
    known = values.drop_nulls()
    return float(known.to_numpy().max()) if len(known) else math.nan
