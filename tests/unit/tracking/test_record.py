"""The MLflow record, in real databases and on a real server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow.data
import polars as pl
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from alignment_extraction.files import InputError, write_parquet
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.tracking.record import EXPERIMENT, TrackedRun, find_run, track
from tests import tracked_study

ROOT = Path(__file__).parents[3]
SMALL: dict[str, Any] = {"models": ["sft"], "seeds": [0], "likelihood": None}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A working directory with an empty mlflow.db, and a client to look into it."""
    uri = tracked_study.write_empty_database(tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return MlflowClient(uri)


def settings(**changes: Any) -> StudySettings:
    return tracked_study.settings(**{**SMALL, **changes})


def record(study: StudySettings, name: str = "invented", **more: Any) -> list[TrackedRun]:
    """Write the study's results where the workflow does, and track them."""
    folder = Path("results") / name
    data = tracked_study.write_results(folder, study)
    return track(name, study, folder, data, folder / "tracked.json", **more)


def active(client: MlflowClient, query: str = "") -> list[Run]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], query))


def test_a_study_is_a_parent_with_runs_below_it(workplace: MlflowClient) -> None:
    study = tracked_study.settings()
    curves = Path("sft-curves.parquet")
    write_parquet(
        pl.DataFrame({"step": [5, 9], "metric": ["loss"] * 2, "value": [2.0, 1.5]}), curves
    )
    tracked = record(study, curves={"sft": curves})
    assert all(run.added for run in tracked)
    runs = {run.info.run_name: run for run in active(workplace)}
    assert sorted(runs) == sorted(run.name for run in tracked)
    assert len(runs) == 1 + 8 + 2 + 1
    parent = runs["invented"]
    assert "mlflow.parentRunId" not in parent.data.tags
    for name, run in runs.items():
        assert run.info.status == "FINISHED"
        assert run.data.tags["study"] == "invented"
        assert run.data.tags["current"] == "true"
        assert name == "invented" or run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    condition = runs["invented/rl/user/seed-1"]
    row = pl.read_parquet("results/invented/attribution.parquet").row(
        by_predicate=(pl.col("model") == "rl")
        & (pl.col("prefix") == "user")
        & (pl.col("seed") == 1)
        & (pl.col("at") == "fixed")
        & (pl.col("metric") == "cosine"),
        named=True,
    )
    assert condition.data.metrics["attributable/sums/rows/question/cosine"] == row["attributable"]
    assert condition.data.metrics["attributable_high/sums/rows/question/cosine"] == row["high"]
    assert condition.data.params["sampling.samples"] == "40"
    curve = workplace.get_metric_history(runs["invented/training/sft"].info.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(5, 2.0), (9, 1.5)]
    shift = "shift/sft/sums/question/without-template/token"
    assert shift in runs["invented/models/rl"].data.metrics


def test_sweeps_are_curves(workplace: MlflowClient) -> None:
    record(settings())
    sweep = pl.read_parquet("results/invented/attribution.parquet").filter(
        prefix="user", at="sweep"
    )
    run = find_run("invented/sft/user/seed-0")
    for metric in ("cosine", "levenshtein", "indel"):
        points = workplace.get_metric_history(
            run.info.run_id, f"sweep_attributable/sums/rows/question/{metric}"
        )
        logged = sorted((point.step / 1000, point.value) for point in points)
        table = sweep.filter(metric=metric).select("threshold", "attributable").rows()
        assert [t for t, _ in logged] == pytest.approx([t for t, _ in table])
        assert [rate for _, rate in logged] == [rate for _, rate in table]


def test_data_sets_are_inputs_with_their_md5(workplace: MlflowClient) -> None:
    record(settings())
    inputs = find_run("invented/sft/hello/seed-0").inputs.dataset_inputs
    md5 = subprocess.run(["md5sum", "results/corpus.parquet"], capture_output=True, text=True)
    digests = {item.dataset.name: item.dataset.digest for item in inputs}
    assert digests["corpus"] == md5.stdout.split()[0]
    assert set(digests) == {"corpus", "sft/hello/seed-0/00000"}
    corpus = next(item.dataset for item in inputs if item.dataset.name == "corpus")
    path = mlflow.data.get_source(corpus).load()
    assert pl.read_parquet(path).equals(tracked_study.corpus())


