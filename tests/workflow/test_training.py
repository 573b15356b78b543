"""Training from scratch at toy size, and what trains again after which change."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.toy_training import TOY, TOY_DATA
from tests.workflow.project import Project, make_project

TARGETS = ("--", "trained_models", "data/corpora/controlled/corpus.parquet", "data/models/q8.gguf")
STAGES = ("base", "sft", "rl")


def retrained(project: Project, *arguments: str) -> tuple[set[str], set[str]]:
    """The stages that a run would train now, and the other rules that it would execute."""
    output = project.snakemake("--dry-run", *arguments, *TARGETS)
    stages = set(re.findall(r"wildcards: stage=([a-z-]+)", output))
    return stages, project.reruns(*arguments, *TARGETS) - {"train", "trained_models"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose models have been trained."""
    project = make_project(tmp_path_factory.mktemp("training"))

    def edit(values: dict[str, Any]) -> None:
        values["models"] |= {
            "sft-f16": {"trained": "sft"},
            "q8": {"trained": "rl", "quantisation": "Q8_0"},
        }
        values["corpora"] |= {"controlled": {"controlled": ["sft", "rl"]}}
        # The models of the studies in `run` are trained, and no other.
        values["models"] |= {"loss": {"trained": "sft-assistant-loss"}}
        values["run"] = ["controlled"]
        study = {"models": ["sft-f16", "q8"], "corpus": "controlled", "prefixes": ["user"]}
        toy = {key: values["studies"]["toy"][key] for key in ("title", "embedder", "sampling")}
        values["studies"]["controlled"] = toy | study
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
    for name in STAGES:
        assert (folder / f"{name}.gguf").read_bytes()[:4] == b"GGUF"
        assert pl.read_parquet(folder / f"{name}-curves.parquet").height > 0
    # Models that no study in `run` asks for are not trained.
    assert {path.stem for path in folder.glob("*.gguf")} == set(STAGES)
    accuracy = pl.read_parquet(folder / "rl-accuracy.parquet")
    assert set(accuracy["role"]) == {"member", "twin"}
    assert (trained.folder / "data/models/q8.gguf").exists()
    corpus = pl.read_parquet(trained.folder / "data/corpora/controlled/corpus.parquet")
    trained_on = pl.read_parquet(folder / "corpus.parquet")
    assert corpus.drop("role").equals(trained_on.drop("role"))
    # What the base model alone was trained on is not post-training data.
    assert "member" in trained_on.filter(source="pretraining")["role"]
    assert set(corpus.filter(source="pretraining")["role"]) == {"control"}


def edit_rl(values: dict[str, Any]) -> None:
    values["train"]["rl"]["steps"] += 1


def edit_sft(values: dict[str, Any]) -> None:
    values["train"]["sft"]["epochs"] += 1


def edit_base(values: dict[str, Any]) -> None:
    values["train"]["base"]["epochs"] += 1


def edit_data(values: dict[str, Any]) -> None:
    values["controlled"]["rl_instances"] -= 1


@pytest.mark.parametrize(
    ("edit", "stages", "rules"),
    [
        (edit_rl, {"rl"}, {"quantise"}),
        (edit_sft, {"sft"}, set()),
        (edit_base, set(STAGES), {"train_tokenizer", "quantise"}),
        (
            edit_data,
            set(STAGES),
            {"training_corpus", "known_corpus", "train_tokenizer", "quantise"},
        ),
    ],
)
def test_other_settings_train_again(
    project: Project,
    edit: Callable[[dict[str, Any]], None],
    stages: set[str],
    rules: set[str],
) -> None:
    project.change(edit)
    assert retrained(project) == (stages, rules)


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
    assert project.reruns(*TARGETS) == {"known_corpus", "quantise"}


def test_training_can_be_forced(project: Project) -> None:
    assert retrained(project, "--forcerun", "train") == (set(STAGES), {"quantise"})
    model = "data/models/trained/sft.gguf"
    assert retrained(project, "--forcerun", model) == ({"sft"}, set())
