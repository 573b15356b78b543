"""The report: what it says, that it is self-contained, and that it runs nothing of a stranger's."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alignment_extraction.extraction import headline
from alignment_extraction.figures.drawing import FIGURES, draw
from alignment_extraction.files import InputError, read_json
from alignment_extraction.report import page as report
from tests.tracked_study import settings, write_results

HOSTILE = '<script>alert(1)</script>\u202e & "quoted" <img src=x onerror=alert(2)>'


def build(folder: Path, output: Path, **changes: pl.DataFrame) -> str:
    """Write a synthetic study, its figures and its report; give the page."""
    write_results(folder, settings())
    tables = {path.stem: pl.read_parquet(path) for path in folder.glob("*.parquet")} | changes
    draw(tables, settings().thresholds, folder / "drawn")
    return write(folder, output, **changes)


def write(folder: Path, output: Path, **changes: pl.DataFrame) -> str:
    """Write the report of a study that `build` made, with other tables; give the page."""
    study = settings()
    tables = {path.stem: pl.read_parquet(path) for path in folder.glob("*.parquet")} | changes
    metrics = read_json(folder / "metrics.json")
    provenance = [("git revision", "abc"), ("machine", "a machine")]
    report.write_report("invented", study, tables, metrics, folder / "drawn", provenance, output)
    return output.read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    return build(folder, folder / "report.html")


def test_sections_and_numbers(page: str) -> None:
    for section in (
        "overview",
        "rates",
        "likelihood",
        "membership",
        "discoverable",
        "matches",
        "data",
        "provenance",
        "verbatim",
    ):
        assert f'id="{section}"' in page
    assert "95 % interval" in page or "at 95 % confidence" in page
    assert "git revision" in page


def test_every_drawn_figure_stands_in_a_section_once(page: str) -> None:
    placed = re.findall(r'<figure id="figure-([a-z-]+)"', page)
    assert len(placed) >= 8
    assert len(placed) == len(set(placed))
    sections = "".join(path.read_text() for path in sorted(report.TEMPLATES.glob("*.html")))
    for name in FIGURES:
        assert f'"{name}"' in sections


def test_verbatim_lists_are_the_headline_cells_hits() -> None:
    rates = pl.DataFrame(
        {
            "model": ["base", "rl"],
            "prefix": ["user", "user"],
            "seed": [0, 0],
            "part": ["question"] * 2,
            "reference": ["rl.member"] * 2,
            "metric": ["verbatim"] * 2,
            "threshold": [1.0, 1.0],
            "n": [10, 100],
            "hits": [0, 3],
            "mean_score": [0.1, 0.2],
        }
    )
    item = {"prefix": "user", "seed": 0, "part": "question", "reference": "rl.member"}
    verbatim = pl.DataFrame(
        [
            {**item, "model": "rl", "id": "a", "text": "A\u202e", "hits": 1, "repetitions": 1},
            {**item, "model": "rl", "id": "b", "text": "B", "hits": 2, "repetitions": 4},
            {**item, "model": "rl", "id": "c", "text": "C", "prefix": "bos"}
            | {"hits": 9, "repetitions": 1},
        ]
    )
    (found,) = report.verbatim_lists({"rates": rates, "verbatim": verbatim}, most=1)
    assert found["total"] == 2
    assert found["cells"] == ["rl, prefix user (n = 100)", "base, prefix user (n = 10)"]
    assert found["items"] == [{"id": "b", "text": "B", "repetitions": 4, "hits": [2, 0]}]
    (found,) = report.verbatim_lists({"rates": rates, "verbatim": verbatim})
    assert found["items"][1]["text"] == "A⟨U+202E⟩"


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    assert "default-src 'none'" in page
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    assert not re.search(r"url\((?!#)", page)
    assert "style=" not in page


def test_same_inputs_same_bytes(page: str, tmp_path: Path) -> None:
    assert build(tmp_path, tmp_path / "again.html") == page


def test_what_a_model_wrote_is_escaped(tmp_path: Path) -> None:
    write_results(tmp_path, settings())
    matches = pl.read_parquet(tmp_path / "matches.parquet").with_columns(
        generation=pl.lit(HOSTILE), match=pl.lit(HOSTILE + " more"), source=pl.lit(HOSTILE)
    )
    page = build(tmp_path, tmp_path / "report.html", matches=matches)
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "\u202e" not in page
    assert "⟨U+202E⟩" in page


def test_accuracy_table(tmp_path: Path) -> None:
    row = {"moment": "before", "split": "member", "template": "sums", "questions": 8, "right": 2}
    page = build(tmp_path, tmp_path / "r.html", accuracy=pl.DataFrame([{**row, "score": 0.25}]))
    assert "25 %" in page.split('id="training"')[1]


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no table rates; run the evaluation first"):
        report.write_report("x", settings(), {}, {}, tmp_path, [], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"hits": 0, "n": 256, "rate": 0.0, "low": 0.0, "high": 0.0148}, "at most 1.48 %"),
        (
            {"hits": 5, "n": 10, "rate": 0.5, "low": 0.237, "high": 0.763},
            "50 % (95 % interval 23.7",
        ),
    ],
)
def test_rates_in_words(row: dict[str, Any], says: str) -> None:
    assert says in report.rate_sentence(row)


def test_numbers_for_people() -> None:
    assert report.percent(0.012345) == "1.23 %"
    assert report.percent(None) == report.percent(float("nan")) != "0 %"
    assert report.times(12.34).startswith("12.3")
    assert report.times(float("inf")) == "∞"
    assert headline.readable("role:held-out") == "all held-out items"
    assert headline.readable("sft.member") == "sft.member"
