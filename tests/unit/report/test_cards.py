"""The block for a model card."""

import yaml

from alignment_extraction.report.cards import citation, model_card
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import verdict
from tests.report_study import PROVENANCE, SETTINGS, results


def test_markdown_and_yaml_have_the_numbers_intervals_and_hashes() -> None:
    found = verdict(results(), SETTINGS)
    text, numbers = model_card(found, SETTINGS, PROVENANCE)
    assert "| copies that training caused, verbatim | 2.0 % (1.6 to 2.4) |" in text
    assert PROVENANCE["corpus.parquet"] in text
    values = yaml.safe_load(numbers)["memorisation"]
    assert values["attributable_verbatim_low"] < values["attributable_verbatim"]
    assert (values["generations"], values["twins"]) == (10_000, 1300)
    assert values["provenance"] == PROVENANCE
    other, _ = model_card(found, SETTINGS, PROVENANCE, "rl-q8")
    assert "2.8 % (2.4 to 3.2)" in other


def test_a_card_of_nothing() -> None:
    text, numbers = model_card(verdict(Results({}), SETTINGS), SETTINGS, PROVENANCE)
    assert "Not measured" in text
    assert yaml.safe_load(numbers)["memorisation"]["study"] == "invented"


def test_values_cannot_break_the_table() -> None:
    text, _ = model_card(verdict(results(), SETTINGS), SETTINGS, {"a|b": "c\nd"})
    assert "- a\\|b: `c d`" in text


def test_a_citation_names_number_interval_study_and_version() -> None:
    text = citation(verdict(results(), SETTINGS), SETTINGS, PROVENANCE)
    for part in (
        "210 (165 to 255)",
        "95 % intervals",
        "invented",
        "version 0.2.0",
        "10,000 generations",
    ):
        assert part in text
    assert PROVENANCE["corpus.parquet"] not in text