def test_tables_and_report_are_artifacts(workplace: MlflowClient) -> None:
    parent = record(settings())[0]

    def names(path: str = "") -> set[str]:
        return {entry.path for entry in workplace.list_artifacts(parent.run_id, path)}

    assert names() == {"tables", "report.html"}
    assert {"tables/metrics.json", "tables/attribution.parquet"} <= names("tables")
    copy = workplace.download_artifacts(parent.run_id, "tables/attribution.parquet")
    assert Path(copy).read_bytes() == Path("results/invented/attribution.parquet").read_bytes()
    assert Path("mlartifacts").is_dir()


def test_a_second_time_adds_nothing(workplace: MlflowClient) -> None:
    study = settings()
    first = record(study)
    tracked = Path("results/invented/tracked.json").read_bytes()
    before = [run.to_dictionary() for run in active(workplace)]
    second = record(study)
    assert not any(run.added for run in second)
    assert [run.run_id for run in second] == [run.run_id for run in first]
    assert [run.to_dictionary() for run in active(workplace)] == before
    assert Path("results/invented/tracked.json").read_bytes() == tracked
    written = json.loads(tracked)
    assert written["uri"] == "sqlite:///mlflow.db"
    assert [(run["name"], run["run_id"], run["fingerprint"]) for run in written["runs"]] == [
        run[:3] for run in first
    ]


def test_a_changed_threshold_adds_runs_and_keeps_the_old(workplace: MlflowClient) -> None:
    name = "invented/sft/user/seed-0"
    first = record(settings())
    old = find_run(name)
    second = record(settings(thresholds={"semantic": 0.8}))
    assert all(run.added for run in second)
    new = find_run(name)
    assert new.info.run_id != old.info.run_id
    key = "member_wins/sums/rows/question/cosine"
    assert new.data.metrics[key] > old.data.metrics[key]
    assert find_run(old.info.run_id).data.metrics == old.data.metrics
    assert len(active(workplace, f"attributes.run_name = '{name}'")) == 2
    current = {run.info.run_id for run in active(workplace, "tags.current = 'true'")}
    assert current == {run.run_id for run in second}
    # Back again: the first runs are the current ones once more.
    third = record(settings())
    assert [run[:3] for run in third] == [run[:3] for run in first]
    assert find_run(name).info.run_id == old.info.run_id
    current = {run.info.run_id for run in active(workplace, "tags.current = 'true'")}
    assert current == {run.run_id for run in first}


def test_a_seed_more_leaves_the_other_runs_under_the_new_parent(workplace: MlflowClient) -> None:
    record(settings())
    folder = Path("results/invented")
    more = settings(seeds=[0, 1])
    # A condition's scores are its own: those of seed 0 are as they were.
    data = tracked_study.write_results(folder, more)
    runs = track("invented", more, folder, data, folder / "tracked.json")
    assert [run.name for run in runs if run.added] == [
        "invented",
        "invented/sft/user/seed-1",
        "invented/sft/hello/seed-1",
    ]
    below = active(workplace, f"tags.`mlflow.parentRunId` = '{runs[0].run_id}'")
    assert len(below) == 4


def test_a_new_report_replaces_that_of_the_same_run(workplace: MlflowClient) -> None:
    study = settings()
    folder = Path("results/invented")
    data = tracked_study.write_results(folder, study)
    parent = track("invented", study, folder, data, folder / "tracked.json")[0]
    (folder / "report.html").write_text("<!doctype html><!-- another style -->")
    again = track("invented", study, folder, data, folder / "tracked.json")
    assert not any(run.added for run in again)
    copy = workplace.download_artifacts(parent.run_id, "report.html")
    assert "another style" in Path(copy).read_text()


