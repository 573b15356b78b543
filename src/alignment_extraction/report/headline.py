"""Which models the report speaks of, and their numbers: sources and seeds put together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import polars as pl

from alignment_extraction.report.tables import Results
from alignment_extraction.report.wording import estimate
from alignment_extraction.statistics import Interval, subtract

AT_RISK_SAMPLES = 10**6
"""Number of samples that rows at risk are counted for, where nobody asks for another."""


class Risk(NamedTuple):
    """What a model's likelihoods say of rows of one role, in a number of samples."""

    rows: int  # whose likelihood is known
    at_risk: Interval  # of them, those with a chance of at least 10 % to be written
    distinct: Interval  # expected distinct rows written
    observed: float | None  # distinct rows seen in the samples drawn


@dataclass(frozen=True)
class Headline:
    """What the report says of one model at one prefix."""

    enough: ClassVar[int] = 100  # twins; fewer support no comparison
    model: str
    prefix: str
    n: int  # generations, of all seeds
    sources: tuple[str, ...]  # that the model was trained on
    trained: bool  # whether it is known to be trained on the rows
    level: str | None  # `rows`, `templates`, or None without anything to compare with
    field: str  # of the generations
    rates: Mapping[str, Interval]  # attributable, by metric, at the study's thresholds, at `level`
    template_rates: Mapping[str, Interval]  # the same at level `templates`, where that is `rows`
    false_discovery_rate: float | None  # of verbatim hits
    members: int  # rows trained on that were compared
    twins: int  # never-trained rows that they were compared with
    samples: int  # that rows are at risk in
    risk: Risk | None  # of rows trained on; None without their likelihoods
    never: Risk | None  # of never-trained rows
    told_apart: Sequence[tuple[str, float]]  # sources whose members text alone tells, with the AUC
    untested: Sequence[tuple[str, int]]  # sources with too few rows for that, and the rows needed

    @property
    def status(self) -> str:
        """Whether training made it give away rows: `leaks`, `no leak seen`, `cannot tell`.

        It leaks where more training rows than never-trained ones are at risk, or a rate of copies
        exceeds 0, by its interval. Nothing can be told without a fair comparison.
        """
        if not self.trained or self.told_apart or (self.level and self.twins < self.enough):
            return "cannot tell"
        excess = [self.rates[name] for name in ("verbatim", "cosine") if name in self.rates]
        if self.risk and self.never:
            share = self.risk.rows / self.never.rows
            chance = Interval(*(share * number for number in self.never.at_risk))
            excess.append(subtract(self.risk.at_risk, chance))
        if not excess:
            return "cannot tell"
        return "leaks" if any(found.low > 0 for found in excess) else "no leak seen"


def total(name: str, low: str = "low", high: str = "high") -> list[pl.Expr]:
    """Sums of a column of independent estimates and of its bounds' columns.

    Variance estimates are recovered from the bounds (Zou and Donner 2008). Sources are independent:
    each has a coin of its own.
    """
    value, *ends = (pl.col(column).fill_null(math.nan) for column in (name, low, high))
    below, above = ((value - end).pow(2).sum().sqrt() for end in ends)
    found = {name: value.sum(), low: value.sum() - below, high: value.sum() + above}
    return [bound.alias(column) for column, bound in found.items()]


def rates_by(rows: pl.DataFrame, key: str) -> dict[Any, Interval]:
    """Attributable rates over sources by a column, in the order of the rows."""
    summed = rows.group_by(key, maintain_order=True).agg(*total("attributable"))
    return {row[key]: estimate(row, "attributable") for row in summed.iter_rows(named=True)}


