"""Training from nothing at toy size, and what trains again after which change."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.toy_training import TOY, TOY_DATA
from tests.workflow.project import Project, make_project

TARGETS = ("--", "trained_models", "data/corpora/controlled/corpus.parquet", "data/models/q8.gguf")
RL = {"train_rl", "quantise", "trained_models"}
SFT = {"train_sft", "train_sft_assistant_loss", *RL}
BASE = {"train_base", *SFT}
DATA = {"training_corpus", "controlled_corpus", "train_tokenizer", *BASE}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose models have been trained."""
    project = make_project(tmp_path_factory.mktemp("training"))

    def edit(values: dict[str, Any]) -> None:
        values["models"] |= {"q8": {"trained": "rl", "quantisation": "Q8_0"}}
        values["corpora"] |= {"controlled": {"controlled": True}}
        values["controlled"] = TOY_DATA.model_dump(mode="json")
        values["train"] = TOY.model_dump(mode="json")

    project.change(edit)
    project.snakemake(*TARGETS)
    return project


@pytest.fixture
def project(trained: Project, tmp_path: Path) -> Project:
    """A copy of it, times kept, that a test may change."""
    shutil.copytree(trained.folder, tmp_path / "project")
    return Project(tmp_path / "project")


def test_everything_is_there(trained: Project) -> None:
    folder = trained.folder / "data/models/trained"
    for name in ("base", "sft", "sft-assistant-loss", "rl"):
        assert (folder / f"{name}.gguf").read_bytes()[:4] == b"GGUF"
        assert pl.read_parquet(folder / f"{name}-curves.parquet").height > 0
    accuracy = pl.read_parquet(folder / "rl-accuracy.parquet")
    assert set(accuracy["split"]) == {"member", "fresh-instance", "held-out-template"}
    assert (trained.folder / "data/models/q8.gguf").exists()
    corpus = pl.read_parquet(trained.folder / "data/corpora/controlled/corpus.parquet")
    trained_on = pl.read_parquet(folder / "corpus.parquet")
    assert corpus.drop("role").equals(trained_on.drop("role"))
    # What the base model alone was trained on is not post-training data.
    base = pl.col("source") == "pretraining"
    assert set(trained_on["role"]) == {"member", "held-out"}
    assert set(corpus.filter(base)["role"]) == {"control"}


def edit_rl(values: dict[str, Any]) -> None:
    values["train"]["rl"]["steps"] += 1


def edit_sft(values: dict[str, Any]) -> None:
    values["train"]["sft"]["epochs"] += 1


def edit_base(values: dict[str, Any]) -> None:
    values["train"]["base"]["epochs"] += 1


def edit_data(values: dict[str, Any]) -> None:
    values["controlled"]["rl_instances"] += 1


@pytest.mark.parametrize(
    ("edit", "rules"),
    [
        (edit_rl, RL),
        (edit_sft, SFT),
        (edit_base, {"train_tokenizer", *BASE}),
        (edit_data, DATA),
    ],
)
def test_other_settings_train_again(
    project: Project, edit: Callable[[dict[str, Any]], None], rules: set[str]
) -> None:
    project.change(edit)
    assert project.reruns(*TARGETS) == rules


def test_an_edited_module_does_not_train_again(project: Project) -> None:
    assert project.reruns(*TARGETS) == set()
    for name in ("supervised", "controlled", "gguf_export"):
        path = project.folder / f"src/alignment_extraction/training/{name}.py"
        path.write_text(path.read_text() + "\n# edited\n")
    assert project.reruns(*TARGETS) == set()


def test_shipped_models_are_used_in_a_fresh_clone(project: Project) -> None:
    """No record of how they were made, dates in any order, nothing else there yet."""
    shutil.rmtree(project.folder / ".snakemake")
    shutil.rmtree(project.folder / "data/corpora")
    (project.folder / "data/models/q8.gguf").unlink()
    for name in ("tokenizer.json", "corpus.parquet"):
        (project.folder / "data/models/trained" / name).touch()
    assert project.reruns(*TARGETS) == {"controlled_corpus", "quantise"}


def test_training_can_be_forced(project: Project) -> None:
    assert project.reruns("--forcerun", "train_base", *TARGETS) == BASE
    assert project.reruns("--forcerun", "train_rl", *TARGETS) == RL
