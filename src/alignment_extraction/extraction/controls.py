"""Controls: what an extraction rate is held against, and the difference.

- `model`: another model at the same prefix, which never saw the corpus, or not yet;
- `corpus`: the same generations against an unrelated corpus;
- `held-out rows`: corpus rows that no model was trained on, searched as if a model had written
  them;
- `prefix`: the same model at other prefixes. These show what the prefix adds; a model that leaks
  without its template leaks as well, so they are no measure of coincidence.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from alignment_extraction.extraction.scores import METRICS, is_hit, rates, threshold_of
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


def controls(
    scored: pl.DataFrame,
    held_out: pl.DataFrame,
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

    Differences carry Newcombe's interval (`statistics.subtract`), which takes both sides as
    independent samples. The control is searched as the target is; `strongest` marks, among those
    that measure coincidence, the one with the highest rate: of several the best measured, with the
    highest n. Choosing it after the fact makes the difference, if anything, too small.

    Args:
        scored: from `results.score`.
        held_out: `held_out.held_out_scores`.
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
    negatives = held_out.filter(part=part, reference=reference)
    rows: list[dict[str, Any]] = []
    for cell in cells:
        for metric in METRICS:
            own = _counts(table, cell, metric)
            if own is None:
                continue
            found = [
                *_others(table, cell, metric, models, prefixes),
                *_counted("corpus", corpus, searched.get(cell), metric, thresholds),
                *_counted("held-out rows", "role:held-out", negatives, metric, thresholds),
            ]
            keys = {**cell._asdict(), "part": part, "reference": reference, "metric": metric}
            rows += [{**keys, **row} for row in _against(own, found)]
    return pl.DataFrame(rows, schema=SCHEMA)


def _counts(table: pl.DataFrame, cell: Cell, metric: str) -> tuple[int, int] | None:
    rows = table.filter(**cell._asdict(), metric=metric)
    return (int(rows["hits"][0]), int(rows["n"][0])) if rows.height else None


def _others(
    table: pl.DataFrame,
    cell: Cell,
    metric: str,
    models: Sequence[str],
    prefixes: Sequence[str],
) -> Iterator[tuple[str, str, int, int]]:
    """Kind, name, hits and n of the other cells of one seed that are controls of `cell`."""
    own = table.filter(metric=metric, seed=cell.seed)
    for row in own.iter_rows(named=True):
        if row["model"] in models and cell.model not in models and row["prefix"] == cell.prefix:
            yield "model", row["model"], row["hits"], row["n"]
    for row in own.iter_rows(named=True):
        other = row["prefix"] in prefixes and row["prefix"] != cell.prefix
        if row["model"] == cell.model and other:
            yield "prefix", row["prefix"], row["hits"], row["n"]


def _counted(
    kind: str,
    name: str | None,
    frame: pl.DataFrame | None,
    metric: str,
    thresholds: ThresholdSettings,
) -> Iterator[tuple[str, str, int, int]]:
    if frame is not None and frame.height:
        hits = frame.select(is_hit(metric, threshold_of(metric, thresholds)).sum()).item()
        yield kind, str(name), int(hits), frame.height


def _against(
    own: tuple[int, int], found: list[tuple[str, str, int, int]]
) -> Iterator[dict[str, Any]]:
    rate = wilson(*own)
    sides = [wilson(hits, n) for _, _, hits, n in found]
    chance = [
        (float(side.estimate), control[3], -place)
        for place, (side, control) in enumerate(zip(sides, found, strict=True))
        if control[0] in COINCIDENCE
    ]
    strongest = -max(chance)[2] if chance else None
    for place, (side, (kind, name, hits, n)) in enumerate(zip(sides, found, strict=True)):
        yield {
            "kind": kind,
            "control": name,
            "n": own[1],
            "hits": own[0],
            **_ends("", rate, "rate"),
            "control_n": n,
            "control_hits": hits,
            **_ends("control_", side, "control_rate"),
            **_ends("difference_", subtract(rate, side), "difference"),
            "strongest": place == strongest,
        }


def _ends(prefix: str, interval: Interval, name: str) -> dict[str, float]:
    values = (interval.estimate, interval.low, interval.high)
    names = (name, f"{prefix}low", f"{prefix}high")
    return {key: float(value) for key, value in zip(names, values, strict=True)}
