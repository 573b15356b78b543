"""The block for a model card."""

import yaml

from alignment_extraction.report.numbers import model_card
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import verdict
from tests.report_study import PROVENANCE, SETTINGS, results


def test_markdown_and_yaml_have_the_numbers_intervals_and_hashes() -> None:
    found = verdict(results(), SETTINGS)
    text, numbers = model_card(found, PROVENANCE)
    assert "| copies that training caused, verbatim | 2.0 % (1.6 to 2.4) |" in text
    assert PROVENANCE["sha256 of sft-q8"] in text
    values = yaml.safe_load(numbers)["memorisation"]
    assert values["attributable_verbatim_low"] < values["attributable_verbatim"]
    assert (values["generations"], values["twins"]) == (10_000, 1300)
    assert values["provenance"] == PROVENANCE
    assert "rl-q8: leaks, 204 (163 to 245) rows at risk, 2.8 % (2.4 to 3.2) copies." in text


def test_a_card_of_nothing() -> None:
    text, numbers = model_card(verdict(Results({}), SETTINGS), PROVENANCE)
    assert "Not measured" in text
    assert yaml.safe_load(numbers)["memorisation"]["study"] == "invented"


def test_values_cannot_break_the_table() -> None:
    text, _ = model_card(verdict(results(), SETTINGS), {"a|b": "c\nd"})
    assert "- a\\|b: `c d`" in text
