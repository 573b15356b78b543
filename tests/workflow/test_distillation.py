"""The distillation experiment at toy size: models, generations, students, tables, all for real."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alignment_extraction.layout import DISTILLATION_TABLES
from alignment_extraction.settings.distillation import ARMS
from tests.toy_training import TOY, TOY_DATA
from tests.workflow.project import Project, make_project

# Minutes on two cores: `make test-slow` runs it.
pytestmark = pytest.mark.slow
STUDENTS = {"train_student"}
WORTH = "Is the extracted data worth the original?"
RESULTS = {"distillation_tables", "report", "track"}
# Learnt by heart, so that the models write whole conversations, and right answers among them.
TRAIN: dict[str, Any] = {
    **TOY.model_dump(mode="json"),
    "sft": TOY.sft.model_dump()
    | {"epochs": 40, "learning_rate": 3e-3, "checkpoint_steps": 1000, "log_steps": 1},
}
DATA = TOY_DATA.model_dump(mode="json")


def edit(values: dict[str, Any]) -> None:
    values["models"] = {
        "base": {"trained": "base", "trained_on": []},
        "sft": {"trained": "sft", "trained_on": ["sft"], "base": "base"},
    }
    values["corpora"] = {"toy": {"controlled": True}}
    values["controlled"], values["train"] = DATA, TRAIN
    values["studies"]["toy"] |= {
        "models": ["sft"],
        "prefixes": ["user"],
        "conditions": [{"models": ["sft"], "prefixes": ["user"]}],
        "sampling": {
            "samples": 96,
            "max_tokens": 120,
            "answer": True,
            "max_answer_tokens": 100,
            "temperature": 0.7,
            "slots": 16,
            "shard": 48,
        },
        "likelihood": None,
        "distillation": {
            "sft": {"model": "sft", "steps": 3},
            "seeds": [0],
            # Learnt by heart, nearly all generations are copies.
            "arms": ["original", "extracted", "other"],
            "max_answer_tokens": 8,
        },
    }


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose students have been trained."""
    project = make_project(tmp_path_factory.mktemp("distillation"))
    project.change(edit)
    project.snakemake("--", "distill")
    return project


@pytest.fixture
def project(distilled: Project, tmp_path: Path) -> Project:
    """A copy of it, times kept, that a test may change."""
    shutil.copytree(distilled.folder, tmp_path / "project")
    return Project(tmp_path / "project")


def test_tables_hold_every_student(distilled: Project) -> None:
    folder = distilled.folder / "results/toy"
    table, curves, counts = (pl.read_parquet(folder / f"{n}.parquet") for n in DISTILLATION_TABLES)
    assert set(table["arm"]) == set(ARMS) - {"extracted-without-copies"}
    assert set(table.filter(pl.col("arm") != "start")["seeds"]) == {1}
    losses = curves.filter(family="sft", arm="extracted", metric="loss")
    assert losses.height > 0
    assert set(counts["family"]) == {"sft"}
    assert "evaluation" in set(counts["data_set"])


def test_the_card_says_where_the_data_come_from(distilled: Project) -> None:
    folder = distilled.folder / "data/distillation/toy"
    text = (folder / "card.md").read_text()
    assert "- sft: written by `sft.gguf`" in text
    rows = pl.read_parquet(folder / "data.parquet").filter(family="sft", arm="extracted")
    assert re.search(rf"\| sft extracted \| not-drawn \|.*\| {rows.height:,} \|", text)


def test_weights_are_not_kept(distilled: Project) -> None:
    assert not list((distilled.folder / "data/distillation").rglob("*.gguf"))


def test_report_and_runs(distilled: Project) -> None:
    folder = distilled.folder / "results/toy"
    assert WORTH in (folder / "report.html").read_text()
    names = {run["name"] for run in json.loads((folder / "tracked.json").read_text())["runs"]}
    assert "toy/distillation/sft/extracted/seed-0" in names
    assert "toy/distillation/sft/start" in names


def test_nothing_is_made_twice(distilled: Project) -> None:
    assert distilled.reruns("--", "distill") == set()
    assert distilled.reruns() == set()


def test_another_budget_trains_students_again(project: Project) -> None:
    def longer(values: dict[str, Any]) -> None:
        values["studies"]["toy"]["distillation"]["sft"]["steps"] = 4

    project.change(longer)
    assert project.reruns("--", "distill") - {"distill"} == STUDENTS | RESULTS


def test_other_samples_make_other_data(project: Project) -> None:
    def warmer(values: dict[str, Any]) -> None:
        values["studies"]["toy"]["sampling"]["temperature"] = 0.8

    project.change(warmer)
    assert {"generate", "distillation_data", *STUDENTS} <= project.reruns("--", "distill")


def test_edited_modules_and_another_margin_train_nothing(project: Project) -> None:
    for name in ("distillation/curation", "training/supervised"):
        path = project.folder / f"src/alignment_extraction/{name}.py"
        path.write_text(path.read_text() + "\n# edited\n")

    def stricter(values: dict[str, Any]) -> None:
        values["studies"]["toy"]["distillation"]["margin"] = 0.01

    project.change(stricter)
    reruns = project.reruns("--", "distill")
    assert "distillation_tables" in reruns
    assert not reruns & {"distillation_data", *STUDENTS}


def test_without_students_there_is_no_section(project: Project) -> None:
    for table in DISTILLATION_TABLES:
        (project.folder / f"results/toy/{table}.parquet").unlink()
    shutil.rmtree(project.folder / "data/distillation")
    project.snakemake("results/toy/report.html")
    assert WORTH not in (project.folder / "results/toy/report.html").read_text()
