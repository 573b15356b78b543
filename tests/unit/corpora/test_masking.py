"""Masking of numbers and names."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_extraction.corpora.masking import NAME, NUMBER, masked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He buys 1,000 pens at 10:30.", f"He buys {NUMBER} pens at {NUMBER}."),
        ("Then Mary Ann sees Bob. She runs", f"Then {NAME} sees {NAME}. She runs"),
        ("HELLO to the EU", "HELLO to the EU"),
        ("  two\n\n lines ", "two lines"),
        ("is it?  Yes", "is it? Yes"),
        ("", ""),
    ],
)
def test_numbers_and_names_go(text: str, expected: str) -> None:
    assert masked(pl.Series([text])).to_list() == [expected]


@given(st.integers(0, 10**6), st.sampled_from(["Ann", "Bob Smith", "Craig"]))
def test_instances_of_a_template_are_equal(number: int, name: str) -> None:
    texts = pl.Series([f"What does {name} pay for {number} pens?", "What does Zoe pay for 3 pens?"])
    first, second = masked(texts).to_list()
    assert first == second
