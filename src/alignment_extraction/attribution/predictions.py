"""Predicted verbatim hits, and the sampled ones that they are held against.

p is the probability of a row's question and the end token behind it after the bare template prefix,
which one teacher-forced pass gives. The chance that n samples contain the row is 1 - (1 - p)^n (the
(n, q)-discoverable extraction of Hayes et al. 2024, arXiv 2410.19482, whose prompt is the text's
own beginning; here it is the template's alone). Its limits are in docs/method.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from alignment_extraction.attribution.tables import schema, table
from alignment_extraction.files import InputError
from alignment_extraction.statistics import Array, clopper_pearson
from alignment_extraction.vocabulary import CONDITION, Condition

_UNCUT = {"temperature": 1.0, "top_k": 0.0, "top_p": 1.0, "min_p": 0.0}


def chance(log_probability: Array, samples: Array | float) -> Array:
    """Chance that so many samples contain a row: 1 - (1 - p)^n, exact for tiny p too.

    Both broadcast; log p is in nats, and NaN gives NaN.
    """
    with np.errstate(divide="ignore"):
        missed = np.log1p(-np.exp(np.minimum(log_probability, 0.0)))
    return np.asarray(-np.expm1(samples * missed))


def sampled_conditions(shards: Mapping[Condition, Sequence[Path]]) -> pl.DataFrame:
    """How the generations of each condition were drawn, as the metadata of its shards tells it.

    Returns:
        Columns model, prefix, seed, samples, prefix_text (special tokens spelt out), max_tokens,
        uncut (whether they are of the model's own distribution).
    """
    rows = []
    for condition, files in shards.items():
        about = pl.read_parquet_metadata(files[0])
        samples = pl.scan_parquet(list(files)).select(pl.len()).collect().item()
        uncut = all(float(about[name]) == value for name, value in _UNCUT.items())
        rows.append((*condition, samples, about["prefix"], int(about["max_tokens"]), uncut))
    columns = schema("model prefix seed:i samples:i prefix_text max_tokens:i uncut:b")
    return pl.DataFrame(rows, columns, orient="row")


def predictions(
    likelihood: pl.DataFrame, corpus: pl.DataFrame, scores: pl.DataFrame, conditions: pl.DataFrame
) -> pl.DataFrame:
    """Predicted and observed verbatim hits of each row in each condition that can be predicted.

    Those can whose prefix is the likelihood's, and whose generations are known to be of the model's
    own distribution.

    Args: of one model likelihood, corpus, scores, and conditions from `sampled_conditions`.

    Returns:
        One row for each condition x distinct question of a group that was searched: model, prefix,
        seed, source, role, id (of equal questions the first), samples, log_probability (nats; null
        where the model cannot write it: longer than its context or the condition's limit),
        expected (hits among the samples), hits.
    """
    questions = scores.filter(field="question")
    searched = questions.select("source", "role").unique()
    own = asked(likelihood, corpus).join(searched, on=["source", "role"], how="semi")
    hits = (
        questions.filter("verbatim")
        .join(own.select("first", levenshtein_best_id="id"), on="levenshtein_best_id")
        .group_by(*CONDITION, id="first")
        .agg(hits=pl.len().cast(pl.Int64))
    )
    # A question as long as the limit is cut there, and needs no end token.
    spare = pl.col("max_tokens") - pl.col("tokens").cast(pl.Int64)
    some = pl.when(spare > 0).then("log_probability")
    written = some.when(spare == 0).then("question_log_probability")
    scored = likelihood.filter("template")["prefix"].unique().to_list()
    return (
        conditions.filter(pl.col("prefix_text").is_in(scored), pl.col("uncut"))
        .join(own.filter(pl.col("id") == pl.col("first")), how="cross")
        .join(hits, on=[*CONDITION, "id"], how="left", maintain_order="left")
        .with_columns(log_probability=written, hits=pl.col("hits").fill_null(0))
        .with_columns(expected=pl.col("log_probability").exp() * pl.col("samples"))
        .select(
            *CONDITION, "source", "role", "id", "samples", "log_probability", "expected", "hits"
        )
    )


def calibration(predicted: pl.DataFrame) -> pl.DataFrame:
    """The table `calibration`: `predictions` against the hits observed in each group.

    Samples are drawn apart and one sample hits at most one row, so the hits of a group are
    binomial: the interval is Clopper and Pearson's of the hits observed.
    """
    keys = [*CONDITION, "source", "role"]
    found = (
        predicted.drop_nulls("log_probability")
        .group_by(keys)
        .agg(
            pl.col("samples").first(),
            rows=pl.len(),
            predicted=pl.col("expected").sum(),
            observed=pl.col("hits").sum(),
        )
    )
    _, low, high = clopper_pearson(found["observed"].to_numpy(), found["samples"].to_numpy())
    found = found.with_columns(low=low * found["samples"], high=high * found["samples"])
    agrees = pl.col("predicted").is_between("low", "high")
    return table("calibration", [found.with_columns(agrees=agrees)], *keys)


def questions(likelihood: pl.DataFrame) -> pl.DataFrame:
    """Each question inside the template: id, tokens, question_log_probability, log_probability.

    Both in nats, the latter with the end token behind it.

    Raises:
        InputError: the likelihood holds no question in the template.
    """
    own = likelihood.filter("template", target="question")
    if own.is_empty():
        raise InputError(
            "the likelihood table holds no question inside the chat template, which is where row "
            "risk comes from; score a model that has a chat template"
        )
    return own.select(
        *("id", "tokens"),
        question_log_probability="log_probability",
        log_probability=pl.col("log_probability") + pl.col("end"),
    )


def asked(likelihood: pl.DataFrame, corpus: pl.DataFrame) -> pl.DataFrame:
    """The corpus with `questions` of each row, and `first`: of equal questions of a group the id of
    the first."""
    first = pl.col("id").first().over("source", "role", "question")
    return corpus.with_columns(first=first).join(
        questions(likelihood), on="id", how="left", maintain_order="left"
    )
