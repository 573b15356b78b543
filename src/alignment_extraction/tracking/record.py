"""The MLflow record of a study, and the only code that talks to MLflow.

All studies share one experiment, so that `mlflow ui` shows them in one table. A study is a parent
run with its tables and report; its conditions, scored models and training stages are runs below it
(see `runs` and docs/tracking.md).

A run carries the fingerprint of what it holds. What is there already is not logged again; a result
that changed becomes a new run, and the one it replaces stays, its tag `current` set to `false`.
"""

import contextlib
import difflib
import json
import logging
import os
import re
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from alignment_extraction.files import (
    InputError,
    atomic_path,
    sha256,
    without_credentials,
    write_json,
)
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.tracking.runs import RunContent, digest, git_tags, study_runs
from alignment_extraction.tracking.students import student_runs

# Before MLflow is imported, for then it begins to report its use to its makers. The limits keep a
# server that is down from holding up a study for many minutes. What the user has set wins.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # It would print a URL with its password.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}.items():
    os.environ.setdefault(_name, _value)

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import (  # noqa: E402
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException  # noqa: E402

EXPERIMENT = "alignment-extraction"
"""MLflow's experiment that holds the runs of all studies."""

DEFAULT_URI = "sqlite:///mlflow.db"
"""Where runs go if neither an argument nor `MLFLOW_TRACKING_URI` says otherwise."""

_SQLITE = "sqlite:///"
_MOST_RUNS = 50_000  # the most that MLflow gives for one query

# Making the tables of a new database logs a hundred lines; a retry logs the query of a URL. What
# fails in the end is raised.
for _name in ("alembic", "mlflow.store.db", "urllib3.connectionpool"):
    logging.getLogger(_name).setLevel(logging.ERROR)


class TrackedRun(NamedTuple):
    """A run of a study in MLflow."""

    name: str
    run_id: str
    fingerprint: str
    added: bool
    """Whether this call logged it, and not one before it."""


def track(
    study_name: str,
    study: StudySettings,
    folder: Path,
    data: Mapping[str, Path],
    output: Path,
    uri: str | None = None,
    curves: Mapping[str, Path] | None = None,
) -> list[TrackedRun]:
    """Log a study's results to MLflow, all but what is there already.

    Args:
        study_name: the study's key in params.yaml.
        study: its settings.
        folder: its results: metrics.json, Parquet tables, report.html.
        data: files that the study was made from, by name; see `runs.study_runs`.
        output: JSON to write: where it was logged, and each run's name, id and fingerprint.
        uri: of the tracking server or database; by default the environment's `MLFLOW_TRACKING_URI`,
            else `DEFAULT_URI`.
        curves: Parquet files of training curves (step, metric, value) by training stage.

    Returns:
        The study's current runs, the study itself first.

    Raises:
        InputError: a result or data file is missing or unreadable; or MLflow cannot be reached or
            refuses. Nothing is lost then, and calling this again logs it.
    """
    contents = study_runs(study_name, study, folder, data, curves or {})
    contents += student_runs(study_name, folder, contents[0].data)
    marks = {
        "study": study_name,
        "params_fingerprint": digest(study.model_dump(mode="json")),
        "logged_from": _origin(),
        **git_tags(),
    }
    uri = _resolve(uri)
    advice = f"nothing is lost: the results are in {folder}, and running this step again logs them"
    with _connection(uri, "cannot log to", advice) as client:
        experiment = _experiment_id(client, uri)
        known = _known_runs(client, experiment, study_name)
        runs: list[TrackedRun] = []
        place = {"current": "true"}
        for content in tqdm(contents, unit="run", desc="MLflow"):
            fingerprint = content.fingerprint()
            if run := known.get(fingerprint):
                run_id = run.info.run_id
                moved = {k: v for k, v in place.items() if run.data.tags.get(k) != v}
                client.log_batch(run_id, tags=[RunTag(k, v) for k, v in moved.items()])
            else:
                tags = {"kind": content.kind, "fingerprint": fingerprint, **marks, **place}
                run_id = _log(client, experiment, content, tags, folder)
            if content.kind == "study":
                _upload_pages(client, run_id, folder)
                place["mlflow.parentRunId"] = run_id
            if not run:
                # Last: an unfinished run is one whose logging was cut off.
                client.set_terminated(run_id)
            runs.append(TrackedRun(content.name, run_id, fingerprint, added=not run))
        current = {run.run_id for run in runs}
        for run in known.values():
            if run.info.run_id not in current and run.data.tags["current"] == "true":
                client.set_tag(run.info.run_id, "current", "false")
    about = {
        "uri": without_credentials(uri),
        "experiment": EXPERIMENT,
        "experiment_id": experiment,
        "study": study_name,
        "runs": [{k: v for k, v in run._asdict().items() if k != "added"} for run in runs],
    }
    write_json(about, output)
    return runs


def find_run(name_or_id: str, uri: str | None = None) -> Run:
    """Find a run by its id, or the current run of a name.

    Args:
        name_or_id: such as `controlled/sft-q8/user/seed-0`, or MLflow's 32 hexadecimal digits.
        uri: as for `track`.

    Raises:
        InputError: there is no such run, or MLflow cannot be reached.
    """
    uri = _resolve(uri)
    with _connection(uri, "cannot read from", "check MLFLOW_TRACKING_URI") as client:
        if re.fullmatch("[0-9a-f]{32}", name_or_id):
            with contextlib.suppress(MlflowException):
                return client.get_run(name_or_id)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        named = {}
        if experiment:
            current = _search(client, experiment.experiment_id, "tags.current = 'true'")
            named = {run.info.run_name: run for run in current}
    if name_or_id in named:
        return named[name_or_id]
    closest = difflib.get_close_matches(name_or_id, named, cutoff=0)
    raise InputError(
        f"MLflow at {without_credentials(uri)} has no run {name_or_id!r}; "
        + (f"the closest are {', '.join(closest)}" if closest else "it holds no study yet")
    )


def _resolve(uri: str | None) -> str:
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


@contextlib.contextmanager
def _connection(uri: str, failure: str, advice: str) -> Iterator[MlflowClient]:
    try:
        if path := _sqlite_path(uri):
            _open_database(path)
            # MLflow keeps a database open by its URI, whatever directory that is relative to.
            yield MlflowClient(tracking_uri=f"{_SQLITE}{path.resolve()}")
        else:
            yield MlflowClient(tracking_uri=uri)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = without_credentials(" ".join(str(error).split()))[:300]
        raise InputError(
            f"{failure} MLflow at {without_credentials(uri)} ({reason}); {advice}"
        ) from None


def _sqlite_path(uri: str) -> Path | None:
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def _open_database(path: Path) -> None:
    """Make an SQLite database unless it is there; fail at once if it cannot be read.

    MLflow's tables break if two processes make them at once or one is killed meanwhile, and MLflow
    tries for two minutes to open what cannot be opened.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                with atomic_path(path) as partial:
                    MlflowClient(f"{_SQLITE}{partial.resolve()}").get_experiment("0")
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA schema_version")


def _experiment_id(client: MlflowClient, uri: str) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        path = _sqlite_path(uri)
        location = (path.resolve().parent / "mlartifacts").as_uri() if path else None
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=location))
        except MlflowException:
            # Another study may have been faster.
            experiment = client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                raise
    return str(experiment.experiment_id)


def _search(client: MlflowClient, experiment: str, query: str) -> list[Run]:
    return list(client.search_runs([experiment], query, max_results=_MOST_RUNS))


def _known_runs(client: MlflowClient, experiment: str, study: str) -> dict[str, Run]:
    """A study's finished runs by fingerprint; what was cut off in this folder is deleted.

    An unfinished run of another folder or machine may still be being logged.
    """
    known = {}
    for run in _search(client, experiment, f"tags.study = '{study}'"):
        if run.info.status == "FINISHED":
            known[run.data.tags["fingerprint"]] = run
        elif run.data.tags.get("logged_from") == _origin():
            client.delete_run(run.info.run_id)
    return known


def _origin() -> str:
    """This machine and folder: the same place logs one study once at a time."""
    return f"{socket.gethostname()}:{Path.cwd()}"


def _log(
    client: MlflowClient,
    experiment: str,
    content: RunContent,
    tags: Mapping[str, str],
    folder: Path,
) -> str:
    """Log one run, leave it unfinished and give its id."""
    digests = {f"md5.{name}": file.md5 for name, file in content.data.items()}
    run = client.create_run(experiment, tags={**tags, **digests}, run_name=content.name)
    run_id = str(run.info.run_id)
    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        params=[Param(key, value) for key, value in content.params.items()],
        metrics=[Metric(key, value, now, step) for key, step, value in content.metrics.rows()],
    )
    client.log_inputs(run_id, [_dataset(name, *file) for name, file in content.data.items()])
    for name in content.tables:
        client.log_artifact(run_id, str(folder / name), "tables")
    return run_id


def _dataset(name: str, path: str, md5: str) -> Any:
    dataset = Dataset(name, md5, source_type="local", source=json.dumps({"uri": path}))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", name)])


def _upload_pages(client: MlflowClient, run_id: str, folder: Path) -> None:
    """Put the report and the cards with a run, unless they are there.

    They show the run's numbers in another form, and the report names the revision that made it: if
    they alone changed, they replace those of the same run.
    """
    files = [path for path in sorted(folder.glob("*")) if path.suffix in (".html", ".md", ".yaml")]
    fingerprint = digest([[path.name, sha256(path)] for path in files])
    if client.get_run(run_id).data.tags.get("pages_fingerprint") != fingerprint:
        for path in files:
            client.log_artifact(run_id, str(path))
        client.set_tag(run_id, "pages_fingerprint", fingerprint)
