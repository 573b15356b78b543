"""Row risk: how likely a model is to write each row of a corpus, and what of it was seen.

p is the probability of a row's question and the end token behind it after the bare template prefix,
which one teacher-forced pass gives. The chance that n samples contain the row is 1 - (1 - p)^n (the
(n, q)-discoverable extraction of Hayes et al. 2024, arXiv 2410.19482, whose prompt is the text's
own beginning; here it is the template's alone). p is of the text's own tokenisation: the same text
in other tokens, or ended by another end token, is left out, so that p is, if anything, too small.
It speaks of samples of the model's own distribution: temperature 1, nothing cut off.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.statistics import discoveries
from alignment_extraction.vocabulary import Condition

Array = np.ndarray[Any, Any]

CHANCES = {"chance_1e3": 1e3, "chance_1e4": 1e4, "chance_1e6": 1e6, "chance_1e9": 1e9}
"""Numbers of samples for which `rows` gives a row's chance to appear."""

DISCOVERY_RATE = 0.05
"""Share of the flagged rows of a source that are expected to be flagged falsely, at most."""

REASONS = {
    "settings": "the generations do not say how they were drawn",
    "prefix": "the likelihood was computed after another prefix",
    "sampling": "the generations are not of the model's own distribution",
}
"""Why the generations of a condition cannot be held against the likelihood."""

ROWS = [
    *("model", "id", "source", "role", "template", "repetitions", "edit", "trained"),
    *("log_probability", "base_log_probability", "expected", *CHANCES),
    *("score", "p_value", "flagged", "verbatim_hits", "near_hits"),
    *("best_condition", "best_index", "best_generation", "best_cosine", "best_levenshtein"),
    *("question", "answer"),
]
"""Columns of `rows`."""

_UNCUT = {"temperature": 1.0, "top_k": 0.0, "top_p": 1.0, "min_p": 0.0}
_CONDITION = list(Condition._fields)


def chance(log_probability: Array, samples: Array | float) -> Array:
    """Chance that so many samples contain a row: 1 - (1 - p)^n, exact for tiny p too.

    Args:
        log_probability: log p of a row, in nats; NaN gives NaN.
        samples: n; broadcast against `log_probability`.
    """
    with np.errstate(divide="ignore"):
        missed = np.log1p(-np.exp(np.minimum(log_probability, 0.0)))
    found: Array = -np.expm1(samples * missed)
    return found


def control_roles(corpus: pl.DataFrame) -> dict[str, str]:
    """The role that is held against the members of each source, row by row.

    Twins where a source has them. Else its held-out rows, unless they are of templates that no
    member has: those tell of templates and not of rows. Sources without either, or without members,
    are left out.
    """
    roles = {}
    for (source,), own in sorted(corpus.group_by("source")):
        members = own.filter(role="member")
        if members.is_empty():
            continue
        held_out = own.filter(role="held-out")
        strange = held_out.filter(
            pl.col("template").is_not_null()
            & ~pl.col("template").is_in(members["template"].drop_nulls().unique().to_list())
        )
        if (own["role"] == "twin").any():
            roles[str(source)] = "twin"
        elif len(held_out) and strange.is_empty():
            roles[str(source)] = "held-out"
    return roles


def sampled_conditions(shards: Mapping[Condition, Path]) -> pl.DataFrame:
    """How the generations of each condition were drawn, as the metadata of its file tells it.

    Returns:
        Columns model, prefix, seed, samples, prefix_text (special tokens spelt out), max_tokens,
        uncut (whether they are of the model's own distribution); the last three null where a file
        does not say.
    """
    rows = []
    for condition, path in shards.items():
        about = pl.read_parquet_metadata(path)
        told = {"prefix", "max_tokens", *_UNCUT} <= about.keys()
        uncut = told and all(float(about[name]) == value for name, value in _UNCUT.items())
        rows.append(
            {
                **condition._asdict(),
                "samples": pl.scan_parquet(path).select(pl.len()).collect().item(),
                "prefix_text": about["prefix"] if told else None,
                "max_tokens": int(about["max_tokens"]) if told else None,
                "uncut": uncut if told else None,
            }
        )
    schema = {"model": pl.String, "prefix": pl.String, "seed": pl.Int64, "samples": pl.Int64}
    schema |= {"prefix_text": pl.String, "max_tokens": pl.Int64, "uncut": pl.Boolean}
    return pl.DataFrame(rows, schema=schema)


