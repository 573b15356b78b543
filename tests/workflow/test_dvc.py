"""DVC for real: repro, push, pull in a fresh clone, status, metrics, experiments."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

from tests.workflow.project import Project
from tests.workflow.test_reruns import ANALYSIS, edit_threshold


def sh(project: Project, *command: str) -> str:
    result = project.run(*command)
    assert result.returncode == 0, f"{command}: {result.stdout[-3000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def versioned_project(
    finished_project: Project, tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """The finished project under git and DVC, its artefacts pushed to a store beside it."""
    folder = tmp_path_factory.mktemp("versioned") / "project"
    shutil.copytree(finished_project.folder, folder)
    project = Project(folder)
    stages = project.folder / "dvc.yaml"
    values = yaml.safe_load(stages.read_text().replace("results/controlled", "results/toy"))
    # The toy study trains no models.
    del values["stages"]["models"]
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


@pytest.fixture
def versioned(versioned_project: Project, tmp_path: Path) -> Project:
    """A copy of it that a test may change."""
    folder = tmp_path / "project"
    shutil.copytree(versioned_project.folder, folder, symlinks=True)
    return Project(folder)


def test_a_clone_pulls_everything_and_an_experiment_runs_its_consequences_alone(
    versioned: Project, tmp_path: Path
) -> None:
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
    assert clone.reruns() == ANALYSIS

    sh(clone, "git", "checkout", "--quiet", "params.yaml")
    sh(clone, "dvc", "exp", "run", "-S", "studies.toy.thresholds.semantic=0.5")
    assert clone.params["studies"]["toy"]["thresholds"]["semantic"] == 0.5
    assert clone.metrics() != versioned.metrics()
    assert clone.reruns() == set()
    difference = sh(clone, "dvc", "metrics", "diff")
    assert "attributable_semantic" in difference, difference


# What is damaged, and S3 --------------------------------------------------------------------------


class Bucket(NamedTuple):
    """An S3 bucket on this machine, and a project whose default remote it is."""

    client: Any
    project: Project

    def names(self) -> list[str]:
        return [
            entry["Key"]
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket="store")
            for entry in page.get("Contents", ())
        ]


@pytest.fixture
def bucket(versioned: Project) -> Iterator[Bucket]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
    versioned.environment |= {**keys, "AWS_DEFAULT_REGION": "us-east-1"}
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
    )
    client.create_bucket(Bucket="store")
    sh(versioned, "dvc", "remote", "add", "--quiet", "--default", "s3", "s3://store/toy")
    sh(versioned, "dvc", "remote", "modify", "--quiet", "s3", "endpointurl", url)
    sh(versioned, "dvc", "remote", "modify", "--quiet", "s3", "verify", "true")
    sh(versioned, "dvc", "push", "--quiet")
    sh(versioned, "git", "commit", "--quiet", "--all", "--message", "a remote on S3")
    yield Bucket(client, versioned)
    server.stop()


def object_of(project: Project, file: str) -> str:
    """The object of a file of the results, as `ab/cdef...`."""
    lock = yaml.safe_load((project.folder / "dvc.lock").read_text())
    out = next(o for o in lock["stages"]["results"]["outs"] if o["path"] == "results")
    listing = project.folder / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]
    entries = {e["relpath"]: e["md5"] for e in yaml.safe_load(listing.read_text())}
    return f"{entries[file][:2]}/{entries[file][2:]}"


def test_a_pull_from_s3_and_its_damage(bucket: Bucket, tmp_path: Path) -> None:
    project, client = bucket.project, bucket.client
    clone = Project(tmp_path / "clone")
    clone.environment = project.environment
    sh(project, "git", "clone", "--quiet", str(project.folder), str(clone.folder))
    md5 = object_of(project, "toy/metrics.json")
    key = next(name for name in bucket.names() if name.endswith(md5))
    whole = client.get_object(Bucket="store", Key=key)["Body"].read()

    client.put_object(Bucket="store", Key=key, Body=whole[:-5])
    damaged = clone.run("dvc", "pull")
    assert damaged.returncode != 0
    assert "results" in damaged.stdout
    assert not (clone.folder / "results/toy/metrics.json").exists()

    client.delete_object(Bucket="store", Key=key)
    deleted = clone.run("dvc", "pull")
    assert deleted.returncode != 0
    assert md5.replace("/", "") in deleted.stdout
    assert not (clone.folder / "results/toy/metrics.json").exists()

    # Whoever has the file puts it back: `dvc push` remembers that the remote had it, and does not.
    client.put_object(Bucket="store", Key=key, Body=whole)
    sh(clone, "dvc", "pull", "--quiet")
    assert clone.metrics() == project.metrics()
    assert "up to date" in sh(clone, "dvc", "status")
    assert clone.reruns() == set()


def test_a_deleted_cache_is_pulled_again(versioned: Project) -> None:
    metrics = versioned.metrics()
    shutil.rmtree(versioned.folder / ".dvc/cache")
    shutil.rmtree(versioned.folder / "results")
    missing = versioned.run("dvc", "checkout")
    assert missing.returncode != 0
    assert "results" in missing.stdout
    sh(versioned, "dvc", "pull", "--quiet")
    assert versioned.metrics() == metrics
    assert versioned.reruns() == set()
