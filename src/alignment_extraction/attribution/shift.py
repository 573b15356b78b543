"""Likelihood before and after training, members against twins: a difference in differences.

The paper (arXiv 2510.18554, section 5) scores the questions of an RL data set under the base model
and under the model after RL. What training did to any text of the kind shows in the twins too; what
it did to the members beyond that is memory.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.attribution.rows import controls
from alignment_extraction.files import InputError
from alignment_extraction.statistics import (
    cluster_bootstrap,
    cluster_sums,
    detectable,
    named_seed,
)

Array = np.ndarray[Any, Any]

THRESHOLDS = (-5, -6, -7, -8)
"""log10 of the paper's probabilities of a question, counted from above."""

SHIFT = pl.Schema(
    {
        "model": pl.String(),
        "base": pl.String(),
        "source": pl.String(),
        "target": pl.String(),
        "template": pl.Boolean(),
        "per": pl.String(),
        "members": pl.Int64(),
        "twins": pl.Int64(),
        "member_change": pl.Float64(),
        "twin_change": pl.Float64(),
        "difference": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "detectable": pl.Float64(),
        "resampled": pl.String(),
    }
)


def compared(
    likelihood: pl.DataFrame, corpus: pl.DataFrame, base: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The scored members of each source and the rows they are held against.

    Like is compared with like: where rows have templates, only those of templates that both sides
    have. Twins are weighted so that each template weighs as much as it does among the members.

    Args:
        likelihood: of one model.
        corpus: in the corpus schema.
        base: likelihood of the model before training, of the same rows.

    Returns:
        The columns of `likelihood`, base_log_probability (null without a base), source, role,
        member (Boolean), weight (1 for members; sums to the members' number over the twins),
        cluster (what is resampled together), resampled (`template`; `pair` or `row` where there are
        fewer than two templates). Rows that do not fit a context are left out, as are those without
        tokens.

    Raises:
        InputError: the two models split a text into different numbers of tokens.
    """
    member = pl.col("role") == "member"
    about = (
        corpus.with_columns(controls(corpus))
        .filter(pl.col("control").any().over("source") & (member | pl.col("control")))
        .select(
            *("id", "source", "role", "pair"),
            member=member,
            pattern="template",
            # Rows without a template can be held against all members alone.
            stratum=pl.when(
                ~(pl.col("control") & pl.col("template").is_null()).any().over("source")
            ).then("template"),
        )
    )
    keys = ["id", "target", "template"]
    table = likelihood.filter(pl.col("tokens") > 0).drop_nulls("log_probability")
    if base is None:
        table = table.with_columns(base_log_probability=pl.lit(None, pl.Float64))
    else:
        before = base.drop_nulls("log_probability").select(
            *keys, base_log_probability="log_probability", base_tokens="tokens"
        )
        table = table.join(before, on=keys, maintain_order="left")
        other = table.filter(pl.col("tokens") != pl.col("base_tokens"))
        if len(other):
            raise InputError(
                f"the {other['target'][0]} of row {other['id'][0]} has {other['tokens'][0]} tokens "
                f"under the model and {other['base_tokens'][0]} under its base; name the model "
                "that it was trained from, which has the same vocabulary"
            )
        table = table.drop("base_tokens")
    table = table.join(about, on="id", maintain_order="left")
    kind = ["source", "target", "template"]
    stratum = [*kind, "stratum"]
    own = pl.col("member").sum().over(stratum)
    others = (~pl.col("member")).sum().over(stratum)
    table = table.filter((own > 0) & (others > 0))
    resampled = (
        pl.when(pl.col("pattern").drop_nulls().n_unique().over(kind) > 1)
        .then(pl.lit("template"))
        .when(pl.col("pair").is_not_null().all().over(kind))
        .then(pl.lit("pair"))
        .otherwise(pl.lit("row"))
    )
    return (
        table.with_columns(
            weight=pl.when("member").then(1.0).otherwise(own / others), resampled=resampled
        )
        .with_columns(
            cluster=pl.when(pl.col("resampled") == "template")
            .then(pl.coalesce("pattern", "id"))
            .when(pl.col("resampled") == "pair")
            .then("pair")
            .otherwise("id")
        )
        .drop("pattern", "stratum", "pair")
    )


def shift(
    model: str,
    base_name: str,
    likelihood: pl.DataFrame,
    base: pl.DataFrame,
    corpus: pl.DataFrame,
    seed: int,
) -> pl.DataFrame:
    """How much more training changed the members' log-likelihood than their twins'.

    Args:
        model: name of the model after training.
        base_name: name of the one before.
        likelihood: of the model.
        base: of the one before.
        corpus: in the corpus schema.
        seed: of the resampling.

    Returns:
        Columns `SHIFT`, for each source x target x template (whether the chat template stood around
        it) x per (`question`: the whole text, in nats; `token`: its mean): members, twins (rows of
        each), member_change, twin_change (mean log-likelihood after less before), difference (of
        these two) with its interval, detectable (the difference that would have been seen in 80 %
        of studies like this one; see `statistics.detectable`), resampled. `question` is a
        whole text, also where the target is an answer.

    Raises:
        InputError: see `compared`.
    """
    table = compared(likelihood, corpus, base).with_columns(
        question=pl.col("log_probability") - pl.col("base_log_probability")
    )
    table = table.with_columns(token=pl.col("question") / pl.col("tokens"))
    found = []
    for (source, target, template), own in sorted(table.group_by("source", "target", "template")):
        stream = named_seed(seed, f"shift/{model}/{base_name}/{source}/{target}/{template}")
        for per in ("question", "token"):
            numbers = _difference(own, per, stream)
            about = {"model": model, "base": base_name, "source": source, "target": target}
            found.append(about | {"template": template, "per": per} | numbers)
    return pl.DataFrame(found, schema=SHIFT).fill_nan(None)


def _difference(own: pl.DataFrame, column: str, seed: int) -> dict[str, Any]:
    change, weight = own[column].to_numpy(), own["weight"].to_numpy()
    member = own["member"].to_numpy()
    ours, theirs = weight * member, weight * ~member
    sums = cluster_sums(own["cluster"].to_numpy(), change * ours, ours, change * theirs, theirs)

    def means(totals: Array) -> Array:
        # A resample of single rows may miss one side.
        with np.errstate(invalid="ignore", divide="ignore"):
            first = totals[..., 0] / totals[..., 1]
            second = totals[..., 2] / totals[..., 3]
        return np.stack([first, second, first - second], axis=-1)

    found = cluster_bootstrap(sums, means, seed)
    return {
        "members": int(member.sum()),
        "twins": int((~member).sum()),
        "member_change": float(found.estimate[0]),
        "twin_change": float(found.estimate[1]),
        "difference": float(found.estimate[2]),
        "low": float(found.low[2]),
        "high": float(found.high[2]),
        "detectable": float(detectable(found.error[2], len(sums))),
        "resampled": own["resampled"][0],
    }


def tails(
    model: str,
    base_name: str | None,
    likelihood: pl.DataFrame,
    corpus: pl.DataFrame,
    base: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """How many members and twins have more than a given probability, before and after training.

    The paper's bars (its figure of RL questions above 10^-5 to 10^-8), with the twins beside them.

    Args:
        model: name of the model after training.
        base_name: name of the one before.
        likelihood: of the model.
        corpus: in the corpus schema.
        base: of the one before.

    Returns:
        Columns model, base, source, role, target, template, threshold (log10 of the probability of
        the whole text), rows, before (null without a base), after: counts of the rows that
        `compared` gives.

    Raises:
        InputError: see `compared`.
    """
    keys = ["source", "role", "target", "template"]
    table = compared(likelihood, corpus, base)
    counts: Mapping[str, str] = {"before": "base_log_probability", "after": "log_probability"}
    found = [
        table.group_by(keys).agg(
            pl.lit(threshold, pl.Int64).alias("threshold"),
            pl.len().cast(pl.Int64).alias("rows"),
            *[
                (pl.col(column) > threshold * np.log(10)).sum().cast(pl.Int64).alias(name)
                for name, column in counts.items()
            ],
        )
        for threshold in THRESHOLDS
    ]
    before = pl.col("before") if base is not None else pl.lit(None, pl.Int64)
    return (
        pl.concat(found)
        .select(
            pl.lit(model).alias("model"),
            pl.lit(base_name, pl.String).alias("base"),
            *keys,
            "threshold",
            "rows",
            before.alias("before"),
            "after",
        )
        .sort(*keys, "threshold", descending=[False] * 4 + [True])
    )
