"""Tables of the distillation experiment: student x benchmark, with what the original is worth.

Students of one kind of training answer the same items, so items are resampled once for all of them
and seeds for each on its own: the bootstrap of two crossed random effects (Owen 2007,
doi:10.1214/07-AOAS122, "pigeonhole bootstrap"), which is conservative. With a handful of seeds it
knows how far seeds differ only roughly.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.settings.distillation import FAMILIES
from alignment_extraction.statistics import Array, Interval, named_seed, subtract, wilson

DISTILLATION_TABLES = ("distillation", "distillation_curves", "distillation_counts")
"""Parquet files of a study's results that `snakemake distill` adds."""

MEASURES = {"accuracy": "right", "loss": "loss"}
"""Column of an examination that each measure is the mean of; of losses the lower is the better."""

CURVES = ("loss", "reward", "accuracy")
_ENDS = ("", "_low", "_high")
SCHEMA = pl.Schema(
    {
        **dict.fromkeys(("family", "arm", "benchmark", "measure"), pl.String()),
        **dict.fromkeys(("seeds", "items"), pl.Int64()),
        **{
            f"{name}{end}": pl.Float64()
            for name in ("value", "difference", "recovered")
            for end in _ENDS
        },
    }
)
"""Columns of the table `distillation`; docs/files.md says what they are."""

_DRAWS = 2000
_BLOCK = 4_000_000
_LEVEL = 0.95


class Student(NamedTuple):
    """What a student was trained with."""

    family: str
    arm: str
    seed: int


