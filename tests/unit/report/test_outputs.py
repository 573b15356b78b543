"""All files of a report, from a results folder."""

from pathlib import Path

from alignment_extraction.files import read_json
from alignment_extraction.report.outputs import write_outputs
from tests.report_study import PROVENANCE, SETTINGS, write_results, write_tables

FEW = ("attribution", "exchangeability")


def test_files_and_what_is_masked(tmp_path: Path) -> None:
    tables = {name: frame for name, frame in write_tables().items() if name in FEW}
    folder = write_results(tmp_path, tables)
    before = {path.name for path in folder.iterdir()}
    write_outputs(folder, SETTINGS, PROVENANCE, masked=True)
    assert {path.name for path in folder.iterdir()} - before == {"report-masked.html"}
    _, found = write_outputs(folder, SETTINGS, PROVENANCE)
    assert {path.name for path in folder.iterdir()} - before == {
        "report-masked.html",
        "report.html",
        "headline.json",
        "metrics.json",
        "model_card.md",
        "model_card.yaml",
    }
    assert read_json(folder / "headline.json")["status"] == found.status
