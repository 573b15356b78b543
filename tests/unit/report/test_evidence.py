"""The report's sections beside the rates: what they say with these tables and without them."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alignment_extraction.extraction.metrics import EVIDENCE
from alignment_extraction.figures import evidence as figures
from alignment_extraction.files import read_json
from alignment_extraction.report import evidence, page
from alignment_extraction.settings.studies import ThresholdSettings
from tests.tracked_study import settings, write_results

STUDY = settings(seeds=[0])
Tables = dict[str, pl.DataFrame]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_results(folder, STUDY)
    return folder


@pytest.fixture
def tables(folder: Path) -> Tables:
    return {path.stem: pl.read_parquet(path) for path in folder.glob("*.parquet")}


def words(folder: Path, tables: Tables, study: Any = STUDY) -> str:
    output = folder / "page.html"
    page.write_report(
        "x", study, tables, read_json(folder / "metrics.json"), folder / "none", [], output
    )
    body = output.read_text().split("</style>")[1].split("<script>")[0]
    return " ".join(re.sub("<[^>]+>", " ", body).split())


def test_the_headline_is_the_difference(folder: Path, tables: Tables) -> None:
    row = tables["controls"].filter("strongest", metric="embedding").row(0, named=True)
    cards = page.headlines(tables)
    assert cards[0]["value"] == evidence.points(row["difference"])
    assert "above the strongest control" in cards[0]["label"]
    said = words(folder, tables)
    assert cards[0]["sentence"].split(". ")[0] in said
    assert "the strongest control is the" in said
    assert "There is no unrelated corpus among the controls" in said


def test_no_more_than_coincidence_is_said(tables: Tables) -> None:
    low = {"difference": 0.0, "difference_low": -0.1, "difference_high": 0.1}
    same = tables["controls"].with_columns(**{k: pl.lit(v) for k, v in low.items()})
    (sentence,) = [
        word for word in evidence.control_words({"controls": same}) if "difference" in word
    ]
    assert "coincidence explains its rate as well" in sentence


def test_without_these_tables(folder: Path, tables: Tables) -> None:
    beside = {*EVIDENCE, "search_speed", "contamination", "conditions"}
    rest = {name: table for name, table in tables.items() if name not in beside}
    said = words(folder, rest, settings(seeds=[0], contamination=None, second_embedder=None))
    for sentence in (
        "without a control",
        "The study has no control",
        "one quantisation and one temperature",
        "The study has one embedder",
        "No public texts were named",
        "The search was not compared with exact search",
    ):
        assert sentence in said
    names = (figures.controls, figures.temperatures, figures.search_audit, figures.embedders)
    assert [draw(rest, ThresholdSettings()) for draw in names] == [None] * 4


def test_tables_are_told(folder: Path, tables: Tables) -> None:
    said = words(folder, tables)
    tagged = tables["contamination"].filter(group="sums.member")["tagged"].sum()
    assert f"sums.member 20 {tagged} 0 {tagged}" in said
    assert "is not among those compared" in said
    own = words(folder, tables, settings(seeds=[0], index={"trees": 5, "search_k": 500}))
    assert "5 trees and search_k 500, finds the nearest row of 100 %" in own
    rows = evidence.embedder_rows(tables)
    assert [side["name"] for side in rows[0]["sides"]] == ["minilm", "other"]
    assert "out of reach" in said  # 20 held-out rows are too few for 1 %


def test_quantisations_and_temperatures_stand_together(tables: Tables) -> None:
    member = {"part": "question", "reference": "role:member", "seed": 0, "family": "sft"}
    common = {"first_prefix": "user", "n": 100, "hits": 30, "rate": 0.3, "low": 0.2, "high": 0.4}
    cells = [
        ("sft-q8", "user", "q8", 1.0, None),
        ("sft-q8", "user-t0.7", "q8", 0.7, 0.2),
        ("sft-f16", "user", "f16", 1.0, 0.01),
    ]
    made = pl.DataFrame(
        [
            {
                **member,
                **common,
                "model": model,
                "prefix": prefix,
                "quantisation": kind,
                "temperature": temperature,
                "first": change is None,
                "metric": metric,
                "difference": change,
                "difference_low": None if change is None else change - 0.1,
                "difference_high": None if change is None else change + 0.1,
            }
            for model, prefix, kind, temperature, change in cells
            for metric in ("embedding", "levenshtein", "indel", "verbatim")
        ],
        infer_schema_length=None,
    )
    rows = evidence.condition_rows({**tables, "conditions": made})
    assert [(row["model"], row["temperature"]) for row in rows] == [
        ("sft-f16", 1.0),
        ("sft-q8", 0.7),
        ("sft-q8", 1.0),
    ]
    assert [row["embedding"].endswith("*") for row in rows] == [False, True, False]
    figure = figures.temperatures({**tables, "conditions": made}, ThresholdSettings())
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes] == ["sft-q8, prefix user"]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["0.7", "1"]


def test_an_exact_search_is_not_called_annoys(folder: Path, tables: Tables) -> None:
    rest = {name: t for name, t in tables.items() if not name.startswith("search_")}
    said = words(folder, rest, settings(seeds=[0], index={"exact": True}))
    assert "Every search was exact" in said
    assert "Annoy found" not in said
    assert "own setting" not in said


def test_seeds_have_a_column_where_there_are_several(folder: Path, tables: Tables) -> None:
    assert " seed " not in words(folder, tables).split("Every control")[0]
    assert " seed " in words(folder, tables, settings()).split("Every control")[0]