def crossed_bootstrap(
    samples: Mapping[str, Array], seed: int, draws: int = _DRAWS
) -> dict[str, Array]:
    """Means of samples in resamples of their seeds and of the items that they share.

    Args:
        samples: each of shape (seeds, items); the number of items is the same for all.
        seed: of the resampling.
        draws: resamples.

    Returns:
        For each sample the means, shape (draws,).
    """
    stream = np.random.default_rng(seed)
    items = next(iter(samples.values())).shape[1]
    means: dict[str, list[Array]] = {name: [] for name in samples}
    block = max(1, _BLOCK // max(1, items))
    for at in range(0, draws, block):
        number = min(block, draws - at)
        weights = stream.multinomial(items, np.full(items, 1 / items), number) / items
        for name, values in samples.items():
            seeds = len(values)
            shares = stream.multinomial(seeds, np.full(seeds, 1 / seeds), number) / seeds
            means[name].append(((shares @ values) * weights).sum(axis=1))
    return {name: np.concatenate(parts) for name, parts in means.items()}


def _interval(estimate: float, draws: Array) -> Interval:
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    # Rounding must not put a bound on the wrong side.
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def _at_edge(value: float, measure: str) -> bool:
    """Whether a share is 0 or 1, of which a bootstrap knows no bound."""
    return measure == "accuracy" and value in (0.0, 1.0)


def _share(value: float, items: int) -> Interval:
    bounds = wilson(value * items, items)
    return Interval(value, float(bounds.low), float(bounds.high))


def compare(
    samples: Mapping[str, Array], measure: str, seed: int
) -> dict[str, dict[str, Interval | None]]:
    """Each student's mean, its difference to `original`, and the share of its gain.

    Args:
        samples: by arm, of shape (seeds, items); `original` is one of them.
        measure: `accuracy` or `loss`.
        seed: of the bootstrap.

    Returns:
        For each arm: value; difference (to `original`; None for itself); recovered, which is the
        distance from `start` over that of `original` from `start` (None for these two, and where
        the latter's interval does not lie on the better side of 0: no gain, no share of one). A
        share of 0 or 1 has Wilson's interval for one answer an item, and the difference of two such
        Newcombe's.
    """
    drawn = crossed_bootstrap(samples, seed)
    means = {name: float(values.mean()) for name, values in samples.items()}
    items = samples["original"].shape[1]
    gained = None
    if "start" in samples:
        gained = _interval(means["original"] - means["start"], drawn["original"] - drawn["start"])
        if (gained.low <= 0) if measure == "accuracy" else (gained.high >= 0):
            gained = None
    found: dict[str, dict[str, Interval | None]] = {}
    for name, mean in means.items():
        edge = _at_edge(mean, measure)
        value = _share(mean, items) if edge else _interval(mean, drawn[name])
        difference = recovered = None
        if name != "original":
            distance = mean - means["original"]
            difference = _interval(distance, drawn[name] - drawn["original"])
            if edge and _at_edge(means["original"], measure):
                difference = subtract(value, _share(means["original"], items))
        if name not in ("original", "start") and gained:
            with np.errstate(divide="ignore", invalid="ignore"):
                shares = (drawn[name] - drawn["start"]) / (drawn["original"] - drawn["start"])
            share = (mean - means["start"]) / gained.estimate
            recovered = _interval(share, shares[np.isfinite(shares)])
        found[name] = {"value": value, "difference": difference, "recovered": recovered}
    return found


def _samples(
    examined: Mapping[Student, pl.DataFrame], family: str, benchmark: str, column: str
) -> dict[str, Array]:
    """Values by arm, shape (seeds, items), items in one order."""
    samples = {}
    ids: list[str] | None = None
    for arm in FAMILIES[family]:
        own = [
            examined[student].filter(benchmark=benchmark).sort("id")
            for student in sorted(examined)
            if student[:2] == (family, arm)
        ]
        for rows in own:
            ids = rows["id"].to_list() if ids is None else ids
            if rows["id"].to_list() != ids:
                raise InputError(
                    f"students of {family} were examined with different items of {benchmark}; "
                    "remove data/distillation and run `snakemake distill` again"
                )
        if own:
            samples[arm] = np.stack([rows[column].to_numpy() for rows in own])
    return samples


def _rows(examined: Mapping[Student, pl.DataFrame], seed: int) -> Iterator[dict[str, Any]]:
    benchmarks = next(iter(examined.values()))["benchmark"].unique(maintain_order=True)
    for family in FAMILIES:
        for benchmark in benchmarks:
            for measure, column in MEASURES.items():
                samples = _samples(examined, family, benchmark, column)
                stream = named_seed(seed, f"distillation/{family}/{benchmark}")
                for arm, found in compare(samples, measure, stream).items():
                    seeds, items = samples[arm].shape
                    row = {"family": family, "arm": arm, "benchmark": benchmark}
                    row |= {"measure": measure, "seeds": seeds, "items": items}
                    for name, interval in found.items():
                        for end, bound in zip(_ENDS, interval or (None,) * 3, strict=True):
                            row[f"{name}{end}"] = None if bound is None else float(bound)
                    yield row


def results_table(examined: Mapping[Student, pl.DataFrame], seed: int) -> pl.DataFrame:
    """One row for each student (over its seeds), benchmark and measure; columns `SCHEMA`.

    Args:
        examined: of `evaluation.evaluate`, for each student; the untrained one has the arm `start`.
        seed: of the bootstrap.

    Raises:
        InputError: students were examined with different items.
    """
    return pl.DataFrame(list(_rows(examined, seed)), schema=SCHEMA)


def curve_table(curves: Mapping[Student, pl.DataFrame]) -> pl.DataFrame:
    """Training curves of all students: family, arm, seed, step, metric (of `CURVES`), value."""
    return pl.concat(
        [
            rows.filter(pl.col("metric").is_in(CURVES)).select(
                pl.lit(student.family).alias("family"),
                pl.lit(student.arm).alias("arm"),
                pl.lit(student.seed, pl.Int64).alias("seed"),
                "step",
                "metric",
                "value",
            )
            for student, rows in curves.items()
        ]
    )


def count_table(curation: pl.DataFrame, overlap: pl.DataFrame) -> pl.DataFrame:
    """What was left out of the data sets and of the examination, as one table.

    Args:
        curation: `data_sets.DataSets.counts`.
        overlap: `data_sets.DataSets.overlap`.

    Returns:
        Columns family, data_set, step, before, dropped, left. For the examination the family is
        `benchmark`, the data set its name, and the steps are `in-original` and `in-extracted`.
    """
    original = overlap.select(
        pl.lit("benchmark").alias("family"),
        pl.col("benchmark").alias("data_set"),
        pl.lit("in-original").alias("step"),
        pl.col("items").alias("before"),
        pl.col("in_original").alias("dropped"),
        (pl.col("items") - pl.col("in_original")).alias("left"),
    )
    extracted = original.with_columns(
        step=pl.lit("in-extracted"),
        before=pl.col("left"),
        dropped=overlap["removed"] - overlap["in_original"],
        left=overlap["left"],
    )
    return pl.concat([curation, original, extracted])
