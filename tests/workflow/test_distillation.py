"""The distillation experiment at toy size: generations, students, tables, all for real.

The models lie there as if the workflow had trained them, which test_training.py is about. The one
that is extracted has learnt conversations and RL problems by heart, answers included: a toy cannot
be trained to write whole problems with right answers by rewards alone.
"""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alignment_extraction.files import write_json, write_parquet
from alignment_extraction.layout import DISTILLATION_TABLES
from alignment_extraction.settings.controlled import ControlledSettings, TrainingSettings
from alignment_extraction.training.controlled import build
from alignment_extraction.training.fitting import Run
from alignment_extraction.training.gguf_export import CHATML, load_tokenizer
from alignment_extraction.training.stages import STAGES, train
from alignment_extraction.training.supervised import text_trainer, train_tokenizer
from tests.toy_training import TOY, TOY_DATA
from tests.workflow.project import Project, make_project

STUDENTS = {"train_student", "evaluate_student"}
WORTH = "Is the extracted data worth the original?"
RESULTS = {"distillation_tables", "report", "track"}
FAMILIES, ARMS = {"sft", "rl"}, {"start", "original", "extracted"}
DATA = ControlledSettings.model_validate(
    TOY_DATA.model_dump() | {"sft_templates": 4, "sft_repetitions": {1: 2}, "rl_instances": 3}
)
TRAIN = TrainingSettings.model_validate(
    TOY.model_dump()
    | {
        "sft": TOY.sft.model_dump()
        | {"log_steps": 1, "learning_rate": 4e-3, "checkpoint_steps": 1000}
    }
)


def lay_models(folder: Path) -> None:
    """Write corpus, tokenizer, a base model and one that has learnt all members by heart."""
    folder.mkdir(parents=True)
    corpus = build(DATA, seed=0)
    write_parquet(corpus, folder / "corpus.parquet")
    train_tokenizer(corpus, TRAIN, folder / "tokenizer.json")
    train("base", corpus, folder, TRAIN, folder / "checkpoints")
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    rows = corpus.filter(pl.col("source").is_in(FAMILIES), role="member")
    turns = rows["messages"].to_list()
    ids = tokenizer.apply_chat_template(turns, return_dict=True, system_turn=False)["input_ids"]
    run = Run(
        TRAIN, folder / "tokenizer.json", folder / "base.gguf", folder / "sft.gguf", folder / "c"
    )
    run.finish(text_trainer(ids, tokenizer, run, TRAIN.sft, max_steps=100), "sft", CHATML)
    settings = TRAIN.model_dump(mode="json")
    for name in ("tokenizer", "base", "sft"):
        sections = STAGES[name if name in STAGES else "base"].sections
        record = {"seed": 0, "controlled": DATA.model_dump(mode="json")}
        record["train"] = {section: settings[section] for section in sections}
        write_json(record, folder / f"{name}-settings.json")


def edit(values: dict[str, Any]) -> None:
    # Learnt by heart, nearly all generations are copies.
    common = {"model": "sft", "seeds": [0], "arms": ["original", "extracted"]}
    values["models"] = {
        "base": {"trained": "base", "trained_on": []},
        "sft": {"trained": "sft", "trained_on": ["sft", "rl"], "base": "base"},
    }
    values["corpora"] = {"toy": {"controlled": ["sft", "rl"]}}
    values["controlled"], values["train"] = (s.model_dump(mode="json") for s in (DATA, TRAIN))
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
            "slots": 32,
            "shard": 96,
        },
        "index": {"kind": "exact"},
        "likelihood": None,
        "distillation": {
            "sft": {"steps": 2} | common,
            "rl": {"steps": 2, "batch_size": 8} | common,
            "questions": 8,
            "max_answer_tokens": 8,
        },
    }


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose students have been trained."""
    project = make_project(tmp_path_factory.mktemp("distillation"))
    lay_models(project.folder / "data/models/trained")
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
    tables = (pl.read_parquet(folder / f"{name}.parquet") for name in DISTILLATION_TABLES)
    table, curves, counts, answers = tables
    found = set(table.select("family", "arm", "measure").iter_rows())
    assert found == set(itertools.product(FAMILIES, ARMS, ("accuracy",)))
    assert set(table["seeds"]) == {1}
    for family, metric in (("sft", "loss"), ("rl", "reward")):
        assert curves.filter(family=family, arm="extracted", metric=metric).height > 0
    for row in table.iter_rows(named=True):
        own = answers.filter(family=row["family"], arm=row["arm"])
        assert own.height == row["items"] * row["seeds"]
        assert own["right"].mean() == pytest.approx(row["value"])
    assert set(counts["family"]) == FAMILIES
    assert set(counts["data_set"]) == {"original", "extracted", "evaluation"}


def test_extracted_questions_have_the_models_answers(distilled: Project) -> None:
    """Whole problems were written, and RL's label is what the model gave as their answers."""
    data = pl.read_parquet(distilled.folder / "data/distillation/toy/data.parquet")
    members = set(build(DATA, seed=0).filter(role="member")["question"])
    for family in FAMILIES:
        extracted = data.filter(family=family, arm="extracted")
        assert extracted.height == data.filter(family=family, arm="original").height > 0
    assert set(data.filter(arm="extracted")["question"]) & members
    labels = data.filter(family="rl")
    assert labels["label"].null_count() == 0
    assert labels.filter(pl.col("answer").str.ends_with(pl.format("#### {}", "label"))).height > 0


def test_weights_are_not_kept(distilled: Project) -> None:
    assert not list((distilled.folder / "data/distillation").rglob("*.gguf"))


def test_report_and_runs(distilled: Project) -> None:
    folder = distilled.folder / "results/toy"
    assert WORTH in (folder / "report.html").read_text()
    names = {run["name"] for run in json.loads((folder / "tracked.json").read_text())["runs"]}
    for family in FAMILIES:
        assert f"toy/distillation/{family}/extracted/seed-0" in names
        assert f"toy/distillation/{family}/start" in names


def test_nothing_is_made_twice(distilled: Project) -> None:
    assert distilled.reruns("--", "distill") == set()
    assert distilled.reruns() == set()


def test_another_budget_trains_students_again(project: Project) -> None:
    def longer(values: dict[str, Any]) -> None:
        values["studies"]["toy"]["distillation"]["sft"]["steps"] = 3

    project.change(longer)
    assert project.reruns("--", "distill") - {"distill"} == STUDENTS | RESULTS


def test_another_seed_trains_its_own_students_alone(project: Project) -> None:
    def more(values: dict[str, Any]) -> None:
        values["studies"]["toy"]["distillation"]["sft"]["seeds"] = [0, 1]

    project.change(more)
    curves = "data/distillation/toy/students/sft-original-seed-{}-curves.parquet"
    assert project.reruns("--", curves.format(0)) == set()
    assert project.reruns("--", curves.format(1)) == {"train_student"}


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
