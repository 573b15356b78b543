"""Labelled edits: which of them embeddings and string distances see, and which a model writes."""

import numpy as np
import polars as pl
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from alignment_extraction.attribution.tables import table
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import Array
from alignment_extraction.vocabulary import CONDITION, METRICS

REACHED = {"cosine": 0.95, "levenshtein": 0.9}
"""The paper's thresholds."""


def edit_similarity(corpus: pl.DataFrame, vectors: Array, embedder: str) -> pl.DataFrame:
    """The table `edits`: how alike edited questions are to their originals, for each kind of edit.

    Args:
        corpus: columns of a corpus with labelled edits.
        vectors: unit vectors of its questions, floats, rows x dimensions.
        embedder: name of what made them.
    """
    numbered = corpus.select("edit", "seed_problem", "id", row=pl.int_range(pl.len()))
    originals = numbered.select(seed_problem="id", original="row")
    pairs = numbered.filter(pl.col("edit") != "original").join(
        originals, on="seed_problem", maintain_order="left"
    )
    edited, original = pairs["row"].to_numpy(), pairs["original"].to_numpy()
    texts = (corpus["question"][rows].to_list() for rows in (edited, original))
    strings = process.cpdist(*texts, scorer=Levenshtein.normalized_similarity, dtype=np.float64)
    cosines = np.einsum("ij,ij->i", vectors[edited], vectors[original], dtype=np.float64)
    by_edit = pairs.select("edit", cosine=cosines, levenshtein=strings).group_by("edit")
    found = by_edit.agg(
        pl.lit(embedder).alias("embedder"),
        pairs=pl.len(),
        **{f"{name}_reached": (pl.col(name) >= bound).mean() for name, bound in REACHED.items()},
        **{f"{name}_median": pl.col(name).median() for name in REACHED},
    )
    return table("edits", [found], "edit")


def written_variants(
    corpus: pl.DataFrame, scores: pl.DataFrame, thresholds: ThresholdSettings
) -> pl.DataFrame:
    """The table `variants`: how often models write versions of trained problems, shown or unseen.

    Args:
        corpus: columns of a corpus with labelled edits.
        scores: a study's scores.
        thresholds: the fixed ones are used.
    """
    sides = pl.col("role").is_in(["member", "twin"])
    labels = corpus.filter(pl.col("edit").is_not_null(), sides)
    questions = scores.filter(
        pl.col("source").is_in(labels["source"].unique().to_list()), sides, field="question"
    )
    generations = questions.group_by(CONDITION).agg(generations=pl.col("index").n_unique())
    rows = labels.group_by("edit", "role").agg(rows=pl.len())
    contest = ["index", "source", *CONDITION]
    best = pl.col("score").max().over(contest)
    ties = (pl.col("score") == best).sum().over(contest)
    found = []
    for name in ("cosine", "levenshtein", "verbatim"):
        metric = METRICS[name]
        score = pl.col(metric.score).cast(pl.Float64).fill_null(-1.0)
        hits = (
            questions.select(*contest, "role", id=metric.id, score=score)
            .with_columns(win=(pl.col("score") == best) / ties)
            .filter(pl.col("score") >= thresholds.fixed(name))
            .join(labels.select("id", "edit"), on="id")
            .group_by(*CONDITION, "edit", "role")
            .agg(written=pl.col("id").n_unique(), hits=pl.len(), wins=pl.col("win").sum())
        )
        found.append(
            generations.join(rows, how="cross")
            .join(hits, on=[*CONDITION, "edit", "role"], how="left")
            .with_columns(pl.col("written", "hits", "wins").fill_null(0), metric=pl.lit(name))
        )
    return table("variants", found, *CONDITION, "metric", "edit", "role")
