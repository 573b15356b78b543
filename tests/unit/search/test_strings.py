"""The two similarities' definitions."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alignment_extraction.search.string_search import SCORERS


@pytest.mark.parametrize(
    ("left", "right", "levenshtein", "indel"),
    [
        ("kitten", "sitting", 1 - 3 / 7, 1 - 5 / 13),
        ("same", "same", 1, 1),
        ("", "", 1, 1),
        ("", "abc", 0, 0),
        ("😀b", "😀c", 0.5, 0.5),
        ("abc", "xyz", 0, 0),
    ],
)
def test_definitions(left: str, right: str, levenshtein: float, indel: float) -> None:
    assert SCORERS["levenshtein"](left, right) == pytest.approx(levenshtein)
    assert SCORERS["indel"](left, right) == pytest.approx(indel)


@given(st.text(max_size=30), st.text(max_size=30))
@example("a" * 5000, "a" * 4999 + "b")
def test_one_is_equality(left: str, right: str) -> None:
    for scorer in SCORERS.values():
        assert (scorer(left, right) == 1) == (left == right)