def predictable(conditions: pl.DataFrame, likelihood: pl.DataFrame) -> pl.DataFrame:
    """The conditions of one model with `reason`: null, or the key of `REASONS` why not.

    Args:
        conditions: from `sampled_conditions`, of the model that was scored.
        likelihood: of that model.
    """
    scored = likelihood.filter("template")["prefix"].unique().to_list()
    return conditions.with_columns(
        reason=pl.when(pl.col("uncut").is_null())
        .then(pl.lit("settings"))
        .when(~pl.col("prefix_text").is_in(scored))
        .then(pl.lit("prefix"))
        .when(~pl.col("uncut"))
        .then(pl.lit("sampling"))
    )


def predictions(
    likelihood: pl.DataFrame, corpus: pl.DataFrame, scores: pl.DataFrame, conditions: pl.DataFrame
) -> pl.DataFrame:
    """Predicted and observed verbatim hits of each row in each condition that can be predicted.

    Args:
        likelihood: of one model.
        corpus: what was scored and searched.
        scores: of that model's generations.
        conditions: of that model, from `sampled_conditions`.

    Returns:
        One row for each condition x distinct question of a group that was searched: model, prefix,
        seed, source, role, id (of equal questions the first), samples, log_probability (nats; null
        where the model cannot write it: longer than its context or the condition's limit),
        expected (hits among the samples), hits.
    """
    searched = scores.filter(field="question").select("source", "role").unique()
    asked = _asked(likelihood, corpus).join(searched, on=["source", "role"], how="semi")
    # A question as long as the limit is cut there, and needs no end token.
    spare = pl.col("max_tokens") - pl.col("tokens").cast(pl.Int64)
    log_probability = (
        pl.when(spare > 0)
        .then(pl.col("question_log_probability") + pl.col("end"))
        .when(spare == 0)
        .then("question_log_probability")
    )
    return (
        predictable(conditions, likelihood)
        .filter(pl.col("reason").is_null())
        .join(asked.filter(pl.col("id") == pl.col("first")), how="cross")
        .join(
            _verbatim(scores, corpus).rename({"first": "id"}),
            on=[*_CONDITION, "id"],
            how="left",
            maintain_order="left",
        )
        .with_columns(log_probability=log_probability, hits=pl.col("hits").fill_null(0))
        .with_columns(expected=pl.col("log_probability").exp() * pl.col("samples"))
        .select(
            *_CONDITION, "source", "role", "id", "samples", "log_probability", "expected", "hits"
        )
    )