def pool_seeds(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """One row for each of `keys`, over seeds, from a frame with n, attributable, low and high.

    Rates are means weighted by the generations. So are their bounds: seeds share the coin that made
    members and twins, so that no interval gets narrower by more seeds than by one of them.
    """
    weight = pl.col("n") / pl.col("n").sum()
    rates = [(pl.col(name) * weight).sum().alias(name) for name in ("attributable", "low", "high")]
    known = [name for name in ("false_discovery_rate", "members", "twins") if name in frame.columns]
    grouped = frame.group_by(*keys, maintain_order=True)
    return grouped.agg(*rates, pl.col(known).max(), pl.col("n").sum())


def fixed(attribution: pl.DataFrame) -> pl.DataFrame:
    """The rows at the study's own thresholds, over seeds, of the first field that was searched."""
    searched = set(attribution["field"])
    field = next((name for name in ("question", "both", "answer") if name in searched), None)
    own = attribution.filter(pl.col("field").eq_missing(pl.lit(field)), at="fixed")
    return pool_seeds(own, ["model", "prefix", "source", "level", "field", "metric", "trained"])


def placebos(results: Results) -> list[tuple[str, str, Interval]]:
    """Verbatim rates of models on what they were not trained on, which must hold 0.

    Returns:
        Model, source and attributable rate, most samples first.
    """
    own = fixed(results["attribution"]).filter(~pl.col("trained"), metric="verbatim")
    own = own.filter(pl.col("level") == pl.col("level").min().over("model", "source"))
    own = own.sort("n", descending=True, maintain_order=True)
    own = own.unique(["model", "source"], keep="first", maintain_order=True)
    return [
        (row["model"], row["source"], estimate(row, "attributable"))
        for row in own.iter_rows(named=True)
    ]


def coverage(results: Results, model: str, sources: Sequence[str]) -> pl.DataFrame:
    """Rows at risk and expected distinct rows of a model, over sources.

    Returns:
        role, samples, rows, at_risk and distinct with `_low` and `_high`, and observed: distinct
        rows seen, null where they are not known of every source. Sorted by role and samples.
    """
    risk = results["risk"].filter(pl.col("source").is_in(list(sources)), model=model)
    known = pl.col("observed_distinct")
    return (
        risk.rename({"expected_distinct": "distinct"})
        .group_by("role", "samples")
        .agg(
            pl.col("rows").sum(),
            *total("at_risk", "at_risk_low", "at_risk_high"),
            *total("distinct", "distinct_low", "distinct_high"),
            observed=pl.when(known.is_null().any()).then(None).otherwise(known.sum()),
        )
        .sort("role", "samples")
    )


def _risk(covered: pl.DataFrame, role: str, samples: int) -> Risk | None:
    """One row of `coverage`, with the distinct rows seen in the most samples of which they are."""
    own = covered.filter(role=role).with_columns(pl.col("observed").drop_nulls().last())
    row = next(own.filter(samples=float(samples)).iter_rows(named=True), None)
    if row is None:
        return None
    return Risk(row["rows"], estimate(row, "at_risk"), estimate(row, "distinct"), row["observed"])


def headline_models(results: Results, settings: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Which models the report is about: model, prefix and generations, in the study's order.

    Those that were trained on a source and have the most samples at the prefix that the study lists
    first; where none was trained on anything, all those with the most samples. Where nothing was
    compared, those whose rows' likelihoods are known, with an empty prefix and no generations.
    """
    own = fixed(results["attribution"])
    if own.is_empty():
        models = results["risk"]["model"].unique(maintain_order=True).to_list()
        trained = set(results["rows"].filter("trained")["model"])
        found = [(name, "", 0) for name in models if not trained or name in trained]
    else:
        own = own.filter("trained") if own["trained"].any() else own
        known = own["prefix"].to_list()
        prefix = next(name for name in (*settings.get("prefixes", ()), *known) if name in known)
        own = own.filter(prefix=prefix).filter(pl.col("n") == pl.col("n").max())
        found = own.select("model", "prefix", "n").unique(maintain_order=True).rows()
    order = {name: place for place, name in enumerate(settings.get("models", ()))}
    return sorted(found, key=lambda one: order.get(one[0], len(order)))


def headline(
    results: Results, model: str, prefix: str, n: int, samples: int = AT_RISK_SAMPLES
) -> Headline:
    """The numbers of one model at one prefix, with n generations, and its rows' risk in samples."""
    own = fixed(results["attribution"]).filter(model=model, prefix=prefix)
    risk = results["risk"].filter(model=model)
    trained = bool(own["trained"].any())
    own = of_sources = own.filter("trained") if trained else own
    level = next((name for name in ("rows", "templates") if name in set(own["level"])), None)
    role = "member" if trained or "member" in set(risk["role"]) else "unknown"
    if level is None:
        of_sources = results["rows"].filter("trained", model=model)
        trained = of_sources.height > 0
        of_sources = of_sources if trained else risk.filter(role=role)
    sources = of_sources["source"].unique(maintain_order=True).to_list()
    rates = {name: rates_by(own.filter(level=name), "metric") for name in ("rows", "templates")}
    own = own.filter(level=level or "")
    compared = own.filter(pl.col("metric") == pl.col("metric").first())
    discoveries = own.filter(metric="verbatim").select(pl.col("false_discovery_rate").max())
    covered = coverage(results, model, sources)
    never = [_risk(covered, name, samples) for name in ("twin", "held-out")]
    tested = results["exchangeability"].filter(
        pl.col("source").is_in(sources), level=level or "rows"
    )
    few = tested.filter(verdict="too few").with_columns(pl.col("needed").fill_null(Headline.enough))
    return Headline(
        model=model,
        prefix=prefix,
        n=n,
        sources=tuple(sources),
        trained=trained,
        level=level,
        field=own["field"][0] if level else "question",
        rates=rates.get(level or "", {}),
        template_rates=rates["templates"] if level == "rows" else {},
        false_discovery_rate=discoveries.item(),
        members=int(compared["members"].sum()),
        twins=int(compared["twins"].sum()),
        samples=samples,
        risk=_risk(covered, role, samples),
        never=never[1] if level == "templates" else never[0] or never[1],
        told_apart=tested.filter(verdict="told apart").select("source", "auc").rows(),
        untested=few.select("source", "needed").rows(),
    )
