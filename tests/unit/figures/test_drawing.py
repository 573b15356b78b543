"""Figures: all are drawn from a study's tables, byte for byte the same, fit for a strict page."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.figures.drawing import FIGURES, caption, draw
from alignment_extraction.settings.studies import ThresholdSettings
from tests.tracked_study import settings, write_results

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    folder = tmp_path_factory.mktemp("study")
    write_results(folder, settings())
    tables = {path.stem: pl.read_parquet(path) for path in folder.glob("*.parquet")}
    tables["curves"] = pl.DataFrame(
        {
            "stage": ["base"] * 5 + ["rl"] * 5,
            "step": [*range(5)] * 2,
            "metric": ["loss"] * 5 + ["reward"] * 5,
            "value": [3.0, 2.0, 1.5, 1.2, 1.0, 0.1, 0.2, 0.3, 0.4, 0.5],
        }
    )
    return tables


def test_every_figure_is_drawn_and_explained(
    tables: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    # Of the invented items none is likely enough to be written.
    likely = tables["discoverable"].with_columns(expected_distinct=pl.lit(1.0))
    written = {
        path.stem for path in draw(tables | {"discoverable": likely}, ThresholdSettings(), tmp_path)
    }
    # Models of one quantisation, sampled at one temperature, without students.
    without = {"quantisation", "temperatures", "distillation", "distillation-curves"}
    assert set(FIGURES) - written == without
    for name in FIGURES:
        assert len(caption(name)) > 40


def test_same_tables_same_bytes(tables: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    first = draw(tables, ThresholdSettings(), tmp_path / "a")
    second = draw(tables, ThresholdSettings(), tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_no_styles_and_no_broken_references(
    tables: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    """A policy against inline styles blackens a figure that has any; colours stay colours."""
    for path in draw(tables, ThresholdSettings(), tmp_path):
        root = ElementTree.fromstring(path.read_text())
        ids = {element.get("id") for element in root.iter() if element.get("id")}
        for element in root.iter():
            assert element.get("style") is None
            assert element.tag != f"{SVG}style"
            for key, value in element.attrib.items():
                if key.endswith("href") and value.startswith("#"):
                    assert value[1:] in ids
                if key in ("fill", "stroke") and value.startswith("#"):
                    assert len(value) == 7
                    int(value[1:], 16)


def test_old_figures_go(tables: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    (tmp_path / "old.svg").write_text("<svg/>")
    needed = {name: tables[name] for name in ("rates", "scores", "sweep", "coverage")}
    needed |= {name: tables[name] for name in ("richness", "traits", "kinds")}
    written = draw(needed, ThresholdSettings(), tmp_path)
    assert "likelihood-shifts" not in {path.stem for path in written}
    assert not (tmp_path / "old.svg").exists()
