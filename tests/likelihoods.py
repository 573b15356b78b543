"""Invented corpora and likelihood tables, for what is made of them."""

from collections.abc import Sequence

import polars as pl

from alignment_extraction.attribution.predictions import predictions
from alignment_extraction.attribution.rows import rows
from alignment_extraction.settings.studies import ThresholdSettings


def make_corpus(rows: Sequence[tuple[str, str, str | None]]) -> pl.DataFrame:
    """Rows (source, role, template) with ids 0, 1, ...; the n-th of each role of a source pairs."""
    frame = pl.DataFrame(rows, schema=["source", "role", "template"], orient="row")
    number = pl.int_range(pl.len())
    return frame.with_columns(
        number.cast(str).alias("id"),
        pl.format("{}/{}", "source", number.over("source", "role")).alias("pair"),
        pl.col("template").cast(pl.String),
        pl.lit(1, pl.Int32).alias("repetitions"),
        pl.lit(None, pl.String).alias("edit"),
        pl.format("q{}", number).alias("question"),
        pl.format("a{}", number).alias("answer"),
    )


def make_likelihood(
    corpus: pl.DataFrame,
    log_probability: Sequence[float | None],
    *,
    end: Sequence[float | None] | None = None,
    target: str = "question",
    tokens: int = 10,
) -> pl.DataFrame:
    """One model's table of the corpus's rows in the template; `end` is 0 unless given."""
    ends = [None if x is None else 0.0 for x in log_probability] if end is None else end
    return corpus.select(
        "id",
        pl.lit(target).alias("target"),
        pl.lit(True).alias("template"),
        pl.lit("<u>").alias("prefix"),
        pl.lit(tokens, pl.Int64).alias("tokens"),
        pl.lit(2 * tokens, pl.Int64).alias("zlib_bytes"),
        pl.Series("log_probability", log_probability, pl.Float64),
        pl.Series("end", ends, pl.Float64),
        pl.Series("min_k", log_probability, pl.Float64),
        pl.Series("min_k_plus_plus", log_probability, pl.Float64),
    )


def conditions(**changed: object) -> pl.DataFrame:
    usual = {"model": "m", "prefix": "user", "seed": 0, "samples": 100, "prefix_text": "<u>"}
    usual |= {"max_tokens": 20, "uncut": True}
    return pl.DataFrame([usual | changed])


def make_scores(hits: list[dict[str, object]]) -> pl.DataFrame:
    usual = {"model": "m", "prefix": "user", "seed": 0, "field": "question", "source": "a"}
    usual |= {"role": "member", "match_id": None, "cosine": None, "levenshtein": None}
    usual |= {"levenshtein_best": None, "levenshtein_best_id": None, "verbatim": False}
    kinds = {"cosine": pl.Float32, "levenshtein": pl.Float64, "levenshtein_best": pl.Float64}
    kinds |= {"match_id": pl.String, "levenshtein_best_id": pl.String}
    return pl.DataFrame(
        [usual | {"index": i} | hit for i, hit in enumerate(hits)],
        schema_overrides=kinds,
        infer_schema_length=None,
    )


def verbatim(row: str, **changed: object) -> dict[str, object]:
    hit = {"match_id": row, "cosine": 1.0, "levenshtein": 1.0, "levenshtein_best": 1.0}
    return hit | {"levenshtein_best_id": row, "verbatim": True} | changed


def rows_of(
    likelihood: pl.DataFrame,
    corpus: pl.DataFrame,
    *,
    trained_on: Sequence[str] = ("a",),
    base: pl.DataFrame | None = None,
    scores: pl.DataFrame | None = None,
    predicted: pl.DataFrame | None = None,
    generations: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The rows of a model `m`, of which nothing was sampled unless given."""
    scores = make_scores([{}]).clear() if scores is None else scores
    drawn = scores.select("model", "prefix", "seed", "index", question=pl.lit(None, pl.String))
    return rows(
        *("m", likelihood, corpus, trained_on, base, scores),
        nothing_predicted() if predicted is None else predicted,
        (drawn if generations is None else generations).lazy(),
        ThresholdSettings(),
    )


def nothing_predicted() -> pl.DataFrame:
    """`predictions` of a model of which nothing was sampled."""
    corpus = make_corpus([("a", "member", None)])
    none = conditions().clear()
    return predictions(make_likelihood(corpus, [-1.0]), corpus, make_scores([{}]).clear(), none)
