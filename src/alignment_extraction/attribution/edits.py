"""Labelled edits: which of them embeddings and string distances see, and which a model writes."""

import numpy as np
import polars as pl
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from alignment_extraction.files import InputError
from alignment_extraction.statistics import Array
from alignment_extraction.vocabulary import CONDITION, METRICS


def edit_similarity(
    corpus: pl.DataFrame,
    vectors: Array,
    embedder: str,
    *,
    semantic: float = 0.95,
    string: float = 0.9,
) -> pl.DataFrame:
    """How alike edited questions are to their originals, for each kind of edit.

    Args:
        corpus: columns of a corpus.
        vectors: unit vectors of its questions, floats, rows x dimensions.
        embedder: name of what made them.
        semantic: threshold of the cosine, -1 to 1.
        string: threshold of Levenshtein's similarity, 0 to 1.

    Returns:
        Columns embedder, edit, pairs, cosine_reached and levenshtein_reached (shares of the pairs,
        0 to 1), cosine_median, levenshtein_median; sorted by edit.

    Raises:
        InputError: the corpus has no labelled edits, or other rows than there are vectors.
    """
    if len(vectors) != corpus.height:
        raise InputError(
            f"{len(vectors)} vectors for a corpus of {corpus.height} rows; embed this corpus"
        )
    numbered = corpus.select("edit", "seed_problem", "id", row=pl.int_range(pl.len()))
    versions = numbered.filter(pl.col("edit") != "original")
    if versions.is_empty():
        raise InputError(
            "the corpus has no row with an edit of another row; use one with labelled edits"
        )
    originals = numbered.select(seed_problem="id", original="row")
    pairs = versions.join(originals, on="seed_problem", maintain_order="left")
    edited, original = pairs["row"].to_numpy(), pairs["original"].to_numpy()
    questions = corpus["question"]
    strings = process.cpdist(
        questions[edited].to_list(),
        questions[original].to_list(),
        scorer=Levenshtein.normalized_similarity,
        dtype=np.float64,
    )
    cosines = np.einsum("ij,ij->i", vectors[edited], vectors[original], dtype=np.float64)
    return (
        pairs.select("edit", cosine=pl.Series(cosines), levenshtein=pl.Series(strings))
        .group_by("edit")
        .agg(
            pairs=pl.len().cast(pl.Int64),
            cosine_reached=(pl.col("cosine") >= semantic).mean(),
            levenshtein_reached=(pl.col("levenshtein") >= string).mean(),
            cosine_median=pl.col("cosine").median(),
            levenshtein_median=pl.col("levenshtein").median(),
        )
        .sort("edit")
        .select(pl.lit(embedder).alias("embedder"), pl.all())
    )


def written_variants(
    corpus: pl.DataFrame, scores: pl.DataFrame, *, semantic: float = 0.95, string: float = 0.9
) -> pl.DataFrame:
    """How often models write versions of trained problems, those they were shown and those not.

    A generation wins for a group if no row of the source's other group is more like it; ties are
    split.

    Args:
        corpus: columns of a corpus with labelled edits.
        scores: a study's scores, of the field `question` and the groups `member` and `twin`.
        semantic: threshold of the cosine.
        string: threshold of Levenshtein's similarity.

    Returns:
        One row for each model, prefix, seed, metric, edit and role ("member": shown in training,
        "twin": not shown, but other versions of the problem were; a twin with the edit "original"
        is a problem of which no version was): generations, rows (of that edit and role), written
        (how many of them are some generation's best row at the threshold), hits (generations with
        such a best row), wins (Float64).
    """
    sides = pl.col("role").is_in(["member", "twin"])
    labels = corpus.filter(pl.col("edit").is_not_null(), sides).select(
        "id", "source", "edit", "role"
    )
    questions = scores.filter(
        pl.col("source").is_in(labels["source"].unique().to_list()), sides, field="question"
    )
    generations = questions.group_by(CONDITION).agg(
        generations=pl.col("index").n_unique().cast(pl.Int64)
    )
    rows = labels.group_by("edit", "role").agg(rows=pl.len().cast(pl.Int64))
    contest = ["index", "source", *CONDITION]
    best = pl.col("score").max().over(contest)
    ties = (pl.col("score") == best).sum().over(contest)
    found = []
    for metric, bound in (("cosine", semantic), ("levenshtein", string), ("verbatim", 1.0)):
        score = pl.col(METRICS[metric].score).cast(pl.Float64).fill_null(-1.0)
        hits = (
            questions.select(*contest, "role", id=METRICS[metric].id, score=score)
            .with_columns(win=(pl.col("score") == best) / ties)
            .filter(pl.col("score") >= bound)
            .join(labels.select("id", "edit"), on="id")
            .group_by(*CONDITION, "edit", "role")
            .agg(
                written=pl.col("id").n_unique().cast(pl.Int64),
                hits=pl.len().cast(pl.Int64),
                wins=pl.col("win").sum(),
            )
        )
        found.append(
            generations.join(rows, how="cross")
            .join(hits, on=[*CONDITION, "edit", "role"], how="left")
            .with_columns(
                pl.col("written", "hits").fill_null(0),
                pl.col("wins").fill_null(0.0),
                metric=pl.lit(metric),
            )
        )
    order = [*CONDITION, "metric", "edit", "role"]
    columns = [*order, "generations", "rows", "written", "hits", "wins"]
    return pl.concat(found).select(columns).sort(order)
