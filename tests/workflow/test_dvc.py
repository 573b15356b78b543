"""DVC for real: repro, push, pull in a fresh clone, status, metrics, experiments."""

from pathlib import Path

import pytest
import yaml

from tests.workflow.project import Project
from tests.workflow.test_reruns import EVALUATION, edit_threshold


def sh(project: Project, *command: str) -> str:
    result = project.run(*command)
    assert result.returncode == 0, f"{command}: {result.stdout[-3000:]}"
    return result.stdout


@pytest.fixture
def versioned(project: Project) -> Project:
    """The finished project under git and DVC, its artefacts pushed to a store beside it."""
    stages = project.folder / "dvc.yaml"
    values = yaml.safe_load(stages.read_text().replace("results/controlled", "results/toy"))
    # The toy study trains no models and no students.
    del values["stages"]["models"], values["stages"]["distillation"]
    values["stages"]["results"]["deps"].remove("data/distillation")
    stages.write_text(yaml.safe_dump(values, sort_keys=False))
    sh(project, "git", "init", "--quiet", "--initial-branch=main")
    sh(project, "git", "config", "user.email", "someone@example.org")
    sh(project, "git", "config", "user.name", "Someone")
    sh(project, "dvc", "init", "--quiet")
    sh(project, "dvc", "config", "core.analytics", "false")
    sh(project, "dvc", "remote", "add", "--quiet", "--default", "shipped", "store")
    sh(project, "dvc", "repro")
    sh(project, "dvc", "push", "--quiet")
    sh(project, "git", "add", "--all")
    sh(project, "git", "commit", "--quiet", "--message", "all")
    return project


def test_repro_ran_nothing_and_pull_restores_everything(versioned: Project, tmp_path: Path) -> None:
    tracked = sh(versioned, "git", "ls-files").splitlines()
    assert "dvc.lock" in tracked
    assert not [name for name in tracked if name.startswith(("results/", "data/", ".snakemake/"))]
    assert "up to date" in sh(versioned, "dvc", "status")

    clone = Project(tmp_path / "clone")
    sh(versioned, "git", "clone", "--quiet", str(versioned.folder), str(clone.folder))
    sh(clone, "dvc", "pull", "--quiet")
    assert clone.metrics() == versioned.metrics()
    assert (clone.folder / "results/toy/report.html").exists()
    assert "up to date" in sh(clone, "dvc", "status")
    assert clone.reruns() == set()
    clone.change(edit_threshold)
    assert clone.reruns() == EVALUATION


def test_experiment_and_metrics_diff(versioned: Project) -> None:
    sh(versioned, "dvc", "exp", "run", "-S", "studies.toy.thresholds.embedding=0.5")
    difference = sh(versioned, "dvc", "metrics", "diff")
    assert "role:members" in difference or "member" in difference
    assert versioned.params["studies"]["toy"]["thresholds"]["embedding"] == 0.5
    assert versioned.reruns() == set()
