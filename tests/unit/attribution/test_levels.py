"""Who is compared with whom."""

import numpy as np
import polars as pl

from alignment_extraction.attribution.levels import (
    BOTH,
    MEMBER_ONLY,
    TWIN_ONLY,
    comparisons,
)
from tests.attributed_study import relabelled
from tests.unit.attribution.conftest import corpus_of

PAIRED = [
    ("a", "member", "t", "p"),
    ("b", "twin", "t", "p"),
    ("c", "member", "t", None),
    ("d", "member", "u", None),
    ("e", "held-out", "v", None),
    ("f", "held-out", "t", None),
    ("g", "control", "t", None),
]


def test_levels_are_never_mixed() -> None:
    rows, templates = comparisons(corpus_of(PAIRED))
    assert (rows.level, rows.other, rows.ids.to_list()) == ("rows", "twin", ["a", "c", "b"])
    assert rows.strata().tolist() == [BOTH, MEMBER_ONLY]
    assert rows.weight == 2
    assert (templates.level, templates.other) == ("templates", "held-out")
    assert sorted(templates.ids.to_list()) == ["a", "c", "d", "e"]
    assert (templates.blocks, templates.weight) == (3, 3)
    assert sorted(templates.strata()) == [MEMBER_ONLY, MEMBER_ONLY, TWIN_ONLY]


def test_held_out_rows_stand_in_for_twins() -> None:
    corpus = corpus_of(
        [("a", "member", None, None), ("b", "held-out", None, None), ("c", "held-out", "t", None)]
    )
    (rows,) = comparisons(corpus)
    assert (rows.level, rows.other, rows.ids.to_list()) == ("rows", "held-out", ["a", "b"])
    assert rows.blocks == 2


def test_nothing_to_compare() -> None:
    assert comparisons(corpus_of([("a", "member", "t", None), ("b", "control", "t", None)])) == []


def test_another_toss_keeps_pairs_and_numbers_of_blocks() -> None:
    corpus = corpus_of(
        [(f"{role}{at}", role, "t", f"p{at}") for at in range(50) for role in ("member", "twin")]
        + [(f"h{at}", "held-out", f"h{at // 2}", None) for at in range(60)]
        + [(f"m{at}", "member", f"u{at // 2}", None) for at in range(40)]
    )
    for comparison in comparisons(corpus):
        other = relabelled(comparison, 3)
        assert (other.member != comparison.member).any()
        assert sorted(other.strata()) == sorted(comparison.strata())
        by_block = pl.DataFrame({"block": other.block, "member": other.member})
        if comparison.level == "rows":
            assert by_block.group_by("block").agg(pl.col("member").sum())["member"].to_list() == (
                [1] * 50
            )
        assert np.array_equal(relabelled(comparison, 3).member, other.member)
