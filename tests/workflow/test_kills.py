"""SIGKILL at random moments of every long step, twenty times over; run by `make test-slow`."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.toy_training import TOY, TOY_DATA
from tests.workflow.project import Project
from tests.workflow.test_faults import contents

pytestmark = pytest.mark.slow
KILLS = 20

STEPS = {
    "generate": "data/generations/toy/tiny/user/seed-0/00000.parquet",
    "embed_generations": "data/embeddings/generations/toy/tiny/question.npy",
    "embed_corpus": "data/embeddings/corpora/toy/tiny/question.npy",
    "index": "data/indexes/toy/tiny/4-trees/sums.member.question.ann",
    "match": "data/matches/toy/tiny.parquet",
    "likelihood": "data/likelihood/toy/tiny.parquet",
    "attribution": "results/toy/attribution.parquet",
}


@contextmanager
def group(project: Project, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process group of its own, all of which is killed at the end of the block."""
    process = subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def killed(project: Project, seconds: float, command: Sequence[str]) -> bool:
    """Run a command and kill it and all that it started after so long; False if it was faster."""
    with group(project, command) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
    assert process.returncode == 0
    return False


def unlock(project: Project) -> None:
    assert project.run("snakemake", "--unlock").returncode == 0


@pytest.mark.parametrize("step", STEPS)
def test_a_step_killed_twenty_times(project: Project, step: str) -> None:
    """Each kill leaves the step's file absent or marked unfinished; the last run is as the first.

    The moments lie between the first sign of the step, its log, and the time that it takes.
    """
    target = STEPS[step]
    wanted = (project.folder / target).read_bytes()
    command = ["snakemake", "--cores", "1", "--forcerun", step, "--nolock", target]
    begin = time.monotonic()
    assert project.run(*command).returncode == 0
    whole = time.monotonic() - begin
    stream = random.Random(f"kill {step}")
    kills = 0
    for _ in range(3 * KILLS):
        kills += killed(project, stream.uniform(0.2, 1.0) * whole, command)
        if kills == KILLS:
            break
        path = project.folder / target
        if path.exists():
            assert path.read_bytes() == wanted
    assert kills == KILLS, "too few runs lasted long enough to be killed"
    # The results were made from the whole file and stand: they do not ask for it.
    project.snakemake(target)
    assert (project.folder / target).read_bytes() == wanted
    project.snakemake()
    assert project.reruns() == set()


def test_the_whole_run_killed_twenty_times(project: Project) -> None:
    """The whole study from scratch, killed again and again with all that it started."""
    wanted = {name: contents(project.folder / "data" / name) for name in ("generations", "matches")}
    metrics = project.metrics()
    shutil.rmtree(project.folder / "data")
    shutil.rmtree(project.folder / "results")
    stream = random.Random("kill the run")
    kills = 0
    while kills < KILLS:
        # Long enough, on average, to get a step or two further.
        if not killed(project, stream.uniform(3, 25), ["snakemake", "--cores", "2"]):
            shutil.rmtree(project.folder / "data")
            shutil.rmtree(project.folder / "results")
            continue
        kills += 1
        unlock(project)
        drawn = contents(project.folder / "data/generations")
        shards = {name for name in drawn if not Path(name).name.startswith(".")}
        assert {name: drawn[name] for name in shards} == {
            name: wanted["generations"][name] for name in shards
        }
    project.snakemake()
    for name, files in wanted.items():
        now = contents(project.folder / "data" / name)
        # What a killed step was writing keeps its dotted name, and nothing reads it.
        assert {k: v for k, v in now.items() if not Path(k).name.startswith(".")} == files
    assert project.metrics() == metrics
    assert project.reruns() == set()


@pytest.mark.parametrize("stage", ["base", "sft", "rl"])
def test_a_training_killed_twenty_times(project: Project, stage: str) -> None:
    """It goes on from the last whole checkpoint, and the model has the same bytes."""

    def edit(values: dict[str, Any]) -> None:
        values["models"] |= {name: {"trained": name} for name in ("sft", "rl")}
        values["controlled"] = TOY_DATA.model_dump(mode="json")
        values["train"] = TOY.model_dump(mode="json")

    project.change(edit)
    target = f"data/models/trained/{stage}.gguf"
    project.snakemake(target)
    path = project.folder / target
    wanted = path.read_bytes()
    command = ["snakemake", "--cores", "1", "--nolock", "--forcerun", target, "--", target]
    begin = time.monotonic()
    assert project.run(*command).returncode == 0
    whole = time.monotonic() - begin
    stream = random.Random(f"kill {stage}")
    kills = 0
    for _ in range(10 * KILLS):
        if kills == KILLS:
            break
        kills += killed(project, stream.uniform(0.3, 1.0) * whole, command)
        assert not path.exists() or path.read_bytes() == wanted
    assert kills == KILLS
    project.snakemake(target)
    assert path.read_bytes() == wanted
