"""Fixtures of the workflow's tests."""

import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from tests.workflow.project import Project, make_project


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """The toy project after one full run; copy it before changing it. Workers share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished-project"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = make_project(folder.with_name("unfinished-project"))
            unfinished.snakemake()
            unfinished.folder.rename(folder)
    return Project(folder)


@pytest.fixture
def project(finished_project: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, times kept, that a test may change."""
    folder = tmp_path / "project"
    shutil.copytree(finished_project.folder, folder)
    return Project(folder)
