"""Controls: what an extraction rate is held against, and the difference.

- `model`: another model at the same prefix, which never saw the corpus, or not yet;
- `corpus`: the same generations against an unrelated corpus;
- `held-out rows`: corpus rows that no model was trained on, searched as if a model had written
  them, and weighted so that their lengths are distributed as those of the generations;
- `prefix`: the same model at other prefixes. These show what the prefix adds; a model that leaks
  without its template leaks as well, so they are no measure of coincidence.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from alignment_extraction.extraction.scores import METRICS, is_hit, rates, threshold_of
from alignment_extraction.search.held_out import ALL_HELD_OUT, ALL_LENGTHS
from alignment_extraction.search.matching import SUSPECTED_ROLES
from alignment_extraction.settings.studies import Cell, ThresholdSettings
from alignment_extraction.statistics import Interval, subtract, wilson

COINCIDENCE = ("model", "corpus", "held-out rows")
"""Kinds of controls that measure coincidence: the headline is the rate above the highest."""

SCHEMA: dict[str, Any] = {
    "model": pl.String,
    "prefix": pl.String,
    "seed": pl.Int64,
    "part": pl.String,
    "reference": pl.String,
    "metric": pl.String,
    "kind": pl.String,
    "control": pl.String,
    "n": pl.Int64,
    "hits": pl.Int64,
    "rate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "control_n": pl.Int64,
    "control_hits": pl.Int64,
    "control_rate": pl.Float64,
    "control_low": pl.Float64,
    "control_high": pl.Float64,
    "difference": pl.Float64,
    "difference_low": pl.Float64,
    "difference_high": pl.Float64,
    "strongest": pl.Boolean,
}
"""A row for each of the most sampled cells x metric x control."""


class Side(NamedTuple):
    """A control, and what of it was extracted."""

    kind: str
    name: str
    n: int
    hits: int | None
    """None where the rate is a weighted mean."""
    rate: Interval


def controls(
    scored: pl.DataFrame,
    calibrated: pl.DataFrame,
    searched: Mapping[Cell, pl.DataFrame],
    *,
    cells: Sequence[Cell],
    part: str,
    models: Sequence[str],
    prefixes: Sequence[str],
    corpus: str | None,
    thresholds: ThresholdSettings,
) -> pl.DataFrame:
    """Hold the rates of the most sampled cells against every control.

    The interval of a target's rate is the bootstrap's by matched item: many generations hit one
    item. Those of the controls are Wilson's; of differences see `statistics.subtract`, which takes
    both sides as independent samples. The control is searched as the target is; `strongest` marks,
    among those that measure coincidence, the one with the highest rate: of several the best
    measured, with the highest n. Choosing it after the fact makes the difference, if anything, too
    small.

    Args:
        scored: from `results.score`.
        calibrated: the table `calibration`; its rows at the fixed thresholds are read.
        searched: `search.evidence.match_control` of each cell; none without an unrelated corpus.
        cells: whose rates are the targets.
        part: of the generations.
        models: the control models; a target that is one of them has no model as its control.
        prefixes: the study's; cells of other settings after the same prefix are no controls.
        corpus: name of the unrelated corpus.
        thresholds: from which score on a generation counts as extracted.

    Returns:
        Columns of `SCHEMA`.
    """
    of_part = scored.filter(part=part)
    known = set(of_part["reference"])
    reference = next((f"role:{role}" for role in SUSPECTED_ROLES if f"role:{role}" in known), None)
    if reference is None:
        return pl.DataFrame(schema=SCHEMA)
    table = rates(of_part.filter(reference=reference), thresholds)
    fixed = calibrated.filter(
        pl.col("false_positive_rate").is_null(),
        pl.col("held_out").is_null() | pl.col("held_out").eq(ALL_HELD_OUT),
        part=part,
        length_band=ALL_LENGTHS,
        reference=reference,
    )
    rows: list[dict[str, Any]] = []
    for cell in cells:
        for metric in METRICS:
            own = fixed.filter(**cell._asdict(), metric=metric)
            if own.is_empty():
                continue
            target = own.row(0, named=True)
            found = [
                *_others(table, cell, metric, models, prefixes),
                *_unrelated(corpus, searched.get(cell), metric, thresholds),
                *_held_out(target),
            ]
            keys = {**cell._asdict(), "part": part, "reference": reference, "metric": metric}
            rows += [{**keys, **row} for row in _against(target, found)]
    return pl.DataFrame(rows, schema=SCHEMA)


def _others(
    table: pl.DataFrame,
    cell: Cell,
    metric: str,
    models: Sequence[str],
    prefixes: Sequence[str],
) -> Iterator[Side]:
    """The other cells of one seed that are controls of `cell`."""
    own = table.filter(metric=metric, seed=cell.seed)
    kinds: dict[str, list[Side]] = {"model": [], "prefix": []}
    for row in own.iter_rows(named=True):
        rate = wilson(row["hits"], row["n"])
        if row["model"] in models and cell.model not in models and row["prefix"] == cell.prefix:
            kinds["model"].append(Side("model", row["model"], row["n"], row["hits"], rate))
        other = row["prefix"] in prefixes and row["prefix"] != cell.prefix
        if row["model"] == cell.model and other:
            kinds["prefix"].append(Side("prefix", row["prefix"], row["n"], row["hits"], rate))
    yield from kinds["model"] + kinds["prefix"]


def _unrelated(
    name: str | None, frame: pl.DataFrame | None, metric: str, thresholds: ThresholdSettings
) -> Iterator[Side]:
    if frame is not None and frame.height:
        hits = int(frame.select(is_hit(metric, threshold_of(metric, thresholds)).sum()).item())
        yield Side("corpus", str(name), frame.height, hits, wilson(hits, frame.height))


def _held_out(target: Mapping[str, Any]) -> Iterator[Side]:
    if target["held_out"] is not None and target["control"] is not None:
        rate = Interval(target["control"], target["control_low"], target["control_high"])
        yield Side("held-out rows", ALL_HELD_OUT, target["held_out_rows"], None, rate)


def _against(target: Mapping[str, Any], found: Sequence[Side]) -> Iterator[dict[str, Any]]:
    rate = Interval(target["rate"], target["low"], target["high"])
    chance = [
        (float(side.rate.estimate), side.n, -place)
        for place, side in enumerate(found)
        if side.kind in COINCIDENCE
    ]
    strongest = -max(chance)[2] if chance else None
    for place, side in enumerate(found):
        yield {
            "kind": side.kind,
            "control": side.name,
            "n": target["n"],
            "hits": target["hits"],
            **_ends("", rate, "rate"),
            "control_n": side.n,
            "control_hits": side.hits,
            **_ends("control_", side.rate, "control_rate"),
            **_ends("difference_", subtract(rate, side.rate), "difference"),
            "strongest": place == strongest,
        }


def _ends(prefix: str, interval: Interval, name: str) -> dict[str, float]:
    values = (interval.estimate, interval.low, interval.high)
    names = (name, f"{prefix}low", f"{prefix}high")
    return {key: float(value) for key, value in zip(names, values, strict=True)}
