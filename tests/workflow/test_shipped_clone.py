"""A fresh clone with the shipped artefacts: nothing is left to do but what one changes."""

import re
import subprocess

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
    status = clone.run("dvc", "status")
    assert status.returncode == 0
    assert "up to date" in status.stdout


def test_the_report_is_there(clone: Project) -> None:
    page = (clone.folder / "results" / "controlled" / "report.html").read_text()
    assert page.startswith("<!doctype html>")


def test_a_threshold_changes_its_consequences_alone(clone: Project) -> None:
    reruns = clone.reruns("--config", "studies={controlled: {thresholds: {semantic: 0.9}}}")
    assert reruns == {"attribution", "risk", "variants", "report", "track"}


def test_the_experiment_of_the_readme_is_one(clone: Project) -> None:
    """What `dvc exp run` sets is there to be set; tests of the toy project run one to its end."""
    command = re.search(r"dvc exp run (-S \S+)", (clone.folder / "README.md").read_text())
    assert command is not None
    queued = clone.run("dvc", "exp", "run", "--queue", *command[1].split())
    assert queued.returncode == 0, queued.stdout
    assert "Queued experiment" in queued.stdout
