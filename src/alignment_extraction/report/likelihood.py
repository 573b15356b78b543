"""What the report says of membership by likelihood and of discoverable extraction."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from scipy.stats import binom

from alignment_extraction.extraction.scores import CELL_KEYS
from alignment_extraction.figures.likelihood import PAIR
from alignment_extraction.figures.membership import ATTACK_LABELS
from alignment_extraction.figures.style import percent
from alignment_extraction.likelihoods.discoverable import REASONS
from alignment_extraction.likelihoods.membership import least_held_out

_COMPARISON = [*PAIR, "group", "control", "target", "template"]


def sections(tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """Variables of `templates/likelihood.html`, for any study.

    Returns:
        `membership`: rows of the table, as text; `membership_words`, `discoverable_words`:
        sentences on what can be concluded and what not; `discoverable`: rows of the table.
    """
    return {
        "membership": _membership_rows(tables["membership"]) if "membership" in tables else [],
        "membership_words": membership_words(tables),
        "discoverable": _discoverable_rows(tables["discoverable"])
        if "discoverable" in tables
        else [],
        "discoverable_words": discoverable_words(tables),
    }


def membership_words(tables: Mapping[str, pl.DataFrame]) -> list[str]:
    """One sentence for each comparison of members with held-out questions in the template.

    Without a likelihood or held-out items, the one sentence that says so.
    """
    table = tables.get("membership")
    if table is None:
        return ["Not measured: the study compares no likelihoods (`likelihood` in params.yaml)."]
    if table.is_empty():
        return [
            "Not measured: the texts that were scored are not both of members and of held-out "
            "items, and without held-out items nobody can say how many false positives an attack "
            "has."
        ]
    sentences = []
    questions = table.filter("template", target="question")
    for key, rows in questions.group_by(_COMPARISON, maintain_order=True):
        before, after, group, control = key[:4]
        first = rows.row(0, named=True)
        told = {
            "after": _attacks(rows.filter(side="after"), pl.col("auc_low") > 0.5),
            "before": _attacks(
                rows.filter(side="before"),
                (pl.col("auc_low") > 0.5) | (pl.col("auc_high") < 0.5),
            ),
        }
        templates = f" ({first['templates']} templates that both have)" * (first["templates"] > 0)
        text = (
            f"{group} against {control}{templates}: the likelihoods of {after} tell members from "
            f"held-out questions better than chance by {told['after']}; those of {before}, the "
            f"model before training, tell the two apart, either way, by {told['before']}. "
        )
        if told["after"] == "no attack":
            text += "No membership was shown. "
        elif told["before"] == "no attack":
            text += "The difference came with the training. "
        else:
            text += (
                "The two sets differ in kind, so that only what the model after training tells "
                "beyond the one before is membership (`ref`). "
            )
        text += (
            f"The 1 % rests on {first['held_out']:,} held-out items, of which "
            f"{first['false_positives']} may be taken for members"
        )
        few = first["held_out"] < least_held_out()
        few_words = (
            f": fewer than {least_held_out()}, so that the rate of members found there has no "
            "lower bound above 0"
        )
        sentences.append(text + (few_words if few else "") + ".")
    return sentences


def _attacks(rows: pl.DataFrame, which: pl.Expr) -> str:
    better = rows.filter(which)
    if better.is_empty():
        return "no attack"
    aucs = better["auc"].to_list()
    return f"{len(better)} of {len(rows)} attacks (AUC {min(aucs):.3f} to {max(aucs):.3f})"


def _membership_rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    """A row for each comparison x attack, the model before training beside the one after."""
    keys = [*_COMPARISON, "attack"]
    before = table.filter(side="before").select(*keys, "auc", "auc_low", "auc_high")
    after = table.filter(side="after").join(
        before, on=keys, how="left", suffix="_before", maintain_order="left"
    )
    return [
        {
            **row,
            "attack": ATTACK_LABELS[row["attack"]],
            "auc": _auc(row, ""),
            "auc_before": "–" if row["auc_before"] is None else _auc(row, "_before"),  # noqa: RUF001
            "tpr": f"{percent(row['tpr'])} ({percent(row['tpr_low'])} to "
            f"{percent(row['tpr_high'])})",
        }
        for row in after.iter_rows(named=True)
    ]


def _auc(row: Mapping[str, Any], side: str) -> str:
    value, low, high = (row[f"{name}{side}"] for name in ("auc", "auc_low", "auc_high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def discoverable_words(tables: Mapping[str, pl.DataFrame]) -> list[str]:
    """Whether predictions hold, cell by cell, and which cells have none and why."""
    cells = tables.get("discoverable_cells")
    if cells is None:
        return ["Not predicted: the study computes no likelihoods (`likelihood` in params.yaml)."]
    sentences = []
    bins = tables["discoverable_calibration"]
    for key, rows in tables["discoverable"].group_by(CELL_KEYS, maintain_order=True):
        model, prefix, seed = key
        own = bins.filter(model=model, prefix=prefix, seed=seed)
        drawn = rows.filter(pl.col("samples") == pl.col("drawn"))
        right = drawn.filter(pl.col("expected_hits").is_between("hits_low", "hits_high"))
        left_out = int(drawn["left_out"].sum())
        text = (
            f"{model}, prefix {prefix}, seed {seed}, n = {drawn['drawn'][0]:,}: the number of "
            f"verbatim hits is as predicted in {len(right)} of {len(drawn)} groups, and in "
            f"{int(own['agrees'].sum())} of {len(own)} bins of items (about 95 % is right)"
        )
        words = f"; {left_out:,} items are too long to be written and left out"
        sentences.append(text + (words if left_out else "") + ".")
    missing = cells.drop_nulls("reason").group_by("reason").len().sort("reason")
    sentences += [
        f"{row['len']} {'cell has' if row['len'] == 1 else 'cells have'} no prediction: "
        f"{REASONS[row['reason']]}."
        for row in missing.iter_rows(named=True)
    ]
    return sentences


def _expected_hits(row: Mapping[str, Any]) -> str:
    """Expected hits with the range of 95 % of the hits to be seen.

    Samples are independent and each hits at most one question: the hits are binomial.
    """
    n, mean = row["samples"], row["expected_hits"]
    low, high = (binom.ppf(q, n, min(1, mean / n)) for q in (0.025, 0.975))
    return f"{mean:,.1f} ({low:,.0f} to {high:,.0f})"


def _discoverable_rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Of each cell and group the samples drawn, and 10 times as many."""
    keys = [*CELL_KEYS, "reference"]
    most = pl.col("samples") == pl.col("samples").max().over(keys)
    return [
        {
            **row,
            "expected_distinct": f"{row['expected_distinct']:,.1f} ({row['distinct_low']:,} to "
            f"{row['distinct_high']:,})",
            "expected_hits": _expected_hits(row),
            "observed_hits": "–"  # noqa: RUF001
            if row["hits"] is None
            else f"{row['hits']:,} ({row['hits_low']:,.1f} to {row['hits_high']:,.1f})",
        }
        for row in table.filter((pl.col("samples") == pl.col("drawn")) | most).iter_rows(named=True)
    ]
