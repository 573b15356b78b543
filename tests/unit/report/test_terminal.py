"""The first screen in a terminal."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from alignment_extraction.report.tables import Results
from alignment_extraction.report.terminal import show
from alignment_extraction.report.verdict import verdict
from tests.report_study import SETTINGS, results


def printed(study: Results, width: int = 100, *, masked: bool = False) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    show(verdict(study, SETTINGS), Path("results/x/report.html"), console, masked=masked)
    return console.export_text()


def test_it_says_what_the_page_says() -> None:
    text = printed(results(), 300)
    assert "Of 1,300 training rows, 210 (165 to 255) have" in text
    assert "2.0 % (1.6 to 2.4)" in text
    assert "Limit: sft-q8: rows at risk in a million samples: 210 (165 to 255), at most 100" in text
    assert "written verbatim" in text
    assert text.rstrip().endswith("Report: results/x/report.html")
    assert "<script>" not in text


def test_hostile_texts_are_plain_text() -> None:
    text = printed(results(), 300)
    assert "onerror" in text
    assert "\u202e" not in text


def test_masked_it_has_no_text() -> None:
    text = printed(results(), 300, masked=True)
    assert "crates" not in text
    assert "onerror" not in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_too_long(width: int) -> None:
    assert max(len(line.rstrip()) for line in printed(results(), width).splitlines()) <= width


def test_nothing_at_all() -> None:
    assert "nothing to judge" in printed(Results({}))
