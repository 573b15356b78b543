"""Likelihood before and after training, members against twins: a difference in differences.

The paper (arXiv 2510.18554, section 5) scores the questions of an RL data set under the base model
and under the model after RL. What training did to any text of the kind shows in the twins too; what
it did to the members beyond that is memory.
"""

import numpy as np
import polars as pl

from alignment_extraction import statistics
from alignment_extraction.attribution.levels import compared_rows
from alignment_extraction.attribution.tables import SCHEMAS
from alignment_extraction.statistics import Array

THRESHOLDS = (-5, -6, -7, -8)
"""log10 of the paper's probabilities of a question, counted from above."""

COMPARED = ["model", "base", "source", "target", "template"]
"""Columns of `compared` within which rows are compared; template: whether the chat template stood
around the text."""


def compared(
    model: str,
    likelihood: pl.DataFrame,
    corpus: pl.DataFrame,
    base_name: str | None = None,
    base: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The scored members of each source and the rows they are held against.

    As at the level of rows (`levels.comparisons`); twins are weighted so that each template weighs
    as much as it does among the members.

    Args: name of the model, its likelihood, the corpus; name and likelihood of its base.

    Returns:
        The columns of `likelihood`, model, base, base_log_probability (null without a base),
        source, role, member (Boolean), weight (1 for members; sums to the members' number over the
        twins), cluster (what is resampled together), resampled (`template`; `pair` or `row` where
        there are fewer than two templates). Rows that do not fit a context are left out, as are
        those without tokens.
    """
    keys = ["id", "target", "template"]
    table = likelihood.filter(pl.col("tokens") > 0).drop_nulls("log_probability")
    if base is None:
        table = table.with_columns(base_log_probability=pl.lit(None, pl.Float64))
    else:
        before = base.select(*keys, base_log_probability="log_probability").drop_nulls()
        table = table.join(before, on=keys, maintain_order="left")
    about = corpus.select("id", "source", "role", "pair", pattern="template")
    table = table.join(about.join(compared_rows(corpus), on="id"), on="id", maintain_order="left")
    kind = ["source", "target", "template"]
    own, others = (
        side.sum().over(*kind, "pattern") for side in (pl.col("member"), ~pl.col("member"))
    )
    templates = pl.col("pattern").drop_nulls().n_unique().over(kind) > 1
    paired = pl.col("pair").is_not_null().all().over(kind)
    without = pl.when(paired).then(pl.lit("pair")).otherwise(pl.lit("row"))
    single = pl.when(paired).then("pair").otherwise("id")
    return (
        table.filter((own > 0) & (others > 0))
        .with_columns(
            model=pl.lit(model),
            base=pl.lit(base_name, pl.String),
            weight=pl.when("member").then(1.0).otherwise(own / others),
            resampled=pl.when(templates).then(pl.lit("template")).otherwise(without),
            cluster=pl.when(templates).then(pl.coalesce("pattern", "id")).otherwise(single),
        )
        .drop("pattern", "pair")
    )


def shift(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The table `shift`: how much more training changed the members' log-likelihood than twins'.

    For each source x target x template x per, from what is `compared` with a base.
    """
    change = pl.col("log_probability") - pl.col("base_log_probability")
    table = table.with_columns(question=change, token=change / pl.col("tokens"))
    found = []
    for key, own in sorted(table.group_by(COMPARED)):
        stream = statistics.named_seed(seed, "/".join(["shift", *map(str, key)]))
        counts = (own["member"].sum(), (~own["member"]).sum())
        for per in ("question", "token"):
            row = (*key, per, *counts, *_difference(own, per, stream), own["resampled"][0])
            found.append(row)
    return pl.DataFrame(found, schema=SCHEMAS["shift"], orient="row").fill_nan(None)


def _difference(own: pl.DataFrame, column: str, seed: int) -> tuple[float, ...]:
    """Columns member_change to detectable of the table.

    A few templates can be alike by luck, so of two intervals it is the wider: over templates, or
    over the rows of these templates that lots chose (a template's mean is the same on both sides).
    """
    weight, member = own["weight"].to_numpy(), own["member"].to_numpy()
    ours, theirs = weight * member, weight * ~member
    within = own.select(pl.col(column) - pl.col(column).mean().over("cluster"))[column]

    def means(totals: Array) -> Array:
        # A resample of single rows may miss one side.
        with np.errstate(invalid="ignore", divide="ignore"):
            first = totals[..., 0] / totals[..., 1]
            second = totals[..., 2] / totals[..., 3]
        return np.stack([first, second, first - second], axis=-1)

    ends, lots = [], [(own["id"], within)] * (own["resampled"][0] == "template")
    for clusters, values in (*lots, (own["cluster"], own[column])):
        columns = (values.to_numpy() * ours, ours, values.to_numpy() * theirs, theirs)
        sums = statistics.cluster_sums(clusters.to_numpy(), *columns)
        found, error = statistics.cluster_bootstrap(sums, means, seed)
        ends.append((-found.low[2], found.high[2], statistics.detectable(error[2], len(sums))))
    low, high, least = np.max(ends, axis=0)
    return (*found.estimate, -low, high, least)


def tails(table: pl.DataFrame) -> pl.DataFrame:
    """The table `tails`: how many members and twins have more than a given probability.

    Before and after training, of the rows `compared`: the paper's bars (its figure of RL questions
    above 10^-5 to 10^-8), with the twins beside them.
    """
    keys = ["model", "base", "source", "role", "target", "template"]
    after, before = pl.col("log_probability"), pl.col("base_log_probability")
    reached = pl.col("threshold") * np.log(10)
    found = (
        table.join(pl.DataFrame({"threshold": THRESHOLDS}), how="cross")
        .group_by(*keys, "threshold")
        .agg(
            rows=pl.len(),
            before=pl.when(before.is_not_null().any()).then((before > reached).sum()),
            after=(after > reached).sum(),
        )
    )
    return found.sort(*keys, "threshold", descending=[False] * 6 + [True]).cast(SCHEMAS["tails"])
