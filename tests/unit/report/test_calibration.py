"""The report's section on calibrated thresholds: what it says with and without held-out rows."""

import math
import re
from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.extraction.calibration_tables import calibration_tables
from alignment_extraction.figures.calibration import calibration
from alignment_extraction.files import read_json
from alignment_extraction.report import page as report
from alignment_extraction.report.calibration import calibration_section
from tests.tracked_study import corpus, held_out_matches, settings, write_results

STUDY = settings(seeds=[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_results(folder, STUDY)
    return folder


def tables_of(folder: Path, held_out: int, scale: float = 1) -> dict[str, pl.DataFrame]:
    """The study's tables with so many held-out rows; `scale` multiplies generations' strings."""
    tables = {path.stem: pl.read_parquet(path) for path in folder.glob("*.parquet")}
    rows, place = held_out_matches(), pl.int_range(pl.len())
    many = pl.concat([rows] * math.ceil(held_out / rows.height + 1)).head(held_out)
    many = many.with_columns(id=pl.format("row {}", place), characters=15 + place % 10)
    scored = tables["scores"].with_columns(pl.col("levenshtein_best", "indel_best") * scale)
    thresholds = STUDY.thresholds
    return tables | calibration_tables(scored, many, corpus(), thresholds, 0, draws=50)


def words(folder: Path, tables: dict[str, pl.DataFrame]) -> str:
    """The section's words, spaces made single."""
    page = folder / "page.html"
    metrics = read_json(folder / "metrics.json")
    report.write_report("invented", STUDY, tables, metrics, folder / "none", [], page)
    section = page.read_text().split('<h2 id="calibration">')[1].split("<h2 ")[0]
    return " ".join(re.sub("<[^>]+>", " ", section).split())


def test_no_held_out_rows_are_said(folder: Path) -> None:
    tables = tables_of(folder, 0)
    said = words(folder, tables)
    assert "no held-out rows" in said
    assert "no threshold can be calibrated" in said
    assert "999 for 0.1 %" in said
    assert "at the fixed thresholds:" in said
    assert "as if a model had written them" not in said
    assert calibration(tables, STUDY.thresholds) is None


def test_too_few_held_out_rows_are_said(folder: Path) -> None:
    said = words(folder, tables_of(folder, 20))
    assert "A false positive rate of 1 % is out of reach" in said
    assert "held-out rows of these lengths, and there are" in said
    assert "unknown, for want of held-out rows" in said


def test_enough_held_out_rows(folder: Path) -> None:
    tables = tables_of(folder, 1000)
    said = words(folder, tables)
    assert "At a false positive rate of 1 % the threshold is 0." in said
    assert "more than coincidence" in said
    assert "The claim of an order of magnitude does not hold here." in said
    figure = calibration(tables, STUDY.thresholds)
    assert figure is not None
    assert [axis.get_xscale() for axis in figure.axes] == ["log"] * len(figure.axes)
    found = calibration_section(tables)
    assert found is not None
    row = tables["calibration"].filter(
        model="rl",
        prefix="user",
        metric="embedding",
        false_positive_rate=0.01,
        length_band="all",
        held_out="role:held-out",
    )
    entry = next(e for e in found["rates"] if e["cell"] == "rl, prefix user")
    assert entry["metric"] == "embedding"
    assert entry["points"][0.01]["rate"] == row["rate"].item()
    assert entry["points"]["fixed"]["threshold"] == 0.95
    assert entry["area"]["auc"] > 0.5
    assert f"{row['threshold'].item():.3f}" in said


def test_an_order_of_magnitude_that_strings_do_not_see(folder: Path) -> None:
    """No generation is near by string: the ratio has a lower bound and no upper one."""
    said = words(folder, tables_of(folder, 1000, scale=0.1))
    assert "∞" in said
    assert "Neither that it is an order of magnitude nor that it is less is shown." in said


def test_nothing_is_said_of_a_study_that_was_not_calibrated(folder: Path) -> None:
    tables = {name: table for name, table in tables_of(folder, 0).items() if "calib" not in name}
    assert calibration_section(tables) is None
    assert calibration(tables, STUDY.thresholds) is None
