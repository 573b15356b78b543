"""A fresh clone with the shipped artefacts: nothing is left to do but what one changes."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.workflow.project import ROOT, Project


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The last commit, cloned and pulled as the README says."""
    folder = tmp_path_factory.mktemp("shipped") / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    project = Project(folder)
    done = project.run("dvc", "pull", "--quiet")
    assert done.returncode == 0, done.stdout[-3000:]
    return project


def test_nothing_is_left_to_do(clone: Project) -> None:
    assert clone.reruns() == set()
    assert clone.reruns("--", "distill") == set()
    status = clone.run("dvc", "status")
    assert status.returncode == 0
    assert "up to date" in status.stdout


def test_report_and_figures_are_there(clone: Project) -> None:
    results = clone.folder / "results" / "controlled"
    page = (results / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    figures = {path.stem for path in (results / "figures").glob("*.svg")}
    assert {"populations", "controls", "coverage", "likelihood-shifts", "distillation"} <= figures
    assert set(re.findall(r'<figure id="figure-([a-z-]+)"', page)) == figures


def test_a_threshold_changes_its_consequences_alone(clone: Project) -> None:
    path: Path = clone.folder / "params.yaml"
    text = path.read_text()
    at = text.index("thresholds:", text.index("\n  controlled:\n", text.index("\nstudies:\n")))
    assert text[at:].startswith("thresholds: {embedding: 0.95,")
    path.write_text(text[:at] + text[at:].replace("embedding: 0.95", "embedding: 0.9", 1))
    reruns = clone.reruns()
    path.write_text(text)
    assert {"calibrate", "controls", "evaluate", "figures", "report", "track"} <= reruns
    assert not reruns & {
        *("generate", "embed_generations", "match", "match_held_out", "score", "likelihood"),
        *("embed_corpus", "index", "second_scores", "train_student", "distillation_data"),
    }


def test_the_experiment_of_the_readme_is_one(clone: Project) -> None:
    """What `dvc exp run` sets is there to be set; tests of the toy project run one to its end."""
    command = re.search(r"dvc exp run (-S \S+)", (clone.folder / "README.md").read_text())
    assert command is not None
    queued = clone.run("dvc", "exp", "run", "--queue", *command[1].split())
    assert queued.returncode == 0, queued.stdout
    assert "Queued experiment" in queued.stdout
