"""Scores of generations against the corpus: extraction rates, ratios, sweeps, the best matches.

A *reference* is what generations are held against: one group of the corpus (a source or a split of
one) or a role (the best over its groups, written `role:member`). A generation counts as extracted
by a metric where its score reaches that metric's threshold:

- `embedding`: cosine similarity to the nearest neighbour (approximate semantic memorisation);
- `levenshtein`, `indel`: similarity to that metric's own best match in the whole group;
- `verbatim`: equal to a corpus text, character for character.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from alignment_extraction.corpora.texts import corpus_texts, groups_of, item_texts, texts_of
from alignment_extraction.files import InputError
from alignment_extraction.search.matching import MATCH_SCHEMA
from alignment_extraction.settings.studies import Cell, SweepSettings, ThresholdSettings
from alignment_extraction.statistics import ratio, wilson

METRICS = ("embedding", "levenshtein", "indel", "verbatim")
CELL_KEYS = ["model", "prefix", "seed"]
KEYS = [*CELL_KEYS, "part", "reference"]
SCORE = {"embedding": "cosine", "levenshtein": "levenshtein_best", "indel": "indel_best"}
"""Column with the score that a metric's threshold is for; `verbatim` has none."""
ITEM = {
    "embedding": "match_id",
    "levenshtein": "levenshtein_best_id",
    "indel": "indel_best_id",
    "verbatim": "levenshtein_best_id",
}
"""Column of a table of scores with the item that a metric found."""
MATCHES = 2000
"""The best matches of a study that are kept, unless its settings say otherwise."""
# float32 scores of identical texts can fall a hair below the threshold they ought to meet.
TOLERANCE = 1e-6


def score_cell(
    cell: Cell,
    generations: pl.DataFrame,
    matches: pl.DataFrame,
    corpus: pl.DataFrame,
    parts: Sequence[str],
) -> pl.DataFrame:
    """One row for each generation x part x reference of one cell.

    Args:
        cell: model, prefix and seed, put into columns.
        generations: has `index`, `question`, `answer`.
        matches: `matching.MATCH_SCHEMA` of the same generations.
        corpus: in the corpus schema.
        parts: the parts that were matched.

    Returns:
        Columns model, prefix, seed, index, part, reference, match_id, cosine, levenshtein, indel
        (to the embedding match), levenshtein_best(_id), indel_best(_id) (null below 0.5),
        characters (length of the generated text). Role rows hold, for each score on its own, the
        best over the role's groups. A generation that lacks a part has no row for it; one whose
        text is empty has rows without scores, since it was drawn and extracted nothing.

    Raises:
        InputError: the matches are not of these generations and this corpus.
    """
    scored = pl.concat([_against_groups(generations, matches, corpus, part) for part in parts])
    roles = corpus.select(reference=groups_of(corpus), role="role").unique(maintain_order=True)
    by_embedding = scored.join(roles, on="reference", maintain_order="left").sort(
        "cosine", descending=True, nulls_last=True, maintain_order=True
    )
    role_rows = (
        by_embedding.group_by("index", "part", "role", maintain_order=True)
        .agg(
            pl.col("match_id", "cosine", "levenshtein", "indel", "characters").first(),
            *[
                expression
                for metric in ("levenshtein", "indel")
                for expression in (
                    pl.col(f"{metric}_best_id")
                    .sort_by(f"{metric}_best", descending=True, nulls_last=True)
                    .first(),
                    pl.col(f"{metric}_best").max(),
                )
            ],
        )
        .with_columns(reference=pl.concat_str([pl.lit("role:"), "role"]))
        .select(scored.columns)
    )
    return (
        pl.concat([scored, role_rows])
        .sort("part", "reference", "index")
        .select(
            pl.lit(cell.model).alias("model"),
            pl.lit(cell.prefix).alias("prefix"),
            pl.lit(cell.seed, pl.Int64).alias("seed"),
            "index",
            "part",
            "reference",
            pl.exclude("index", "part", "reference"),
        )
    )


