"""What a machine does to a run: full disks, read-only folders, damaged files, two runs at once.

In each case nothing wrong is left in place as if it were finished, the message says what to do, and
the next run completes with the bytes of an undisturbed one.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.tiny_models import make_tiny_gguf
from tests.workflow.project import Project
from tests.workflow.test_reruns import edit_temperature, edit_title, snapshot

SHARD = "data/generations/toy/tiny/user/seed-0/00001.parquet"
REPORT = "results/toy/report.html"
MATCHES = "data/matches/toy/tiny.parquet"
NAMESPACE = (
    ("unshare", "--mount")
    if os.access("/", os.W_OK)
    else ("unshare", "--user", "--map-root-user", "--mount")
)


def can_mount() -> bool:
    """Whether a test may mount something that no other process sees."""
    if not shutil.which("unshare"):
        return False
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_mount = pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")


def in_namespace(project: Project, mount: str, *snakemake: str) -> tuple[int, str, list[str]]:
    """Run snakemake with something mounted that goes away with it.

    Returns:
        Its exit status, its output, and the paths of the files on the mounted folder at the end.
    """
    script = f'{mount} && {{ snakemake --cores 1 "$@"; echo "status $?"; find "$folder" -type f; }}'
    folder = mount.split()[-1]
    result = project.run(
        *NAMESPACE, "env", f"folder={folder}", "bash", "-c", script, "bash", *snakemake
    )
    output, _, rest = result.stdout.rpartition("\nstatus ")
    status, *files = rest.split()
    return int(status), output, files


def contents(folder: Path) -> dict[str, bytes]:
    return {name: data for name, (_, data) in snapshot(folder).items()}


@needs_mount
@pytest.mark.parametrize(
    ("folder", "targets", "says"),
    [
        ("data/generations", ["generations"], "the disk is full: free some space"),
        ("results", ["results/toy/report.html"], "the disk is full: free some space"),
    ],
)
def test_a_full_disk(project: Project, folder: str, targets: list[str], says: str) -> None:
    before = contents(project.folder / folder)
    status, output, files = in_namespace(
        project, f"mount -t tmpfs -o size=4k tmpfs {folder}", *targets
    )
    assert status != 0
    assert says in output
    assert "Traceback" not in output
    assert not [name for name in files if name.endswith((".parquet", ".json", ".html"))]
    project.snakemake()
    assert project.reruns() == set()
    assert contents(project.folder / folder).keys() == before.keys()
    if folder == "data/generations":
        assert contents(project.folder / folder) == before


@needs_mount
def test_a_read_only_results_folder(project: Project) -> None:
    before = contents(project.folder / "results")
    project.change(edit_title)
    status, output, _ = in_namespace(
        project, "mount --bind results results && mount -o remount,bind,ro results"
    )
    assert status != 0
    assert "rite-protected output files" in output
    assert contents(project.folder / "results") == before
    project.snakemake()
    assert project.reruns() == set()
    assert contents(project.folder / "results") != before


def test_a_truncated_shard_is_named_and_drawn_again(project: Project) -> None:
    path = project.folder / SHARD
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    result = project.run("snakemake", "--cores", "1")
    assert result.returncode != 0
    assert f"{SHARD}: not a readable Parquet file" in result.stdout
    assert "delete it and run the step that makes it again" in result.stdout
    assert "Traceback" not in result.stdout
    path.unlink()
    # The results were made from the whole shard and stand: they do not ask for it.
    assert project.reruns() == set()
    project.snakemake(SHARD)
    assert path.read_bytes() == whole
    project.snakemake(MATCHES)
    assert project.reruns(MATCHES) == set()


def test_two_runs_at_once(project: Project) -> None:
    """The second is refused at once and harms nothing; the first completes."""
    generations = contents(project.folder / "data/generations")
    project.change(edit_temperature)
    with subprocess.Popen(
        ["snakemake", "--cores", "1", MATCHES],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as first:
        locks = project.folder / ".snakemake/locks"
        while first.poll() is None and not any(locks.glob("*")):
            time.sleep(0.05)
        assert first.poll() is None
        second = project.run("snakemake", "--cores", "1", "generations")
        assert first.poll() is None, "the first run was over before the second was refused"
        output, _ = first.communicate()
    assert second.returncode != 0
    assert "lock" in second.stdout.lower()
    assert first.returncode == 0, output
    assert contents(project.folder / "data/generations").keys() == generations.keys()
    assert project.reruns(MATCHES) == set()


def test_a_clock_that_was_set_back(project: Project) -> None:
    """Files from the future: nothing runs for their dates, and no file of now is put beside them.

    Snakemake, which would take what it makes now for out of date, refuses and says why. Once the
    files have a date of now, the run completes.
    """

    def date(moment: float) -> None:
        for name in ("data", "results", "logs"):
            for path in (project.folder / name).rglob("*"):
                os.utime(path, (moment, moment))

    date(time.time() + 86_400)
    assert project.reruns() == set()
    project.change(edit_title)
    result = project.run("snakemake", "--cores", "1", REPORT)
    assert result.returncode != 0
    assert "clock skew" in result.stdout
    assert "System time" in result.stdout
    date(time.time())
    project.snakemake(REPORT)
    assert project.reruns(REPORT) == set()


def test_a_model_replaced_between_steps(project: Project) -> None:
    """Another model under the same name: refused, fetched anew, and the same bytes are drawn."""
    wanted = contents(project.folder / "data/generations")
    model = project.folder / "data/models/tiny.gguf"
    make_tiny_gguf(model, seed=3)
    (project.folder / SHARD).unlink()
    result = project.run("snakemake", "--cores", "1", "generations")
    assert result.returncode != 0
    assert "where params.yaml pins" in result.stdout
    assert "delete it and run again" in result.stdout
    assert not (project.folder / SHARD).exists()
    model.unlink()
    project.snakemake("generations")
    assert contents(project.folder / "data/generations") == wanted
    assert project.reruns() == set()


@pytest.mark.skipif(not shutil.which("prlimit"), reason="this system has no prlimit")
@pytest.mark.parametrize(("limit", "enough"), [(2 << 30, True), (48 << 20, False)])
def test_memory_is_limited(project: Project, limit: int, enough: bool) -> None:
    """2 GB of private memory for each process are enough; too little leaves nothing behind."""
    wanted = contents(project.folder / "data/generations")
    shutil.rmtree(project.folder / "data/generations")
    output = project.folder / SHARD
    result = project.run("prlimit", f"--data={limit}", "python", "-c", SECOND_SHARD)
    assert (result.returncode == 0) == enough, result.stdout
    assert output.exists() == enough
    project.snakemake("generations")
    assert contents(project.folder / "data/generations") == wanted


SECOND_SHARD = f"""
from pathlib import Path
from alignment_extraction.generations.generation import write_shard
from alignment_extraction.settings.studies import SamplingSettings
sampling = SamplingSettings(samples=24, max_tokens=16, slots=8, shard=12)
write_shard(
    Path("data/models/tiny.gguf"), Path("{SHARD}"), prefix="user", sampling=sampling, seed=0,
    first=12, samples=12, threads=1, gpu_layers=0,
)
"""


def test_a_server_that_is_down_costs_one_rule(project: Project) -> None:
    """The results are there, and once there is a server again the logging alone runs."""
    project.environment |= {
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    result = project.run("snakemake", "--cores", "1", "--forcerun", "track")
    assert result.returncode != 0
    assert "nothing is lost: the results are in results/toy" in result.stdout
    assert project.reruns() == {"track"}
    del project.environment["MLFLOW_TRACKING_URI"]
    project.snakemake()
    assert project.reruns() == set()