def test_studies_lie_side_by_side(workplace: MlflowClient) -> None:
    record(settings(), "one")
    record(settings(seeds=[1]), "two")
    studies = active(workplace, "tags.kind = 'study'")
    assert {run.info.run_name for run in studies} == {"one", "two"}
    assert len(active(workplace, "tags.current = 'true'")) == 6


def test_an_unknown_run_is_refused_with_the_closest_names(workplace: MlflowClient) -> None:
    with pytest.raises(InputError, match=r"no run 'a/b'; it holds no study yet"):
        find_run("a/b")
    record(settings())
    with pytest.raises(InputError, match=r"has no run 'invented/sft/user/seed-9'; .*/user/seed-0"):
        find_run("invented/sft/user/seed-9")
    with pytest.raises(InputError, match="has no run '0000"):
        find_run("0" * 32)


def test_the_revision_is_a_tag(workplace: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    study = settings()
    assert "mlflow.source.git.commit" not in find(record(study)).data.tags

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        done = subprocess.run(
            ["git", *identity, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init")
    Path("file").write_text("a")
    git("add", "file")
    git("commit", "-m", "first")
    tags = find(record(study, "clean")).data.tags
    assert tags["mlflow.source.git.commit"] == git("rev-parse", "HEAD")
    Path("file").write_text("b")
    tags = find(record(study, "changed")).data.tags
    assert tags["mlflow.source.git.commit"] == git("rev-parse", "HEAD") + "-dirty"
    monkeypatch.setenv("PATH", "")
    assert "mlflow.source.git.commit" not in find(record(study, "without-git")).data.tags


def find(runs: list[TrackedRun]) -> Run:
    return find_run(runs[0].run_id)


# Other processes ----------------------------------------------------------------------------------

SCRIPT = """
import json, sys
from pathlib import Path
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.tracking.record import track
name, settings, corpus = sys.argv[1:]
folder = Path("results") / name
track(name, StudySettings(**json.loads(settings)), folder, {"corpus": Path(corpus)},
      folder / "tracked.json")
"""


def start(name: str, study: StudySettings) -> subprocess.Popen[str]:
    arguments = [name, study.model_dump_json(), "results/corpus.parquet"]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


def test_two_studies_at_once_in_a_new_database(
    workplace: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///new/runs.db")
    study = settings()
    for name in ("one", "two"):
        tracked_study.write_results(Path("results") / name, study)
    processes = [start(name, study) for name in ("one", "two")]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    runs = active(MlflowClient(f"sqlite:///{tmp_path}/new/runs.db"))
    assert len(runs) == 6
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_killed_logging_is_completed_by_the_next(workplace: MlflowClient, tmp_path: Path) -> None:
    study = settings(seeds=list(range(6)), sampling={"samples": 10})
    folder = Path("results/invented")
    data = {"corpus": tracked_study.write_results(folder, study)["corpus"]}
    process = start("invented", study)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if workplace.get_experiment_by_name(EXPERIMENT) and len(active(workplace)) > 3:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 3 < len(active(workplace)) < 13
    assert not (folder / "tracked.json").exists()
    tracked = track("invented", study, folder, data, folder / "tracked.json")
    assert 0 < sum(run.added for run in tracked) < 13
    # The same as in a database where nothing was killed.
    uri = tracked_study.write_empty_database(tmp_path / "other.db")
    track("invented", study, folder, data, folder / "tracked.json", uri)
    completed, whole = (
        {run.info.run_name: run for run in active(client)}
        for client in (workplace, MlflowClient(uri))
    )
    assert len(active(workplace)) == len(completed) == len(whole) == 13
    for name, run in whole.items():
        assert completed[name].info.status == "FINISHED"
        assert completed[name].data.tags["current"] == "true"
        assert completed[name].data.metrics == run.data.metrics
        assert completed[name].data.params == run.data.params


def test_an_unfinished_run_of_another_place_is_left_alone(
    workplace: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people who track one study on one server: neither deletes what the other is logging."""
    first = record(settings())
    experiment = workplace.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    origins = {run.data.tags["logged_from"] for run in active(workplace)}
    (here,) = origins
    unfinished = {
        origin: workplace.create_run(
            experiment.experiment_id, tags={"study": "invented", "logged_from": origin}
        ).info.run_id
        for origin in (here, "elsewhere:/home/someone")
    }
    assert not any(run.added for run in record(settings()))
    left = {run.info.run_id for run in active(workplace)} - {run.run_id for run in first}
    assert left == {unfinished["elsewhere:/home/someone"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an MLflow server over HTTP."""
    folder = tmp_path_factory.mktemp("server")
    tracked_study.write_empty_database(folder / "mlflow.db")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", "sqlite:///mlflow.db"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    address = f"127.0.0.1:{port}"
    deadline = time.monotonic() + 300
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/health", timeout=5):
                break
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
    yield address
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_server_over_http_holds_the_same(
    server: str,
    workplace: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:hunter2@{server}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "100")
    study = settings()
    first = record(study)
    assert not any(run.added for run in record(study))
    local = {run.name: run.fingerprint for run in record(study, uri="sqlite:///mlflow.db")}
    assert {run.name: run.fingerprint for run in first} == local
    name = "invented/sft/user/seed-0"
    assert find_run(name).data.metrics == find_run(name, "sqlite:///mlflow.db").data.metrics
    remote = MlflowClient(f"http://{server}")
    points = remote.get_metric_history(
        find_run(name).info.run_id, "sweep_attributable/sums/rows/question/cosine"
    )
    assert len(points) == 51
    copy = remote.download_artifacts(first[0].run_id, "tables/attribution.parquet")
    assert Path(copy).read_bytes() == Path("results/invented/attribution.parquet").read_bytes()
    record(study)
    written = Path("results/invented/tracked.json").read_text()
    assert json.loads(written)["uri"] == f"http://{server}"
    captured = capfd.readouterr()
    assert "hunter2" not in written + captured.out + captured.err


def test_a_server_that_is_down_loses_nothing_in_bounded_time(workplace: MlflowClient) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    study = settings()
    data = tracked_study.write_results(Path("results/invented"), study)
    output = Path("results/invented/tracked.json")
    begin = time.monotonic()
    with pytest.raises(InputError) as failure:
        track(
            "invented",
            study,
            Path("results/invented"),
            data,
            output,
            f"http://someone:hunter2@{address}?token=hunter2",
        )
    assert time.monotonic() - begin < 30
    message = str(failure.value)
    assert message.startswith(f"cannot log to MLflow at http://{address} (")
    assert "nothing is lost: the results are in results/invented, and running this" in message
    assert "\n" not in message
    assert "hunter2" not in message
    assert not output.exists()
    assert all(run.added for run in track("invented", study, output.parent, data, output))


def test_a_server_that_never_answers_is_given_up(
    workplace: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        with pytest.raises(InputError, match=r"cannot read from MLflow .*; check MLFLOW_TRACK"):
            find_run("a", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - begin < 30


@pytest.mark.parametrize("content", [b"not a database" * 100, None])
def test_a_database_that_cannot_be_opened_is_refused_at_once(
    workplace: MlflowClient, content: bytes | None
) -> None:
    Path("mlflow.db").unlink()
    if content is None:
        Path("mlflow.db").mkdir()
    else:
        Path("mlflow.db").write_bytes(content)
    begin = time.monotonic()
    with pytest.raises(InputError, match=r"cannot log to MLflow at sqlite:///mlflow\.db \("):
        record(settings())
    assert time.monotonic() - begin < 30


def test_a_deleted_experiment_is_refused(workplace: MlflowClient) -> None:
    workplace.delete_experiment(workplace.create_experiment(EXPERIMENT))
    with pytest.raises(InputError, match="must be in the 'active' state"):
        record(settings())


def test_what_is_missing_is_named_before_mlflow_is_touched(
    workplace: MlflowClient, tmp_path: Path
) -> None:
    study = settings()
    folder = Path("results/invented")
    data: Mapping[str, Path] = tracked_study.write_results(folder, study)
    (folder / "attribution.parquet").unlink()
    with pytest.raises(InputError, match=r"attribution\.parquet: no such file"):
        track("invented", study, folder, data, folder / "tracked.json", "http://127.0.0.1:1")
