"""Numbers are written in one way."""

import math

import pytest

from alignment_extraction.report import wording
from alignment_extraction.statistics import Interval


@pytest.mark.parametrize(
    ("estimate", "unit", "text"),
    [
        ((51, 39, 66), "count", "51 (39 to 66)"),
        ((2650, 2600.4, 2700.6), "count", "2,650 (2,600 to 2,701)"),
        ((0, 0, 3), "count", "0 (at most 3)"),
        ((0.042, 0.036, 0.049), "rate", "4.2 % (3.6 to 4.9)"),
        ((0.164, 0.138, 0.189), "rate", "16.4 % (13.8 to 18.9)"),
        ((0.33, 0.30, 0.36), "rate", "33 % (30 to 36)"),
        ((0.0, 0.0, 0.00037), "rate", "0 % (at most 0.037)"),
        ((0.0, -0.002, 0.002), "rate", "0.00 % (\u22120.20 to 0.20)"),
        ((-0.07, -0.12, -0.02), "points", "\u22127 points (\u221212 to \u22122)"),
        ((0.507, 0.481, 0.531), "number", "0.507 (0.481 to 0.531)"),
        ((12, 12, 12), "count", "12"),
        ((12, math.nan, math.nan), "count", "12"),
        ((math.nan, 0, 1), "rate", "\u2013"),
        ((0.001, 0.0008, 0.0011), "count", "< 0.01"),
    ],
)
def test_an_estimate_with_its_interval(
    estimate: tuple[float, float, float], unit: str, text: str
) -> None:
    assert wording.interval(Interval(*estimate), unit) == text


def test_no_estimate_is_a_dash() -> None:
    assert (
        wording.interval(None, "rate") == wording.count(None) == wording.percent(None) == "\u2013"
    )


def test_counts_and_percents() -> None:
    assert [wording.count(v) for v in (51, 2650, 1234.5, 0.31, 2.34, 0, 0.001)] == [
        "51", "2,650", "1,234", "0.31", "2.3", "0", "< 0.01",
    ]  # fmt: skip
    assert [wording.percent(v) for v in (0.0421, 0.000034, 1, 0.1, 0)] == [
        "4.2 %", "0.0034 %", "100 %", "10 %", "0 %",
    ]  # fmt: skip


def test_cells_of_a_table() -> None:
    row = {"a": 0.25, "low": 0.2, "high": 0.3, "n": 1200, "yes": True, "none": None, "text": "x"}
    columns = ("a", "a:rate", "a:percent", "n", "yes", "none", "text")
    assert [wording.cell(row, column) for column in columns] == [
        "0.25", "25 % (20 to 30)", "25 %", "1,200", "yes", "\u2013", "x",
    ]  # fmt: skip


def test_words() -> None:
    assert wording.samples(1e6) == "a million"
    assert wording.samples(10_000) == "10,000"
    assert wording.plural(1, "row") == "1 row"
    assert wording.plural(2650, "row") == "2,650 rows"
    assert [wording.listed(list(names)) for names in ("", "a", "ab", "abc")] == [
        "", "a", "a and b", "a, b and c",
    ]  # fmt: skip


def test_hidden_characters_are_shown() -> None:
    assert wording.visible("a\u202eb\x00\nc") == "a\u27e8U+202E\u27e9b\u27e8U+0000\u27e9\nc"
