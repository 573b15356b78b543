"""The report's words on membership and predictions follow from the tables."""

import polars as pl
import pytest

from alignment_extraction.likelihoods import membership
from alignment_extraction.report.likelihood import (
    discoverable_words,
    membership_words,
    sections,
)

PAIR = {"pair_before": pl.String, "pair_after": pl.String}


def attacked(after: float, before: float, held_out: int = 200) -> pl.DataFrame:
    """Every attack with a lower bound of the AUC of `after` or `before`, by side."""
    rows = [
        {
            "pair_before": "base",
            "pair_after": "sft",
            "target": "question",
            "template": True,
            "group": "sft.member",
            "control": "sft.fresh-instance",
            "templates": 3,
            "side": side,
            "attack": attack,
            "members": 300,
            "held_out": held_out,
            "auc": low + 0.05,
            "auc_low": low,
            "auc_high": low + 0.1,
            "false_positives": held_out // 100,
            "tpr": 0.25,
            "tpr_low": 0.0,
            "tpr_high": 0.5,
        }
        for side, low in (("before", before), ("after", after))
        for attack in membership.ATTACKS
        if (side, attack) != ("before", "ref")
    ]
    return pl.DataFrame(rows, schema={**PAIR, **membership.SCHEMA})


@pytest.mark.parametrize(
    ("after", "before", "says"),
    [
        (0.45, 0.45, "No membership was shown."),
        (0.8, 0.45, "better than chance by 5 of 5 attacks (AUC 0.850 to 0.850)"),
        (0.8, 0.45, "The difference came with the training."),
        (0.8, 0.6, "The two sets differ in kind"),
        (0.8, 0.3, "The two sets differ in kind"),
        (0.8, 0.45, "sft.fresh-instance (3 templates that both have): the"),
    ],
)
def test_what_can_be_concluded(after: float, before: float, says: str) -> None:
    (sentence,) = membership_words({"membership": attacked(after, before)})
    assert says in sentence
    assert "The 1 % rests on 200 held-out items, of which 2 may be taken" in sentence
    assert "no lower bound above 0" in sentence


def test_enough_held_out_items() -> None:
    (sentence,) = membership_words({"membership": attacked(0.8, 0.45, held_out=500)})
    assert sentence.endswith(
        "The 1 % rests on 500 held-out items, of which 5 may be taken for members."
    )


def test_nothing_held_out_and_no_likelihood() -> None:
    (sentence,) = membership_words({"membership": attacked(0.8, 0.45).clear()})
    assert sentence.startswith("Not measured: the texts that were scored are not both")
    (sentence,) = membership_words({})
    assert sentence.startswith("Not measured: the study compares no likelihoods")
    (sentence,) = discoverable_words({})
    assert sentence.startswith("Not predicted: the study computes no likelihoods")


def test_rows_have_the_model_before_beside_the_one_after() -> None:
    rows = {
        row["attack"]: row for row in sections({"membership": attacked(0.8, 0.45)})["membership"]
    }
    assert len(rows) == 5
    assert rows["Min-K %"]["auc"] == "0.850 (0.800 to 0.900)"
    assert rows["Min-K %"]["auc_before"] == "0.500 (0.450 to 0.550)"
    assert rows["loss against the model before (ref)"]["auc_before"] == "\N{EN DASH}"
    assert rows["Min-K %"]["tpr"] == "25 % (0 % to 50 %)"


def test_cells_without_a_prediction_are_counted_by_reason() -> None:
    cells = pl.DataFrame(
        {
            "model": ["a", "b", "c"],
            "prefix": ["user"] * 3,
            "seed": [0] * 3,
            "reason": ["prefix", "model", "prefix"],
        }
    )
    empty = pl.DataFrame(schema={"model": pl.String, "prefix": pl.String, "seed": pl.Int64})
    tables = {
        "discoverable_cells": cells,
        "discoverable": empty,
        "discoverable_calibration": empty,
    }
    assert discoverable_words(tables) == [
        "1 cell has no prediction: no likelihood was computed under the model.",
        "2 cells have no prediction: the likelihood was computed after another prefix.",
    ]
