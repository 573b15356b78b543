"""The anatomy of copying: how a generation relates to the corpus item that it was matched with.

Hits by embedding or by Levenshtein similarity are of one of three kinds:

- `verbatim`: the texts are equal, character for character;
- `templated`: not equal, but their Levenshtein similarity reaches the string threshold, as they
  are or after masking numbers and names (see `masking`); of the matched text, no more than half may
  be masked;
- `paraphrased`: neither; near by embedding alone.

The item looked at is the one nearest by Levenshtein similarity where that reaches its threshold,
else the one nearest by embedding.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.corpora.texts import groups_of, item_texts
from alignment_extraction.corpora.masking import masked, masked_share, numbers, words
from alignment_extraction.extraction.scores import (
    CELL_KEYS,
    KEYS,
    TOLERANCE,
    generation_texts,
    is_hit,
    nearest_groups,
)
from alignment_extraction.search.strings import pairwise
from alignment_extraction.settings.studies import Cell, ThresholdSettings
from alignment_extraction.statistics import wilson

KINDS = ("verbatim", "templated", "paraphrased")
"""From the closest copy to the loosest."""

_CELLS = 2_000_000  # entries of the arrays that spans are computed in
_MOST_MASKED = 0.5

Array = np.ndarray[Any, Any]


def longest_common_spans(left: pl.Series, right: pl.Series) -> Array:
    """Length of the longest run of words that both of a pair hold, int64, shape (pairs,).

    The textbook recurrence (the run that ends at words i and j is one longer than that at i - 1 and
    j - 1, where these are equal) over all pairs and all j at once.

    Args:
        left: lists of words.
        right: as many others.
    """
    flat = pl.concat([left, right]).explode(empty_as_null=False).cast(pl.Categorical).to_physical()
    numbers_of_words = flat.to_numpy().astype(np.int64)
    sizes = [side.list.len().to_numpy().astype(np.int64) for side in (left, right)]
    starts = np.concatenate([[0], np.concatenate(sizes).cumsum()])
    spans = np.zeros(len(left), np.int64)
    for rows in _batches(sizes[0], sizes[1]):
        ours = _padded(numbers_of_words, starts[rows], sizes[0][rows], -1)
        theirs = _padded(numbers_of_words, starts[rows + len(left)], sizes[1][rows], -2)
        if ours.shape[1] > theirs.shape[1]:
            ours, theirs = theirs, ours
        runs = np.zeros((len(rows), theirs.shape[1] + 1), np.int32)
        longest = np.zeros(len(rows), np.int64)
        for column in ours.T:
            runs[:, 1:] = (runs[:, :-1] + 1) * (theirs == column[:, None])
            np.maximum(longest, runs.max(axis=1), out=longest)
        spans[rows] = longest
    return spans


def _batches(left: Array, right: Array) -> Iterator[Array]:
    """Rows in batches of like lengths, so that padding costs little."""
    longest = np.maximum(left, right)
    order = np.argsort(longest, kind="stable")
    stop = len(order)
    while stop:
        count = max(1, _CELLS // (int(longest[order[stop - 1]]) + 1))
        yield order[max(0, stop - count) : stop]
        stop = max(0, stop - count)


def _padded(flat: Array, starts: Array, sizes: Array, filling: int) -> Array:
    """Lists that lie one after the other in `flat` as rows of one array, filled up."""
    place = np.arange(sizes.max(initial=0))
    rows = np.append(flat, filling)[np.minimum(starts[:, None] + place, len(flat))]
    padded: Array = np.where(place < sizes[:, None], rows, filling)
    return padded


def compare(generations: pl.Series, matches: pl.Series, threshold: float) -> pl.DataFrame:
    """How each generation relates to its match.

    Args:
        generations: texts.
        matches: as many texts of the corpus.
        threshold: Levenshtein similarity from which on a copy is at least templated.

    Returns:
        Columns words (of the match), span (longest run of words common to both), covered (span /
        words; null for a match without words), numbers_equal (whether both hold the same numbers in
        the same order; null where neither holds any), similarity (Levenshtein, as they are),
        masked_similarity (after masking), kind (were it a hit).
    """
    our_form, their_form = masked(generations), masked(matches)
    ours, theirs = words(generations), words(matches)
    figures = pl.DataFrame({"ours": numbers(generations), "theirs": numbers(matches)})
    return (
        pl.DataFrame(
            {
                "equal": generations.eq(matches),
                "words": theirs.list.len().cast(pl.Int64),
                "span": longest_common_spans(ours, theirs),
                "similarity": pairwise("levenshtein", generations.to_list(), matches.to_list()),
                "masked_similarity": pairwise(
                    "levenshtein", our_form.to_list(), their_form.to_list()
                ),
                "masked_share": masked_share(their_form),
            }
        )
        .with_columns(figures)
        .select(
            "words",
            "span",
            covered=pl.when(pl.col("words") > 0).then(pl.col("span") / pl.col("words")),
            numbers_equal=pl.when(
                (pl.col("ours").list.len() > 0) | (pl.col("theirs").list.len() > 0)
            ).then(pl.col("ours") == pl.col("theirs")),
            similarity="similarity",
            masked_similarity="masked_similarity",
            kind=pl.when("equal")
            .then(pl.lit("verbatim"))
            .when(
                (pl.col("similarity") >= threshold - TOLERANCE)
                | (pl.col("masked_similarity") >= threshold - TOLERANCE)
                & (pl.col("masked_share") <= _MOST_MASKED)
            )
            .then(pl.lit("templated"))
            .otherwise(pl.lit("paraphrased")),
        )
    )


def anatomy(
    scores: pl.DataFrame,
    generations: Mapping[Cell, pl.DataFrame],
    corpus: pl.DataFrame,
    thresholds: ThresholdSettings,
) -> pl.DataFrame:
    """How the hits of a study, and the best match of every generation, relate to the corpus.

    Args:
        scores: from `scores.score_cell`, of any number of cells.
        generations: of the same cells.
        corpus: in the corpus schema.
        thresholds: from which score on a generation counts as extracted.

    Returns:
        One row for each cell x part x distinct generated text x group of the corpus in which it is
        a hit, or which holds its nearest item: index (of its first generation), occurrences,
        match_id, cosine, the columns of `compare`, and hit; kind is null where it is no hit.
    """
    parts = scores["part"].unique(maintain_order=True).to_list()
    string = is_hit("levenshtein", thresholds.string)
    hit = (string | is_hit("embedding", thresholds.embedding)).alias("hit")
    nearest = nearest_groups(scores).select(*KEYS, "index", nearest=pl.lit(True))
    rows = (
        scores.filter(~pl.col("reference").str.starts_with("role:"))
        .join(nearest, on=[*KEYS, "index"], how="left", maintain_order="left")
        .with_columns(
            hit, match_id=pl.when(string).then("levenshtein_best_id").otherwise("match_id")
        )
        .filter(pl.col("hit") | pl.col("nearest"))
        .join(generation_texts(generations, parts), on=[*CELL_KEYS, "index", "part"], how="left")
        .sort(*KEYS, "index")
        .group_by(*KEYS, "generation", maintain_order=True)
        .agg(
            pl.col("index", "match_id", "cosine", "hit").first(),
            occurrences=pl.len().cast(pl.Int64),
        )
        .join(item_texts(corpus, parts), on=["match_id", "part"], how="left", maintain_order="left")
    )
    pairs = compare(rows["generation"], rows["match"], thresholds.string)
    return pl.concat(
        [
            rows.select(*KEYS, "index", "occurrences", "generation", "match_id", "cosine", "hit"),
            pairs,
        ],
        how="horizontal",
    ).with_columns(kind=pl.when("hit").then("kind"))


def kinds(table: pl.DataFrame, rate_table: pl.DataFrame, corpus: pl.DataFrame) -> pl.DataFrame:
    """Shares of the kinds of copying, by cell, part and reference.

    A generation that is a hit in several groups of a role counts there once, as the closest kind.

    Args:
        table: from `anatomy`.
        rate_table: from `scores.rates`, for the number of generations.
        corpus: in the corpus schema, for the groups of each role.

    Returns:
        Columns model, prefix, seed, part, reference, kind, n (generations), extracted (those that
        are hits by embedding or Levenshtein), hits (of this kind), rate, low, high (hits / n),
        share, share_low, share_high (hits / extracted; null without), items (distinct items hit),
        numbers_changed (hits whose numbers differ from the match's), covered_low, covered,
        covered_high (quartiles and median of the share of the match covered by the longest common
        span; null without hits). Wilson intervals at 95 %.
    """
    roles = corpus.select(reference=groups_of(corpus), role="role").unique(maintain_order=True)
    hits = table.filter("hit").with_columns(pl.col("kind").cast(pl.Enum(KINDS)))
    of_roles = (
        hits.join(roles, on="reference", maintain_order="left")
        .with_columns(reference=pl.concat_str(pl.lit("role:"), "role"))
        .sort(*KEYS, "generation", "kind", maintain_order=True)
        .unique([*KEYS, "generation"], keep="first", maintain_order=True)
        .select(hits.columns)
    )
    keys = [*KEYS, "kind"]
    often = pl.col("covered").repeat_by("occurrences").explode(empty_as_null=False).drop_nulls()
    counted = (
        pl.concat([hits, of_roles])
        .group_by(keys)
        .agg(
            hits=pl.col("occurrences").sum(),
            items=pl.col("match_id").n_unique().cast(pl.Int64),
            numbers_changed=pl.col("occurrences").filter(~pl.col("numbers_equal")).sum(),
            covered_low=often.quantile(0.25),
            covered=often.median(),
            covered_high=often.quantile(0.75),
        )
    )
    order = pl.DataFrame({"kind": pl.Series(KINDS, dtype=pl.Enum(KINDS))})
    filled = (
        rate_table.filter(metric="embedding")
        .select(*KEYS, "n")
        .join(order, how="cross", maintain_order="left_right")
        .join(counted, on=keys, how="left", maintain_order="left")
        .with_columns(pl.col("hits", "items", "numbers_changed").fill_null(0))
        .with_columns(extracted=pl.col("hits").sum().over(KEYS))
    )
    rate = wilson(filled["hits"], filled["n"])
    share = wilson(filled["hits"], filled["extracted"])
    return filled.select(
        *KEYS,
        pl.col("kind").cast(pl.String),
        "n",
        "extracted",
        "hits",
        rate=pl.Series(rate.estimate),
        low=pl.Series(rate.low),
        high=pl.Series(rate.high),
        share=pl.Series(share.estimate).fill_nan(None),
        share_low=pl.Series(share.low).fill_nan(None),
        share_high=pl.Series(share.high).fill_nan(None),
        items="items",
        numbers_changed="numbers_changed",
        covered_low="covered_low",
        covered="covered",
        covered_high="covered_high",
    )
