"""All files of a report, from a results folder; the verbs that read them."""

from pathlib import Path

import pytest
import yaml

from alignment_extraction.files import InputError, read_json, write_json, write_parquet
from alignment_extraction.report.gate import BAD_INPUT, CANNOT_TELL, EXCEEDED, OK
from alignment_extraction.report.study import (
    _search,
    check_study,
    show_report,
    write_report,
)
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.vocabulary import Condition
from tests import report_study, tracked_study

FEW = ("attribution", "exchangeability", "risk")
STUDY = {
    "title": "Invented",
    "models": list(report_study.MODELS),
    "corpus": "c",
    "embedder": "e",
    "prefixes": ["user", "full", "bos", "none"],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and the results of its study; gives the results."""
    monkeypatch.chdir(tmp_path)
    source = {"path": "x", "sha256": "0" * 64}
    params = {
        "run": ["invented"],
        "models": {name: {"source": source} for name in report_study.MODELS},
        "embedders": {"e": {"source": source}},
        "corpora": {"c": {"sources": [{"name": "sft", "path": "x", "role": "member"}]}},
        "studies": {"invented": STUDY},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    tables = {name: t for name, t in report_study.write_tables().items() if name in FEW}
    folder = report_study.write_results(tmp_path / "results" / "invented", tables)
    write_json({"usable": 9, "rejected": 1, "duplicates": 0}, tmp_path / "statistics.json")
    write_json({"a/question": {"queries": 4, "recall_at_1": 0.75}}, tmp_path / "audit.json")
    about = {"model_sha256": "abc", "prefix_tokens": '[[1, "<u>"], [7, "\\n"]]'}
    write_parquet(tracked_study.corpus(), tmp_path / "shard.parquet", about)
    write_report(
        "invented",
        StudySettings.model_validate(STUDY),
        folder,
        audits=[tmp_path / "audit.json"],
        statistics=tmp_path / "statistics.json",
        shards={Condition("sft-q8", "user", 0): tmp_path / "shard.parquet"},
    )
    return folder


def test_what_is_said_of_the_search(tmp_path: Path) -> None:
    """How much of what string search among near rows could find it found, where that is asked."""
    audit, statistics = tmp_path / "audit.json", tmp_path / "statistics.json"
    write_json({"usable": 9, "rejected": 1, "duplicates": 0}, statistics)
    found = {"queries": 4, "recall_at_1": 0.75, "copies": 3, "copies_found": 2}
    write_json({"a/question": found, "b/question": found | {"copies_found": 3}}, audit)
    near = StudySettings.model_validate(STUDY | {"index": {"strings": "near", "candidates": 7}})
    said = " ".join(_search(near, [audit], statistics))
    assert "75.0% of 8 generations" in said
    assert "compared with the 7 rows nearest" in said and "of 6 pairs" in said
    assert "5 had one as similar" in " ".join(said.split())
    whole = _search(StudySettings.model_validate(STUDY), [audit], statistics)
    assert "nearest by meaning" not in " ".join(whole)


def test_files_and_what_is_masked(here: Path, tmp_path: Path) -> None:
    names = {path.name for path in here.iterdir() if path.suffix != ".parquet"}
    assert names == {
        "report.html",
        "headline.json",
        "metrics.json",
        "model_card.md",
        "model_card.yaml",
        "provenance.json",
    }
    about = read_json(here / "provenance.json")
    assert about["made_with"]["sha256 of sft-q8"] == "abc"
    prefix = about["made_with"]["prefix user of sft-q8, token by token"]
    assert prefix == "'<u>' 1 '\\n' 7"
    assert "75.0% of 4 generations" in about["search"][1]
    assert "9 usable rows; 1 could not be used" in (here / "report.html").read_text()
    show_report("invented", StudySettings.model_validate(STUDY), tmp_path / "masked.html")
    assert (tmp_path / "masked.html").read_text().startswith("<!doctype html>")


def test_the_first_screen_is_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_report("invented", StudySettings.model_validate(STUDY))
    printed = capsys.readouterr().out
    assert "Invented" in printed
    assert "report.html" in printed


def test_the_gate_reads_the_study(here: Path) -> None:
    params = Path("params.yaml")
    limits: list[tuple[dict[str, object], int]] = [
        ({"max_rows_at_risk": 10**6}, OK),
        ({"max_attributable": "0.0001%"}, EXCEEDED),
        ({}, BAD_INPUT),
    ]
    for given, code in limits:
        assert check_study("invented", params, given).exit_code == code, given
    with pytest.raises(InputError, match="no such study"):
        check_study("unknown", params, {"max_rows_at_risk": 1})
    with pytest.raises(InputError, match="'much' is not a rate"):
        check_study("invented", params, {"max_attributable": "much"})
    found = check_study("invented", params, {"max_attributable": "1%"})
    (high,) = [f.high for f in found.findings if f.model == "sft-q8"]
    assert high is not None
    between = check_study("invented", params, {"max_attributable": high - 1e-6})
    assert between.exit_code in (CANNOT_TELL, EXCEEDED)
