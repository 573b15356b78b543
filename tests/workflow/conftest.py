"""Fixtures of the workflow's tests."""

import shutil
from pathlib import Path

import pytest

from tests.workflow.project import Project, make_project


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The toy project after one full run; copy it before changing it."""
    project = make_project(tmp_path_factory.mktemp("project"))
    project.snakemake()
    return project


@pytest.fixture
def project(finished_project: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, times kept, that a test may change."""
    folder = tmp_path / "project"
    shutil.copytree(finished_project.folder, folder)
    return Project(folder)