def rows(
    model: str,
    likelihood: pl.DataFrame,
    corpus: pl.DataFrame,
    *,
    trained_on: Collection[str],
    base: pl.DataFrame | None = None,
    scores: pl.DataFrame | None = None,
    predicted: pl.DataFrame | None = None,
    generations: pl.DataFrame | pl.LazyFrame | None = None,
    semantic: float = 0.95,
    string: float = 0.9,
) -> pl.DataFrame:
    """Every corpus row with its risk under one model.

    The p-value asks how a member's score ranks among the twins of its source: (1 + twins that score
    at least as high) / (1 + twins). The score is the question's log-probability less that under the
    base model, which takes off what any model would make of the text (the reference attack of
    Carlini et al. 2021; more telling than the log-probability alone); without a base model it is
    the log-probability after the prefix. Which of them is fixed by what is given, not by the
    result, so that the p-value is valid where a coin made the twins. The flag is Benjamini and
    Hochberg's, valid for p-values that share their twins (Bates et al. 2023): at that rate it also
    is the target-decoy estimate (twins above + 1) / (members above).

    Args:
        model: its name.
        likelihood: of the model, as `likelihoods` writes it.
        corpus: in the corpus schema.
        trained_on: the sources whose members the model was trained on.
        base: likelihood of the model before training, where there is one.
        scores: of the model's generations, where there are any.
        predicted: from `predictions`.
        generations: columns model, prefix, seed, index, question; for the text of the best one.
        semantic: cosine from which a generation counts as near.
        string: Levenshtein similarity from which it does.

    Returns:
        One row for each corpus row, most likely first within source and role: model, id, source,
        role, template, repetitions, edit, trained (whether the model was trained on this row),
        log_probability, base_log_probability (nats, question and end after the prefix; null where
        they do not fit the context), expected (hits in the samples of the conditions that can be
        predicted), the columns of `CHANCES`, score (nats), p_value, flagged (members alone; null
        without twins), verbatim_hits, near_hits (generations at least `semantic` or `string` near,
        the verbatim ones among them; null where the group was not searched), best_condition
        (model/prefix/seed-N), best_index, best_generation, best_cosine, best_levenshtein (the
        nearest generation: a verbatim one, else by cosine). Equal questions of a group share their
        hits.

    Raises:
        InputError: the likelihood is of another corpus, or holds no question in the template.
    """
    table = _asked(likelihood, corpus).with_columns(
        log_probability=pl.col("question_log_probability") + pl.col("end")
    )
    score = pl.col("log_probability")
    table = table.with_columns(base_log_probability=pl.lit(None, pl.Float64))
    if base is not None:
        before = _questions(base, corpus)
        table = table.join(
            before.select("id", before="question_log_probability", base_end="end"),
            on="id",
            how="left",
            maintain_order="left",
        ).with_columns(base_log_probability=pl.col("before") + pl.col("base_end"))
        # Without the end tokens: a base model that does not know the template spoils its own.
        score = pl.col("question_log_probability") - pl.col("before")
    log_probability = table["log_probability"].to_numpy()
    table = table.with_columns(
        pl.lit(model).alias("model"),
        pl.Series("trained", table["source"].is_in(list(trained_on)) & (table["role"] == "member")),
        score.alias("score"),
        *[
            pl.Series(name, chance(log_probability, samples)).fill_nan(None)
            for name, samples in CHANCES.items()
        ],
    )
    table = _tested(table, control_roles(corpus))
    table = _seen(table, corpus, scores, generations, semantic, string)
    expected = pl.DataFrame(schema={"first": pl.String, "expected": pl.Float64})
    if predicted is not None:
        writable = predicted.drop_nulls("expected")
        expected = writable.group_by(first="id").agg(pl.col("expected").sum())
    return (
        table.join(expected, on="first", how="left")
        .select(ROWS)
        .sort(
            "source",
            "role",
            "log_probability",
            "id",
            descending=[False, False, True, False],
            nulls_last=True,
        )
    )


def _questions(likelihood: pl.DataFrame, corpus: pl.DataFrame) -> pl.DataFrame:
    """id, tokens, question_log_probability, end of each question in the template."""
    unknown = likelihood.join(corpus, on="id", how="anti")
    if len(unknown):
        raise InputError(
            f"row {unknown['id'][0]} has a likelihood but is not in the corpus: the likelihoods "
            "are of another corpus; run the likelihood step again"
        )
    own = likelihood.filter("template", target="question")
    if own.is_empty():
        raise InputError(
            "the likelihood table holds no question inside the chat template, which is where row "
            "risk comes from; score a model that has a chat template"
        )
    return own.select("id", "tokens", "end", question_log_probability="log_probability")


def _first() -> pl.Expr:
    """Of equal questions of a group the first id."""
    return pl.col("id").first().over("source", "role", "question").alias("first")


def _asked(likelihood: pl.DataFrame, corpus: pl.DataFrame) -> pl.DataFrame:
    return corpus.with_columns(_first()).join(
        _questions(likelihood, corpus), on="id", how="left", maintain_order="left"
    )


def _verbatim(scores: pl.DataFrame, corpus: pl.DataFrame) -> pl.DataFrame:
    """Columns model, prefix, seed, first, hits."""
    return (
        scores.filter(pl.col("verbatim"), field="question")
        .join(corpus.select(_first(), levenshtein_best_id="id"), on="levenshtein_best_id")
        .group_by(*_CONDITION, "first")
        .agg(hits=pl.len().cast(pl.Int64))
    )