def _against_groups(
    generations: pl.DataFrame, matches: pl.DataFrame, corpus: pl.DataFrame, part: str
) -> pl.DataFrame:
    """One row for each generation that has `part` x group that was searched and has it."""
    _, rows = corpus_texts(corpus, part)
    groups = (
        corpus[rows]
        .select("role", group=groups_of(corpus[rows]))
        .unique(maintain_order=True)
        .filter(
            # Text that is not to be extracted, such as pretraining text, need not be searched.
            pl.col("role").ne("control")
            | pl.col("group").is_in(matches.filter(part=part)["group"].unique().implode())
        )
        .select("group")
    )
    texts = generations.select("index", text=texts_of(generations, part)).drop_nulls("text")
    scored = texts.join(groups, how="cross", maintain_order="left").join(
        matches.filter(part=part), on=["text", "group"], how="left", maintain_order="left"
    )
    unmatched = scored.filter(pl.col("match_id").is_null(), pl.col("text") != "")
    if len(unmatched):
        raise InputError(
            f"the matches lack generation {unmatched['index'][0]} ({part}) against "
            f"{unmatched['group'][0]}: they are of other generations or of another corpus; "
            "run the matching step again"
        )
    scores = [name for name in MATCH_SCHEMA if name not in ("text", "part", "group")]
    return scored.select(
        "index",
        *scores,
        part=pl.lit(part),
        reference="group",
        characters=pl.col("text").str.len_chars().cast(pl.Int64),
    )


def is_hit(metric: str, threshold: float) -> pl.Expr:
    """Whether a row of scores counts as extracted by `metric` at `threshold`."""
    if metric == "verbatim":
        return pl.col("levenshtein_best").eq(1).fill_null(False)
    return pl.col(SCORE[metric]).ge(threshold - TOLERANCE).fill_null(False)


def threshold_of(metric: str, thresholds: ThresholdSettings) -> float:
    """The operating threshold of a metric; `verbatim` is equality."""
    if metric == "verbatim":
        return 1.0
    return thresholds.embedding if metric == "embedding" else thresholds.string


def rates(scores: pl.DataFrame, thresholds: ThresholdSettings) -> pl.DataFrame:
    """Extraction rates at the operating thresholds, with Wilson intervals at 95 %.

    Returns:
        Columns model, prefix, seed, part, reference, metric, threshold, n (generations that have
        the part), hits, rate, low, high, mean_score (of the score against the embedding match;
        verbatim takes Levenshtein's).
    """
    means = {"embedding": "cosine", "verbatim": "levenshtein"}
    frames = [
        scores.group_by(KEYS, maintain_order=True)
        .agg(
            n=pl.len().cast(pl.Int64),
            hits=is_hit(metric, threshold_of(metric, thresholds)).sum().cast(pl.Int64),
            mean_score=pl.col(means.get(metric, metric)).mean().cast(pl.Float64),
        )
        .with_columns(metric=pl.lit(metric), threshold=pl.lit(threshold_of(metric, thresholds)))
        for metric in METRICS
    ]
    table = pl.concat(frames).sort([*KEYS, "metric"])
    interval = wilson(table["hits"], table["n"])
    return table.with_columns(
        rate=pl.Series(interval.estimate),
        low=pl.Series(interval.low),
        high=pl.Series(interval.high),
    ).select(*KEYS, "metric", "threshold", "n", "hits", "rate", "low", "high", "mean_score")


def ratios(rate_table: pl.DataFrame) -> pl.DataFrame:
    """How many times more the embedding finds than each string metric, with Katz intervals.

    Returns:
        Columns model, prefix, seed, part, reference, metric, n, embedding_hits, hits, ratio, low,
        high. Infinite where the string metric found nothing, NaN where neither did.
    """
    embedding = rate_table.filter(metric="embedding").select(*KEYS, embedding_hits="hits")
    table = rate_table.filter(pl.col("metric") != "embedding").join(embedding, on=KEYS)
    intervals = [
        ratio(row["embedding_hits"], row["hits"], row["n"]) for row in table.iter_rows(named=True)
    ]
    return table.select(*KEYS, "metric", "n", "embedding_hits", "hits").with_columns(
        ratio=pl.Series([float(i.estimate) for i in intervals], dtype=pl.Float64),
        low=pl.Series([float(i.low) for i in intervals], dtype=pl.Float64),
        high=pl.Series([float(i.high) for i in intervals], dtype=pl.Float64),
    )


