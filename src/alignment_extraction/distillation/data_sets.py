"""The data sets that students are trained on, and the questions that they are examined with.

All data sets of one kind of training (`sft`, `rl`) have the same number of rows, each once: the
smallest decides, and the others are drawn at random from a seeded stream.

For SFT: `original` (the member conversations, without their repetitions), `extracted` (curated
generations) and `non-matches` (those of them without a score above the threshold that lets through
a chosen share of held-out rows: no copies). For RL: `original` (the member questions with their
answers), `extracted` (curated questions of the RL tasks with the model's own final answers as what
counts as right, as arXiv 2510.18554 does it) and `verified` (those of them whose answer is right).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from alignment_extraction.distillation.curation import (
    COUNTS,
    Curation,
    curate,
    curate_questions,
    plain,
    with_labels,
)
from alignment_extraction.extraction.calibration import calibrate
from alignment_extraction.extraction.scores import SCORE
from alignment_extraction.files import InputError
from alignment_extraction.search.held_out import comparisons, held_out_scores, populations
from alignment_extraction.settings.distillation import FAMILIES, DistillationSettings
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import named_seed
from alignment_extraction.training.stages import members

COLUMNS = ("id", "question", "answer", "task", "label", "verdict")
"""Of every data set: `id` is the corpus row's, or model/prefix/seed/index of a generation; see
`curation.with_labels` for the last three."""

REFERENCE = "role:member"
BENCHMARKS = tuple(
    f"{source}.{split}"
    for source in ("sft", "rl")
    for split in ("fresh-instance", "held-out-template")
)
"""Groups of the corpus that students are examined with."""


class DataSets(NamedTuple):
    """Everything that the students need."""

    data: dict[tuple[str, str], pl.DataFrame]
    """By kind of training and name; columns `COLUMNS`."""
    counts: pl.DataFrame
    """Columns family, data_set and `curation.COUNTS`."""
    thresholds: dict[str, float]
    """The score of each metric above which a generation counts as a match."""
    benchmarks: pl.DataFrame
    """Questions of the examination: benchmark, id, question, answer, template, metadata."""
    overlap: pl.DataFrame
    """For each benchmark: benchmark, items, in_original, in_extracted (questions that occur there),
    removed (in either), left."""


def match_thresholds(
    scores: pl.DataFrame,
    held_out: pl.DataFrame,
    corpus: pl.DataFrame,
    settings: DistillationSettings,
) -> dict[str, float]:
    """The score of each metric above which a generation counts as a match.

    It is that of the study's calibration, all held-out rows taken together and weighted as long as
    the generations are (see `calibration`). It does not depend on the study's fixed thresholds.

    Args:
        scores: from `results.score`, of one model and prefix; the questions against members count.
        held_out: from `matching.match_held_out`.
        corpus: in the corpus schema.
        settings: false_positive_rate; with too few held-out rows for it, threshold alone.
    """
    seeds = scores["seed"].unique().sort()
    own = scores.filter(pl.col("reference") == REFERENCE, seed=seeds[0], part="question")
    for comparison in comparisons(own, held_out_scores(held_out, corpus)):
        if comparison.headline and comparison.held_out.height:
            sides = populations(comparison, ThresholdSettings())
            rates = np.array([settings.false_positive_rate])
            found = calibrate(sides, rates, seed=0, draws=1).metrics
            limits = {name: float(found[name].threshold[0]) for name in SCORE}
            if np.isfinite(list(limits.values())).all():
                return limits
    return {"embedding": settings.threshold}


def _is_match(thresholds: Mapping[str, float]) -> pl.Expr:
    """Whether any metric's score lies above its threshold; a score below 0.5 is null."""
    return pl.any_horizontal(
        (pl.col(SCORE[metric]) > threshold).fill_null(False)
        for metric, threshold in thresholds.items()
    )


def _original(corpus: pl.DataFrame, source: str) -> pl.DataFrame:
    return with_labels(members(corpus, source)).select(COLUMNS)


def _draw(rows: pl.DataFrame, number: int, seed: int) -> pl.DataFrame:
    chosen = np.random.default_rng(seed).permutation(rows.height)[:number]
    return rows[np.sort(chosen)]


