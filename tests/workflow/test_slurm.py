"""The toy study on a real Slurm cluster of one machine: the same files, a task killed or not."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import slurm
from tests.workflow.project import Project
from tests.workflow.test_faults import MATCHES, REPORT, SHARD

NO_PLUGIN = importlib.util.find_spec("snakemake_executor_plugin_slurm") is None
REASON = slurm.missing() or ("no snakemake-executor-plugin-slurm: install it" if NO_PLUGIN else "")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)
OPTIONS = [
    *("--workflow-profile", "profiles/slurm", "--seconds-between-status-checks", "2"),
    *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10"),
    # As docs/scale.md has it: the shards as tasks of one job.
    *("--jobs", "1000", "--slurm-array-jobs", "generate", "--slurm-array-limit", "25"),
    *("--slurm-status-command", "squeue"),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with slurm.cluster(tmp_path_factory.mktemp("slurm") / "cluster") as environment:
        yield environment


@pytest.fixture
def fresh(project: Project, environment: dict[str, str]) -> Project:
    """The toy project with nothing made yet, whose commands use the cluster."""
    for name in ("data", "results", "logs", ".snakemake"):
        shutil.rmtree(project.folder / name, ignore_errors=True)
    slurm_path = environment["PATH"]
    project.environment |= environment
    project.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{slurm_path}"
    return project


def made(folder: Path) -> dict[str, bytes]:
    """All tables, vectors, indexes and numbers of a project."""
    kinds = (".parquet", ".npy", ".ann", ".gguf", ".json")
    files = [*(folder / "data").rglob("*"), *(folder / "results").rglob("*")]
    names = [file for file in files if file.suffix in kinds and file.name != "tracked.json"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in names}


def same_files(project: Project, other: Project) -> set[str]:
    """Names of the files of a project, which are the other's byte for byte."""
    found, expected = made(project.folder), made(other.folder)
    assert found == {name: expected.get(name) for name in found}
    return set(found)


def squeue(project: Project, *options: str) -> list[list[str]]:
    done = project.run("squeue", "--noheader", *options)
    return [line.split() for line in done.stdout.splitlines()]


def test_a_cluster_gives_the_files_of_one_machine_through_a_killed_run_and_a_killed_task(
    fresh: Project, finished_project: Project
) -> None:
    with started(fresh) as process:
        sampling(fresh, process)
        process.kill()
    assert fresh.run("scancel", "--user=root").returncode == 0
    assert fresh.run("snakemake", "--unlock").returncode == 0
    with started(fresh) as process:
        task, pids = sampling(fresh, process)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        output = process.communicate()[0]
    assert process.returncode == 0, output[-5000:]
    assert "The individual task IDs are 1-3." in output
    assert f"SLURM job ID {task.split('_')[0]}." in output
    assert f"SLURM-job '{task}' failed" in output
    assert "Trying to restart" in output
    assert same_files(fresh, finished_project) >= {MATCHES, SHARD}
    # Nothing is left to do, for a run without the cluster either.
    assert fresh.reruns(MATCHES) == set()


@pytest.mark.slow
def test_a_whole_study_on_a_cluster(fresh: Project, finished_project: Project) -> None:
    done = fresh.run("snakemake", *OPTIONS, REPORT)
    assert done.returncode == 0, done.stdout[-5000:]
    assert same_files(fresh, finished_project) == made(finished_project.folder).keys()
    assert fresh.reruns(REPORT) == set()


def started(project: Project) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["snakemake", *OPTIONS, MATCHES],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def sampling(project: Project, process: "subprocess.Popen[str]") -> tuple[str, list[int]]:
    """The first task that samples, and its processes, once it does."""
    while process.poll() is None:
        running = squeue(project, "--states=R", "--format=%i %A %k")
        for task, number, comment in (row[:3] for row in running):
            if "generate" not in comment:
                continue
            listed = project.run("scontrol", "listpids", number).stdout.splitlines()
            words = [line.split()[0] for line in listed if line.strip()]
            # Headers, messages, and -1 for a step without processes stand among them.
            pids = [int(word) for word in words if word.isdecimal()]
            if any(b"generate" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
                return task, pids
        time.sleep(0.2)
    raise AssertionError(f"the run was over before it sampled: {process.communicate()[0][-5000:]}")


def test_a_job_that_asks_for_a_gpu_sees_one(environment: dict[str, str]) -> None:
    def seen(*options: str) -> str:
        command = ["srun", *options, "printenv", "CUDA_VISIBLE_DEVICES"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    assert seen("--gpus=1") == "0"
    assert seen() == ""
