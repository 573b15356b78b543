"""Row risk: how likely a model is to write each row of a corpus, and what of it was seen."""

from collections.abc import Collection

import numpy as np
import polars as pl
from scipy.stats import false_discovery_control

from alignment_extraction.attribution import tables
from alignment_extraction.attribution.levels import compared_rows
from alignment_extraction.attribution.predictions import asked, chance, questions
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.vocabulary import CONDITION, SEARCHED_ROLES

CHANCES = {"chance_1e3": 1e3, "chance_1e4": 1e4, "chance_1e6": 1e6, "chance_1e9": 1e9}
"""Numbers of samples for which `rows` gives a row's chance to appear."""

DISCOVERY_RATE = 0.05
"""Share of the flagged rows of a source that are expected to be flagged falsely, at most."""


def rows(
    model: str,
    likelihood: pl.DataFrame,
    corpus: pl.DataFrame,
    trained_on: Collection[str],
    base: pl.DataFrame | None,
    scores: pl.DataFrame,
    predicted: pl.DataFrame,
    generations: pl.LazyFrame,
    thresholds: ThresholdSettings,
) -> pl.DataFrame:
    """The table `rows` of one model, most likely first within source and role.

    The p-value asks how a member's score ranks among the twins of its source: (1 + twins that score
    at least as high) / (1 + twins). The score is the question's log-probability less that under the
    base model, which takes off what any model would make of the text (the reference attack of
    Carlini et al. 2021); without a base model it is the log-probability after the prefix. The flag
    is Benjamini and Hochberg's, valid for p-values that share their twins (Bates et al. 2023).

    Args:
        model, likelihood, corpus, base: as of `shift.compared`.
        trained_on: the sources whose members the model was trained on.
        scores: of the model's generations, which may be none.
        predicted: from `predictions.predictions`.
        generations: columns model, prefix, seed, index, question; for the text of the best one.
        thresholds: the fixed ones say which generations are near.

    Raises:
        InputError: see `predictions.questions`.
    """
    table = asked(likelihood, corpus.filter(pl.col("role").is_in(SEARCHED_ROLES)))
    score = pl.col("log_probability")
    if base is None:
        table = table.with_columns(base_log_probability=None)
    else:
        before = questions(base).select(
            "id", before="question_log_probability", base_log_probability="log_probability"
        )
        table = table.join(before, on="id", how="left", maintain_order="left")
        # Without the end tokens: a base model that does not know the template spoils its own.
        score = pl.col("question_log_probability") - pl.col("before")
    log_probability = table["log_probability"].to_numpy()
    chances = [
        pl.Series(name, chance(log_probability, samples)).fill_nan(None)
        for name, samples in CHANCES.items()
    ]
    trained = pl.col("source").is_in(list(trained_on)) & (pl.col("role") == "member")
    table = table.with_columns(*chances, model=pl.lit(model), trained=trained, score=score)
    table = _tested(table, compared_rows(corpus).filter(~pl.col("member"))["id"])
    table = _seen(table, scores, generations, thresholds)
    expected = predicted.drop_nulls().group_by(first="id").agg(pl.col("expected").sum())
    order = ["source", "role", "log_probability", "id"]
    descending = [name == "log_probability" for name in order]
    joined = table.join(expected, on="first", how="left")
    return tables.table("rows", [joined]).sort(order, descending=descending, nulls_last=True)


def _tested(table: pl.DataFrame, twins: pl.Series) -> pl.DataFrame:
    """With p_value and flagged, by source; `twins` are the ids that stand against the members."""
    p_values = np.full(len(table), np.nan)
    flagged = np.zeros(len(table), bool)
    score = table["score"].to_numpy()
    known = ~np.isnan(score)
    member = (table["role"] == "member").to_numpy() & known
    twin = table["id"].is_in(twins.implode()).to_numpy() & known
    for source in table["source"].unique():
        own = (table["source"] == source).to_numpy()
        below, members = np.sort(score[own & twin]), own & member
        if len(below) and members.any():
            above = len(below) - np.searchsorted(below, score[members], side="left")
            p_values[members] = (1 + above) / (1 + len(below))
            flagged[members] = false_discovery_control(p_values[members]) <= DISCOVERY_RATE
    p_value = pl.Series(p_values, nan_to_null=True)
    tested = pl.when(p_value.is_not_null()).then(pl.Series(flagged))
    return table.with_columns(p_value=p_value, flagged=tested)


def _seen(
    table: pl.DataFrame,
    scores: pl.DataFrame,
    generations: pl.LazyFrame,
    thresholds: ThresholdSettings,
) -> pl.DataFrame:
    """With the hits of each row, and its nearest generation."""
    own = scores.filter(field="question")
    place = [*CONDITION, "index"]
    # A generation speaks of the row nearest by meaning and of the one nearest as a string, which
    # may be the same; the cosine of the latter is known only then.
    same = pl.col("match_id").eq_missing(pl.col("levenshtein_best_id"))
    by_meaning = own.select(
        *place, "cosine", "levenshtein", id="match_id", verbatim=pl.col("verbatim") & same
    )
    by_string = own.filter(~same).select(
        *place, "verbatim", levenshtein="levenshtein_best", id="levenshtein_best_id"
    )
    near = pl.col("cosine") >= thresholds.semantic
    near |= (pl.col("levenshtein") >= thresholds.string) | pl.col("verbatim")
    nearness = ["verbatim", "cosine", "levenshtein"]
    best = (
        pl.concat([by_meaning, by_string], how="diagonal_relaxed")
        .join(table.select("id", "first"), on="id")
        .sort(*nearness, *place, descending=[True] * 3 + [False] * len(place), nulls_last=True)
        .unique([*place, "first"], keep="first", maintain_order=True)
        .group_by("first", maintain_order=True)
        .agg(
            pl.col(place).first(),
            verbatim_hits=pl.col("verbatim").sum(),
            near_hits=near.sum(),
            best_cosine=pl.col("cosine").first(),
            best_levenshtein=pl.col("levenshtein").first(),
        )
    )
    # Of all texts only those of the best are kept in memory.
    texts = generations.join(best.lazy(), on=place, how="semi").collect()
    best = best.join(texts.rename({"question": "best_generation"}), on=place, how="left").select(
        pl.exclude(place),
        best_condition=pl.format("{}/{}/seed-{}", *CONDITION),
        best_index="index",
    )
    searched = own.select("source", "role", searched=True).unique()
    return (
        table.join(best, on="first", how="left", maintain_order="left")
        .join(searched, on=["source", "role"], how="left", maintain_order="left")
        .with_columns(pl.when("searched").then(pl.col("verbatim_hits", "near_hits").fill_null(0)))
    )