def build(
    generations: Mapping[str, pl.DataFrame],
    scores: pl.DataFrame,
    held_out: pl.DataFrame,
    corpus: pl.DataFrame,
    settings: DistillationSettings,
    seed: int,
) -> DataSets:
    """Curate what the models wrote and put the data sets together.

    Args:
        generations: for `sft` and `rl`, of their models: seed, index, question, answer,
            question_finish, answer_finish.
        scores: from `results.score`.
        held_out: from `matching.match_held_out`.
        corpus: the controlled study's.
        settings: of the experiment.
        seed: of the draws.

    Raises:
        InputError: nothing is left of one of the data sets.
    """
    full, counts = {}, []
    for family, written in generations.items():
        curated = curate(written, settings.near_duplicate)
        if family == "rl":
            curated = curate_questions(curated)
        else:
            curated = curated._replace(rows=with_labels(curated.rows))
        cell = f"{settings.models[family]}/{settings.prefix}/seed-"
        place = pl.concat_str(pl.lit(cell), "seed", pl.lit("/"), "index")
        full[family, "extracted"] = curated.rows.with_columns(id=place)
        counts.append(_of("extracted", family, curated.counts))
    own = scores.filter(model=settings.sft.model, prefix=settings.prefix)
    thresholds = match_thresholds(own, held_out, corpus, settings)
    matches = own.filter(pl.col("reference") == REFERENCE, part="question")
    matches = matches.select("seed", "index", match=_is_match(thresholds))
    # A question without a score is no match.
    kept = Curation(
        full["sft", "extracted"].join(
            matches, on=["seed", "index"], how="left", maintain_order="left"
        )
    )
    kept.drop("match", pl.col("match").fill_null(False))
    full["sft", "non-matches"] = kept.rows
    counts.append(_of("non-matches", "sft", kept.result().counts))
    right = Curation(full["rl", "extracted"])
    right.drop("not-verified", ~pl.col("verdict").fill_null(False))
    full["rl", "verified"] = right.rows
    counts.append(_of("verified", "rl", right.result().counts))
    for family in FAMILIES:
        full[family, "original"] = _original(corpus, family)
    data = {}
    for family, names in FAMILIES.items():
        sizes = {name: full[family, name].height for name in names[1:]}
        number = min(sizes.values())
        if not number:
            empty = next(name for name, size in sizes.items() if not size)
            raise InputError(
                f"distillation: nothing is left of the {family} data set {empty!r}; draw more "
                "generations with `sampling.answer: true`"
            )
        for name in names[1:]:
            stream = named_seed(seed, f"distillation/{family}/{name}")
            drawn = _draw(full[family, name].select(COLUMNS), number, stream)
            data[family, name] = drawn
            step = {"step": "not-drawn", "before": sizes[name], "left": number}
            step["dropped"] = sizes[name] - number
            counts.append(_of(name, family, pl.DataFrame([step], schema=COUNTS)))
    table = pl.concat(counts)
    order = {key: place for place, key in enumerate(data)}
    place = pl.struct("family", "data_set").map_elements(
        lambda row: order[row["family"], row["data_set"]], pl.Int64
    )
    benchmarks, overlap = examination(corpus, data)
    return DataSets(data, table.sort(place, maintain_order=True), thresholds, benchmarks, overlap)


def _of(data_set: str, family: str, counts: pl.DataFrame) -> pl.DataFrame:
    return counts.select(pl.lit(family).alias("family"), pl.lit(data_set).alias("data_set"), "*")


def examination(
    corpus: pl.DataFrame, data: Mapping[tuple[str, str], pl.DataFrame]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The held-out questions that no student can have seen, and how many were taken out.

    A question occurs in a data set where the texts agree but for case and white space. Original
    data are all member rows of the corpus, the base model's included; extracted data are all data
    sets but `original`.

    Returns:
        `DataSets.benchmarks` and `DataSets.overlap`.
    """
    seen = corpus.filter(role="member").select(key=plain("question"))["key"].unique()
    written = pl.concat([rows for (_, name), rows in data.items() if name != "original"])
    extracted = written.select(key=plain("question"))["key"].unique()
    group = pl.concat_str("source", "split", separator=".")
    items = corpus.with_columns(benchmark=group, key=plain("question")).filter(
        pl.col("benchmark").is_in(BENCHMARKS)
    )
    items = items.with_columns(
        in_original=pl.col("key").is_in(seen.implode()),
        in_extracted=pl.col("key").is_in(extracted.implode()),
    )
    overlap = items.group_by("benchmark", maintain_order=True).agg(
        items=pl.len().cast(pl.Int64),
        in_original=pl.col("in_original").sum().cast(pl.Int64),
        in_extracted=pl.col("in_extracted").sum().cast(pl.Int64),
        removed=(pl.col("in_original") | pl.col("in_extracted")).sum().cast(pl.Int64),
    )
    left = items.filter(~pl.col("in_original"), ~pl.col("in_extracted"))
    columns = ["benchmark", "id", "question", "answer", "template", "metadata"]
    return left.select(columns), overlap.with_columns(left=pl.col("items") - pl.col("removed"))
