"""Attributable rates: member wins less twin wins, with their interval and false discovery rate."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from alignment_extraction.attribution import contests as of_contests
from alignment_extraction.attribution.contests import TOLERANCE, Contest, Wins
from alignment_extraction.attribution.intervals import (
    Spread,
    generation_margins,
    margins,
    spread,
)
from alignment_extraction.attribution.levels import Comparison, comparisons, relabelled
from alignment_extraction.statistics import named_seed
from alignment_extraction.vocabulary import METRICS

Array = np.ndarray[Any, Any]

DISCOVERY_RATES = {"fdr-1": 0.01, "fdr-5": 0.05}
"""False discovery rates whose thresholds are looked for."""

_ENTRIES = 8_000_000  # of the arrays that blocks are counted in

SCHEMA = pl.Schema(
    {
        "model": pl.String(),
        "prefix": pl.String(),
        "seed": pl.Int64(),
        "trained": pl.Boolean(),
        "source": pl.String(),
        "level": pl.String(),
        "field": pl.String(),
        "metric": pl.String(),
        "at": pl.String(),
        "threshold": pl.Float64(),
        "n": pl.Int64(),
        "member_wins": pl.Float64(),
        "twin_wins": pl.Float64(),
        "predicted": pl.Float64(),
        "attributable": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "member_blocks": pl.Float64(),
        "twin_blocks": pl.Float64(),
        "false_discovery_rate": pl.Float64(),
        "members": pl.Int64(),
        "twins": pl.Int64(),
        "blocks": pl.Int64(),
    }
)
"""Columns of `attribution`."""

ORDER = ("model", "prefix", "seed", "source", "level", "field")


class Thresholds(NamedTuple):
    """From which score on a generation counts as a hit.

    Attributes:
        semantic: cosine similarity.
        string: Levenshtein and Indel similarity.
        start, stop, points: the grid that is swept, both ends included.
    """

    semantic: float = 0.95
    string: float = 0.9
    start: float = 0.5
    stop: float = 1.0
    points: int = 51

    def fixed(self, metric: str) -> float:
        """The fixed threshold of a metric; equality is a score of 1."""
        key = METRICS[metric].threshold
        return 1.0 if key is None else float(getattr(self, key))

    def sweep(self, metric: str) -> Array:
        """The grid of a metric; none for equality."""
        if METRICS[metric].threshold is None:
            return np.empty(0)
        return np.linspace(self.start, self.stop, self.points)


class Tally(NamedTuple):
    """Wins at some thresholds; float64 arrays of shape (thresholds,).

    Attributes:
        members: wins of member rows.
        twins: wins of twins.
        predicted: what is taken off their difference because the base model predicts it.
        spread: of members - weight * twins - predicted.
    """

    members: Array
    twins: Array
    predicted: Array
    spread: Spread


class Chance(NamedTuple):
    """What a base model predicts of each block; float64 arrays of shape (blocks,).

    Attributes:
        signed: chance of its member rows less weight times that of its twins.
        size: variance of that many wins, up to a factor: both chances added, the twins' with the
            weight's square.
    """

    signed: Array
    size: Array


def chance(comparison: Comparison, base: pl.DataFrame | None) -> Chance | None:
    """The chances of the blocks under the base model.

    Args:
        comparison: members and twins.
        base: columns id and base_log_probability (nats; null and rows left out: no chance).
    """
    if base is None:
        return None
    known = pl.DataFrame({"id": comparison.ids}).join(
        base.select("id", "base_log_probability"), on="id", how="left", maintain_order="left"
    )
    rows = known["base_log_probability"].exp().fill_null(0.0).to_numpy()
    weight, block = comparison.weight, comparison.block
    signed = np.bincount(block, np.where(comparison.member, rows, -weight * rows))
    size = np.bincount(block, np.where(comparison.member, rows, weight**2 * rows))
    return Chance(signed, size)


def block_values(found: Wins, comparison: Comparison, thresholds: Array, blocks: Array) -> Array:
    """Member wins less weight times twin wins of each block, counted at each threshold.

    Args:
        found: wins by one metric.
        comparison: members and twins.
        thresholds: rising, shape (thresholds,).
        blocks: sorted numbers of the blocks asked for; wins elsewhere are left out.

    Returns:
        Float64, shape (blocks asked for, thresholds).
    """
    reached = np.searchsorted(thresholds, found.score + TOLERANCE, side="right")
    block = comparison.block[found.row]
    place = np.minimum(np.searchsorted(blocks, block), max(len(blocks) - 1, 0))
    counted = (reached > 0) & (blocks[place] == block if len(blocks) else False)
    signed = found.weight * np.where(found.member, 1.0, -comparison.weight)
    size = len(blocks) * len(thresholds)
    cells = place[counted] * len(thresholds) + reached[counted] - 1
    values = np.bincount(cells, signed[counted], size).reshape(len(blocks), len(thresholds))
    # A win at one threshold is one at every lower one.
    totals: Array = values[:, ::-1].cumsum(axis=1)[:, ::-1]
    return totals


def blocks_with_values(found: Wins, comparison: Comparison, base: Chance | None) -> Array:
    """Sorted numbers of the blocks that have a win, or a chance under the base model."""
    hit = np.zeros(comparison.blocks, bool)
    hit[comparison.block[found.row]] = True
    if base is not None:
        hit |= base.size > 0
    return np.flatnonzero(hit)


def tally(
    found: Wins, comparison: Comparison, thresholds: Array, base: Chance | None = None
) -> Tally:
    """Count the wins at each threshold, and how far their difference may be off.

    The base model's chances are a control variate: the coin makes the expected difference of
    chances 0, so that a multiple of it can be taken off without bias. For each block the multiple
    is fitted on the others (least squares through 0, weighted by one over the blocks' chances).

    Args:
        found: wins by one metric.
        comparison: members and twins.
        thresholds: rising, shape (thresholds,).
        base: of the blocks, from `chance`; None takes nothing off.
    """
    members, twins = (
        _reaching(found.where(found.member == member), thresholds) for member in (True, False)
    )
    strata = comparison.strata()
    sizes = np.bincount(strata, minlength=3)
    counted = found.score >= thresholds.min(initial=np.inf) - TOLERANCE
    blocks = blocks_with_values(found.where(counted), comparison, base)
    step = max(1, _ENTRIES // max(1, len(blocks)))
    predicted, parts = [], []
    for start in range(0, len(thresholds), step):
        values = block_values(found, comparison, thresholds[start : start + step], blocks)
        left = residuals(values, base, blocks)
        predicted.append(values.sum(axis=0) - left.sum(axis=0))
        parts.append(spread(left, strata[blocks], sizes))
    variance, freedom = (np.concatenate([*(part[which] for part in parts), []]) for which in (0, 1))
    return Tally(members, twins, np.concatenate([*predicted, []]), Spread(variance, freedom))


def _reaching(found: Wins, thresholds: Array) -> Array:
    """Weight of the wins at or above each threshold."""
    reached = np.searchsorted(thresholds, found.score + TOLERANCE, side="right")
    counts = np.bincount(reached, found.weight, len(thresholds) + 1)[1:]
    totals: Array = counts[::-1].cumsum()[::-1]
    return totals


def residuals(values: Array, base: Chance | None, blocks: Array) -> Array:
    """The blocks' values less what the base model predicts, fitted on the other blocks.

    Args:
        values: from `block_values`.
        base: chances; None predicts nothing.
        blocks: numbers of the blocks.
    """
    largest = 0.0 if base is None else base.size.max(initial=0.0)
    if base is None or largest == 0:
        return values
    signed, size = base.signed[blocks] / largest, base.size[blocks] / largest
    share = np.divide(signed, size, out=np.zeros_like(signed), where=size > 0)
    cross, square = share[:, None] * values, share * signed
    others = square.sum() - square
    known = others > 1e-9 * square.sum()
    slope = np.where(
        known[:, None], (cross.sum(axis=0) - cross) / np.where(known, others, 1)[:, None], 0
    )
    left: Array = values - slope * signed[:, None]
    return left


def block_ratio(comparison: Comparison) -> float:
    """Blocks that can have a member's win, to those that can have a twin's."""
    sizes = np.bincount(comparison.strata(), minlength=3)
    return float((sizes[0] + sizes[1]) / (sizes[0] + sizes[2]))


def false_discovery_rate(members: Array, twins: Array, ratio: float) -> Array:
    """Expected share of coincidence among blocks that members won: ratio (T + 1) / M, at most 1.

    With a ratio of 1 it is the competition's of Elias and Gygi (2007) with the +1 of Barber and
    Candes (2015, knockoff+); otherwise selective SeqStep+ of the same with c = ratio / (1 + ratio).
    Blocks are counted and not generations, since one coin decides all generations of a block.

    Args:
        members: blocks that members won.
        twins: blocks that twins won.
        ratio: from `block_ratio`.
    """
    rate: Array = np.minimum(1.0, ratio * (twins + 1) / np.maximum(members, 1))
    return rate


def discovery_threshold(
    blocks: tuple[Array, Array, Array], ratio: float, rate: float, lowest: float
) -> float | None:
    """The lowest score at which the false discovery rate is met; None if there is none.

    Args:
        blocks: from `contests.block_wins`.
        ratio: from `block_ratio`.
        rate: to meet.
        lowest: scores below it are not looked at.
    """
    score, member, twin = blocks
    # At a score count all that are as near.
    last = np.searchsorted(-score, -(score - TOLERANCE), side="right") - 1
    rates = false_discovery_rate(member.cumsum(), twin.cumsum(), ratio)[last]
    met = np.flatnonzero((rates <= rate) & (score >= lowest - TOLERANCE))
    return float(score[met[-1]]) if len(met) else None


def attribution(
    scores: pl.DataFrame,
    corpus: pl.DataFrame,
    trained: Mapping[str, Collection[str]],
    thresholds: Thresholds,
    base: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Attributable rates of every condition, source, level, field and metric.

    Args:
        scores: the scores table.
        corpus: in the corpus schema.
        trained: the sources that each model was trained on.
        thresholds: fixed ones and the grid.
        base: a base model's columns id and base_log_probability (nats), or None.

    Returns:
        Columns of `SCHEMA`, one row for each threshold (`at`: `sweep`, `fixed`, `fdr-1`, `fdr-5`;
        null where no threshold of the grid's range meets the rate, and then so are the numbers).
        attributable = (member_wins - members / twins * twin_wins) / n - predicted, where predicted
        is what the base model accounts for (0 without one); low and high are its bounds at 95 %.
        member_blocks and twin_blocks are the blocks that each side won, for the false discovery
        rate.
    """
    parts = [_empty()]
    for comparison in comparisons(corpus):
        prior = chance(comparison, base)
        for contest in of_contests.contests(scores, comparison):
            for metric in METRICS:
                found = of_contests.wins(contest, metric)
                table = _at_thresholds(found, comparison, thresholds, metric, prior, contest.n)
                parts.append(_named(table, contest, comparison, metric, trained))
    return _sorted(pl.concat(parts))


def _at_thresholds(
    found: Wins,
    comparison: Comparison,
    thresholds: Thresholds,
    metric: str,
    prior: Chance | None,
    n: int,
) -> pl.DataFrame:
    blocks = of_contests.block_wins(found, comparison)
    ratio = block_ratio(comparison)
    sweep = thresholds.sweep(metric)
    wanted: list[tuple[str, float | None]] = [("sweep", each) for each in sweep]
    wanted.append(("fixed", thresholds.fixed(metric)))
    for name, rate in DISCOVERY_RATES.items():
        wanted.append((name, discovery_threshold(blocks, ratio, rate, sweep.min(initial=1.0))))
    values = np.array(sorted({value for _, value in wanted if value is not None}))
    counts = tally(found, comparison, values, prior)
    won = np.searchsorted(-blocks[0], -(values - TOLERANCE), side="right")
    members, twins = (np.append(0, side.cumsum())[won] for side in blocks[1:])
    table = difference(counts, comparison, n).with_columns(
        threshold=values,
        member_blocks=members,
        twin_blocks=twins,
        false_discovery_rate=false_discovery_rate(members, twins, ratio),
    )
    labels = pl.DataFrame(
        {"at": [name for name, _ in wanted], "threshold": [value for _, value in wanted]},
        schema={"at": pl.String, "threshold": pl.Float64},
    )
    return labels.join(table, on="threshold", how="left", maintain_order="left")


def difference(counts: Tally, comparison: Comparison, n: int) -> pl.DataFrame:
    """Wins and the attributable rate with its bounds, as columns.

    Args:
        counts: from `tally`.
        comparison: members and twins.
        n: generations.

    Returns:
        Columns member_wins, twin_wins, predicted, attributable, low, high (the last four rates of
        n), one row for each threshold.
    """
    weight = comparison.weight
    estimate = counts.members - weight * counts.twins - counts.predicted
    generation = generation_margins(counts.members, counts.twins, np.asarray(weight), np.asarray(n))
    below, above = margins(counts.spread, generation)
    return pl.DataFrame(
        {
            "member_wins": counts.members,
            "twin_wins": counts.twins,
            "predicted": counts.predicted / n,
            "attributable": estimate / n,
            "low": (estimate - below) / n,
            "high": (estimate + above) / n,
        }
    )


def _named(
    table: pl.DataFrame,
    contest: Contest,
    comparison: Comparison,
    metric: str,
    trained: Mapping[str, Collection[str]],
) -> pl.DataFrame:
    model = contest.keys["model"]
    return table.with_columns(
        **{key: pl.lit(value) for key, value in contest.keys.items()},
        trained=pl.lit(comparison.source in trained[model]),
        source=pl.lit(comparison.source),
        level=pl.lit(comparison.level),
        metric=pl.lit(metric),
        n=pl.lit(contest.n),
        members=pl.lit(comparison.members),
        twins=pl.lit(comparison.twins),
        blocks=pl.lit(comparison.blocks),
    ).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def _empty() -> pl.DataFrame:
    return pl.DataFrame(schema=SCHEMA)


def _sorted(table: pl.DataFrame) -> pl.DataFrame:
    return table.sort(*ORDER, "metric", "at", "threshold", maintain_order=True)


def placebo(
    scores: pl.DataFrame,
    corpus: pl.DataFrame,
    thresholds: Thresholds,
    seed: int,
    runs: int = 20,
) -> pl.DataFrame:
    """Attributable rates after members and twins are labelled anew at random, which must hold 0.

    Args:
        scores: the scores table.
        corpus: in the corpus schema.
        thresholds: the fixed ones are used.
        seed: of the study; run k of a source and level has a random stream of its own.
        runs: labellings.

    Returns:
        Columns run, model, prefix, seed, source, level, field, metric, attributable, low, high and
        holds (whether 0 is within the interval).
    """
    return pl.concat(
        [
            pl.DataFrame(
                schema={"run": pl.Int64}
                | {name: SCHEMA[name] for name in (*ORDER, "metric", "attributable", "low", "high")}
                | {"holds": pl.Boolean}
            ),
            *_placebos(scores, corpus, thresholds, seed, runs),
        ]
    ).sort("run", *ORDER, "metric")


def _placebos(
    scores: pl.DataFrame, corpus: pl.DataFrame, thresholds: Thresholds, seed: int, runs: int
) -> Iterator[pl.DataFrame]:
    for comparison in comparisons(corpus):
        name = f"placebo/{comparison.source}/{comparison.level}"
        others = [relabelled(comparison, named_seed(seed, f"{name}/{run}")) for run in range(runs)]
        for contest in of_contests.contests(scores, comparison):
            for metric in METRICS:
                found = of_contests.wins(contest, metric)
                at = np.array([thresholds.fixed(metric)])
                tables = [
                    difference(
                        tally(of_contests.relabelled(found, other), other, at), other, contest.n
                    ).with_columns(run=pl.lit(run, pl.Int64))
                    for run, other in enumerate(others)
                ]
                yield (
                    pl.concat(tables)
                    .with_columns(
                        **{key: pl.lit(value) for key, value in contest.keys.items()},
                        source=pl.lit(comparison.source),
                        level=pl.lit(comparison.level),
                        metric=pl.lit(metric),
                        holds=(pl.col("low") <= 0) & (pl.col("high") >= 0),
                    )
                    .select(
                        "run",
                        *(
                            pl.col(name).cast(SCHEMA[name])
                            for name in (*ORDER, "metric", "attributable", "low", "high")
                        ),
                        "holds",
                    )
                )