def _tested(table: pl.DataFrame, controls: Mapping[str, str]) -> pl.DataFrame:
    """With p_value and flagged, by source."""
    p_values = np.full(len(table), np.nan)
    flagged = np.zeros(len(table), bool)
    score = table["score"].to_numpy()
    known = ~np.isnan(score)
    for source, role in controls.items():
        own = (table["source"] == source).to_numpy() & known
        twins = np.sort(score[own & (table["role"] == role).to_numpy()])
        members = own & (table["role"] == "member").to_numpy()
        if not len(twins):
            continue
        above = len(twins) - np.searchsorted(twins, score[members], side="left")
        p_values[members] = (1 + above) / (1 + len(twins))
        flagged[members] = discoveries(p_values[members], DISCOVERY_RATE)
    return table.with_columns(
        pl.Series("p_value", p_values, nan_to_null=True), flagged=pl.Series(flagged)
    ).with_columns(flagged=pl.when(pl.col("p_value").is_not_null()).then("flagged"))


def _seen(
    table: pl.DataFrame,
    corpus: pl.DataFrame,
    scores: pl.DataFrame | None,
    generations: pl.DataFrame | pl.LazyFrame | None,
    semantic: float,
    string: float,
) -> pl.DataFrame:
    """With the hits of each row, and its nearest generation."""
    schema = {"verbatim_hits": pl.Int64, "near_hits": pl.Int64, "best_condition": pl.String}
    schema |= {"best_index": pl.Int64, "best_generation": pl.String}
    schema |= {"best_cosine": pl.Float32, "best_levenshtein": pl.Float64}
    if scores is None:
        return table.with_columns(pl.lit(None, kind).alias(name) for name, kind in schema.items())
    own = scores.filter(field="question")
    place = [*_CONDITION, "index"]
    # A generation speaks of the row nearest by meaning and of the one nearest as a string, which
    # may be the same; the cosine of the latter is known only then.
    by_meaning = own.filter(pl.col("match_id").is_not_null()).select(
        *place,
        "cosine",
        "levenshtein",
        id="match_id",
        verbatim=pl.col("verbatim") & (pl.col("match_id") == pl.col("levenshtein_best_id")),
    )
    by_string = own.filter(
        pl.col("levenshtein_best_id").is_not_null()
        & pl.col("levenshtein_best_id").ne_missing(pl.col("match_id"))
    ).select(
        *place,
        pl.lit(None, own.schema["cosine"]).alias("cosine"),
        "verbatim",
        levenshtein="levenshtein_best",
        id="levenshtein_best_id",
    )
    columns = [*place, "id", "cosine", "levenshtein", "verbatim"]
    pairs = (
        pl.concat([by_meaning.select(columns), by_string.select(columns)])
        .join(corpus.select("id", _first()), on="id")
        .drop("id")
        .sort("verbatim", "cosine", "levenshtein", descending=True, nulls_last=True)
        .unique([*place, "first"], keep="first", maintain_order=True)
    )
    near = (pl.col("cosine") >= semantic) | (pl.col("levenshtein") >= string) | pl.col("verbatim")
    ranked = pairs.sort(
        "verbatim",
        "cosine",
        "levenshtein",
        *place,
        descending=[True, True, True, False, False, False, False],
        nulls_last=True,
    )
    best = ranked.group_by("first", maintain_order=True).agg(
        verbatim_hits=pl.col("verbatim").sum().cast(pl.Int64),
        near_hits=near.sum().cast(pl.Int64),
        **{name: pl.col(name).first() for name in (*place, "cosine", "levenshtein")},
    )
    text = pl.lit(None, pl.String).alias("best_generation")
    if generations is not None:
        texts = (
            generations.lazy()
            .select(*place, best_generation="question")
            .join(best.lazy().select(place).unique(), on=place, how="semi")
            .collect()
        )
        best = best.join(texts, on=place, how="left")
        text = pl.col("best_generation")
    best = best.select(
        "first",
        "verbatim_hits",
        "near_hits",
        text,
        best_condition=pl.format("{}/{}/seed-{}", *_CONDITION),
        best_index="index",
        best_cosine="cosine",
        best_levenshtein="levenshtein",
    )
    searched = own.select("source", "role").unique().with_columns(searched=True)
    hits = ["verbatim_hits", "near_hits"]
    return (
        table.join(best, on="first", how="left", maintain_order="left")
        .join(searched, on=["source", "role"], how="left", maintain_order="left")
        .with_columns(pl.when("searched").then(pl.col(hits).fill_null(0)))
    )