def sweep(scores: pl.DataFrame, settings: SweepSettings) -> pl.DataFrame:
    """Extraction rates over a grid of thresholds.

    Returns:
        Columns model, prefix, seed, part, reference, metric, threshold, n, rate.
    """
    grid = np.linspace(settings.start, settings.stop, settings.points)
    frames = [
        scores.group_by(KEYS)
        .agg(
            n=pl.len().cast(pl.Int64),
            **{str(i): is_hit(metric, threshold).mean() for i, threshold in enumerate(grid)},
        )
        .unpivot(index=[*KEYS, "n"], variable_name="point", value_name="rate")
        .select(
            *KEYS,
            metric=pl.lit(metric),
            threshold=pl.lit(pl.Series(grid)).gather(pl.col("point").cast(pl.Int64)),
            n="n",
            rate="rate",
        )
        for metric in SCORE
    ]
    return pl.concat(frames).sort([*KEYS, "metric", "threshold"])


def nearest_groups(scores: pl.DataFrame) -> pl.DataFrame:
    """Of each generation and part the row of the group with its nearest item.

    Rows are sorted by cosine, then Levenshtein similarity; generations without text have none.
    """
    return (
        scores.filter(~pl.col("reference").str.starts_with("role:"))
        .drop_nulls("cosine")
        # Equal texts in batches of other padding differ in the last digits.
        .sort(pl.col("cosine").round(5), "levenshtein", descending=True, maintain_order=True)
        .unique([*CELL_KEYS, "index", "part"], keep="first", maintain_order=True)
    )


def generation_texts(
    generations: Mapping[Cell, pl.DataFrame], parts: Sequence[str]
) -> pl.DataFrame:
    """The texts of generations as one table: model, prefix, seed, index, part, generation."""
    return pl.concat(
        [
            frame.select(
                pl.lit(cell.model).alias("model"),
                pl.lit(cell.prefix).alias("prefix"),
                pl.lit(cell.seed, pl.Int64).alias("seed"),
                "index",
                part=pl.lit(part, pl.String),
                generation=texts_of(frame, part),
            )
            for cell, frame in generations.items()
            for part in parts
        ]
    )


def top_matches(
    scores: pl.DataFrame,
    generations: Mapping[Cell, pl.DataFrame],
    corpus: pl.DataFrame,
    count: int = MATCHES,
) -> pl.DataFrame:
    """The best matches of a study: distinct generated texts by cosine, then Levenshtein.

    The best of all and the best of each cell are taken in turns, so that a cell with few samples or
    low scores is there too.

    Args:
        scores: from `score_cell`, of any number of cells.
        generations: of the same cells.
        corpus: in the corpus schema.
        count: the most matches, shared evenly by the parts.

    Returns:
        Columns model, prefix, seed, index, part, reference, occurrences (equal texts in the cell),
        generation, match, match_id, source, cosine, levenshtein, indel. Of equal texts the row of
        the cell that wrote it most often.
    """
    parts = scores["part"].unique(maintain_order=True).to_list()
    cell_part = [*CELL_KEYS, "index", "part"]
    return (
        nearest_groups(scores)
        .join(generation_texts(generations, parts), on=cell_part, how="left", maintain_order="left")
        .with_columns(occurrences=pl.len().over([*CELL_KEYS, "part", "generation"]).cast(pl.Int64))
        .sort(
            pl.col("cosine").round(5),
            "levenshtein",
            "occurrences",
            *cell_part,
            descending=[True, True, True, *[False] * len(cell_part)],
        )
        .unique(["part", "generation"], keep="first", maintain_order=True)
        .with_columns(
            of_all=pl.int_range(pl.len()).over("part"),
            of_cell=pl.int_range(pl.len()).over("part", *CELL_KEYS),
        )
        .with_columns(in_turn=pl.struct("of_cell", "of_all").rank("ordinal").over("part"))
        # Even places for the best of all, odd ones for the best of each cell; the better counts.
        .with_columns(place=pl.min_horizontal(2 * pl.col("of_all"), 2 * pl.col("in_turn") - 1))
        .filter(pl.col("place").rank("ordinal").over("part") <= max(1, count // len(parts)))
        .join(item_texts(corpus, parts), on=["match_id", "part"], how="left", maintain_order="left")
        .select(
            *cell_part,
            "reference",
            "occurrences",
            "generation",
            "match",
            "match_id",
            "source",
            "cosine",
            "levenshtein",
            "indel",
        )
    )
