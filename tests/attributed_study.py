"""Simulated studies whose truth is known: rows with chances, a coin, generations, wins."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from alignment_extraction.attribution.competition import (
    block_ratio,
    block_wins,
    discovery_threshold,
)
from alignment_extraction.attribution.contests import Wins, contests, wins
from alignment_extraction.attribution.intervals import Chance, chance, rates
from alignment_extraction.attribution.levels import BOTH, Comparison
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import Array, named_seed
from alignment_extraction.vocabulary import METRICS

TAILS = ("even", "zipf", "pareto", "lognormal")


class Population(NamedTuple):
    """Rows in blocks; chances are hits expected among all generations."""

    block: Array
    popularity: Array
    """Hits of each row whether it is trained on or not."""
    effect: Array
    """Hits added by training on it."""


def popularities(tail: str, size: int, stream: np.random.Generator) -> Array:
    """Shares of the hits, in random order."""
    drawn = {
        "even": np.ones(size),
        "zipf": stream.permutation(1 / np.arange(1, size + 1)),
        "pareto": stream.pareto(1.1, size),
        "lognormal": stream.lognormal(0, 2, size),
    }[tail]
    return drawn / drawn.sum()


def pairs(count: int, tail: str, hits: float, stream: np.random.Generator) -> Population:
    """Pairs of rows, each row with a popularity of its own."""
    popularity = hits * popularities(tail, 2 * count, stream)
    return Population(np.arange(2 * count) // 2, popularity, np.zeros(2 * count))


def templates(
    count: int, rows: int, tail: str, hits: float, stream: np.random.Generator
) -> Population:
    """Templates of as many rows each, popular or not; and rows within them."""
    shares = np.repeat(popularities(tail, count, stream), rows)
    popularity = shares * stream.exponential(size=count * rows)
    return Population(
        np.arange(count * rows) // rows,
        hits * popularity / popularity.sum(),
        np.zeros(count * rows),
    )


def memorised(
    population: Population, share: float, hits: float, even: bool, stream: np.random.Generator
) -> Population:
    """The population with some blocks memorised if trained on: `hits` expected if all were."""
    blocks = population.block.max() + 1
    chosen = stream.random(blocks) < share
    amounts = chosen * (1.0 if even else stream.gamma(0.5, 2.0, blocks))
    rows = np.bincount(population.block)
    effect = (amounts / rows)[population.block] * (rows[0] if rows[0] == 2 else 1)
    return population._replace(effect=effect * hits / max(share * blocks, 1))


def toss(
    population: Population, level: str, stream: np.random.Generator, share: float = 0.5
) -> Comparison:
    """The coin: within pairs at the level of rows, over blocks at that of templates."""
    blocks = population.block.max() + 1
    if level == "rows":
        first = np.r_[True, population.block[1:] != population.block[:-1]]
        member = (stream.random(blocks) < 0.5)[population.block] == first
    else:
        members = round(share * blocks)
        member = (stream.permutation(blocks) < members)[population.block]
    return Comparison(
        source="mine",
        level=level,
        other="twin" if level == "rows" else "held-out",
        ids=pl.Series([str(row) for row in range(len(member))])
        if len(member) < 1000
        else pl.Series(np.arange(len(member))).cast(pl.String),
        member=member,
        block=population.block,
        repetitions=np.ones(len(member), np.int32),
    )


def hits_of(
    population: Population, comparison: Comparison, n: int, stream: np.random.Generator
) -> Wins:
    """Generations drawn from the model, and the rows that they hit, each with a score.

    Coincidences score evenly between 0.5 and 1, what was memorised between 0.8 and 1.
    """
    parts = np.concatenate([population.popularity, population.effect * comparison.member]) / n
    counts = stream.multinomial(n, np.append(parts, max(0.0, 1 - parts.sum())))[:-1]
    row = np.repeat(np.arange(len(parts)), counts)
    known = row >= len(comparison.member)
    row = row % len(comparison.member)
    score = 1 - stream.random(len(row)) * np.where(known, 0.2, 0.5)
    order = np.argsort(-score, kind="stable")
    row = row[order]
    ones = np.ones(len(row))
    return Wins(score[order], row, comparison.member[row], ones, np.arange(len(row)))


def relabelled(comparison: Comparison, seed: int) -> Comparison:
    """The comparison after another toss of the coin: a placebo in which training caused nothing.

    In every pair a coin decides whether member and twin change places; blocks of one side swap
    sides by a random permutation, so that as many blocks as before are on each.
    """
    stream = np.random.default_rng(seed)
    strata = comparison.strata()
    flip = (stream.random(len(strata)) < 0.5) & (strata == BOTH)
    single = np.flatnonzero(strata != BOTH)
    flip[single] = strata[single] != stream.permutation(strata[single])
    return replace(comparison, member=comparison.member ^ flip[comparison.block])


def placebo(
    scores: pl.DataFrame, corpus: pl.DataFrame, thresholds: ThresholdSettings, seed: int
) -> pl.DataFrame:
    """Rates of a real study at the fixed thresholds, members and twins labelled anew 20 times.

    Columns run, those of what is compared, metric, the rates, and whether they hold 0.
    """
    found = []
    for contest in contests(scores, corpus):
        whole = contest.comparison
        for run in range(20):
            stream = named_seed(seed, f"placebo/{whole.source}/{whole.level}/{run}")
            other = relabelled(whole, stream)
            for metric in METRICS:
                own = wins(contest, metric)
                own = own._replace(member=other.member[own.row])
                table = rates(own, other, np.array([thresholds.fixed(metric)]), contest.n)
                found.append(contest.labelled(table, run=run, metric=metric))
    holds = (pl.col("low") <= 0) & (pl.col("high") >= 0)
    return pl.concat(found).with_columns(holds=holds)


def estimate(
    found: Wins, comparison: Comparison, n: int, base: Chance | None = None
) -> tuple[float, float, float]:
    """Attributable hits of all scores, with bounds."""
    table = rates(found, comparison, np.array([0.0]), n, base)
    return tuple(n * table[name][0] for name in ("attributable", "low", "high"))  # type: ignore[return-value]


def coverage(
    make: Any,
    level: str,
    runs: int,
    seed: int,
    n: int = 10_000,
    share: float = 0.5,
) -> dict[str, float]:
    """How often the interval holds what training truly added, and how far off the estimate is.

    Args:
        make: a population from a random stream.
        level: `rows` or `templates`.
        runs: studies simulated.
        seed: of them.
        n: generations of each.
        share: of the blocks that are members, at the level of templates.
    """
    stream = np.random.default_rng(seed)
    held, errors, widths = [], [], []
    for _ in range(runs):
        population = make(stream)
        comparison = toss(population, level, stream, share)
        truth = float(population.effect[comparison.member].sum())
        middle, low, high = estimate(hits_of(population, comparison, n, stream), comparison, n)
        held.append(low <= truth <= high)
        errors.append(middle - truth)
        widths.append(high - low)
    return {
        "covered": float(np.mean(held)),
        "bias": float(np.mean(errors)),
        "bias_error": float(np.std(errors) / np.sqrt(runs)),
        "width": float(np.median(widths)),
    }


def false_discoveries(
    make: Any, level: str, runs: int, seed: int, rate: float = 0.05, n: int = 10_000
) -> dict[str, float]:
    """Share of coincidence among the blocks claimed at the threshold of a false discovery rate.

    A block is claimed rightly if a member of it was memorised. Returned are the mean share (0
    where nothing is claimed) with its standard error, the mean number claimed, and how many of the
    blocks that are claimed or not were memorised.
    """
    stream = np.random.default_rng(seed)
    shares, claims, memorised_blocks = [], [], []
    for _ in range(runs):
        population = make(stream)
        comparison = toss(population, level, stream)
        found = hits_of(population, comparison, n, stream)
        score, member, twin = block_wins(found, comparison)
        threshold = discovery_threshold(
            (score, member, twin), block_ratio(comparison), rate, lowest=0.5
        )
        effect = np.bincount(comparison.block, population.effect * comparison.member)
        memorised_blocks.append(int((effect > 0).sum()))
        if threshold is None:
            shares.append(0.0)
            claims.append(0)
            continue
        best = np.full((2, comparison.blocks), -1.0)
        np.maximum.at(best, (found.member.astype(int), comparison.block[found.row]), found.score)
        claimed = (best[1] > best[0]) & (best[1] >= threshold - 1e-6)
        shares.append(float((effect[claimed] == 0).mean()))
        claims.append(int(claimed.sum()))
    return {
        "false": float(np.mean(shares)),
        "error": float(np.std(shares) / np.sqrt(runs)),
        "claimed": float(np.mean(claims)),
        "memorised": float(np.mean(memorised_blocks)),
    }


def narrowing(make: Any, level: str, runs: int, seed: int, n: int = 10_000) -> dict[str, float]:
    """What the base model's chances change: coverage, bias and width with and without them.

    The base model knows each row's popularity up to a factor of its own for each row, and is on the
    whole ten times less likely to write one.
    """
    stream = np.random.default_rng(seed)
    rows: dict[str, list[float]] = {
        name: [] for name in ("with", "width with", "width", "error", "squared", "squared without")
    }
    for _ in range(runs):
        population = make(stream)
        comparison = toss(population, level, stream)
        truth = float(population.effect[comparison.member].sum())
        known = population.popularity * stream.lognormal(0, 0.5, len(population.block)) / n / 10
        base = pl.DataFrame({"id": comparison.ids, "base_log_probability": np.log(known)})
        found = hits_of(population, comparison, n, stream)
        middle, low, high = estimate(found, comparison, n, chance(comparison, base))
        plain, plain_low, plain_high = estimate(found, comparison, n)
        rows["with"].append(low <= truth <= high)
        rows["width with"].append(high - low)
        rows["width"].append(plain_high - plain_low)
        rows["error"].append(middle - truth)
        rows["squared"].append((middle - truth) ** 2)
        rows["squared without"].append((plain - truth) ** 2)
    return {
        "covered": float(np.mean(rows["with"])),
        "bias": float(np.mean(rows["error"])),
        "bias_error": float(np.std(rows["error"]) / np.sqrt(runs)),
        "width": float(np.median(rows["width with"])),
        "width_without": float(np.median(rows["width"])),
        "rms": float(np.sqrt(np.mean(rows["squared"]))),
        "rms_without": float(np.sqrt(np.mean(rows["squared without"]))),
    }
