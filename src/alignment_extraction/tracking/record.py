"""The MLflow record of a study, and the only code that talks to MLflow.

All studies share one experiment, so that `mlflow ui` shows them in one table. A study is a parent
run with its tables and report; its conditions, scored models, training stages and students are runs
below it (see `runs` and docs/tracking.md).

A run carries the fingerprint of what it holds. What is there already is not logged again; a result
that changed becomes a new run, and the one it replaces stays, its tag `current` set to `false`.
"""

import contextlib
import difflib
import json
import os
import re
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from alignment_extraction.files import InputError, atomic_path, without_credentials, write_json
from alignment_extraction.provenance import git_revision
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.tracking.runs import RunContent, study_runs

EXPERIMENT = "alignment-extraction"
"""MLflow's experiment that holds the runs of all studies."""

_SQLITE = "sqlite:///"
_ALL = {"max_results": 50_000}  # the most that MLflow gives for one query


class TrackedRun(NamedTuple):
    """A run of a study in MLflow, and whether this call logged it and not one before it."""

    name: str
    run_id: str
    fingerprint: str
    added: bool


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
        study_name, study, folder, data, curves: see `runs.study_runs`.
        output: JSON to write: where it was logged, and each run's name, id and fingerprint.
        uri: of the tracking server or database; by default the environment's `MLFLOW_TRACKING_URI`,
            else mlflow.db in the working directory.

    Returns:
        The study's current runs, the study itself first.

    Raises:
        InputError: a result or data file is missing or unreadable; or MLflow cannot be reached or
            refuses. Nothing is lost then, and calling this again logs it.
    """
    contents = study_runs(study_name, study, folder, data, curves or {})
    # The same folder of the same machine logs one study once at a time.
    origin = f"{socket.gethostname()}:{Path.cwd()}"
    marks = {"study": study_name, "logged_from": origin, "current": "true"}
    if revision := git_revision():
        marks["mlflow.source.git.commit"] = revision
    uri = _address(uri)
    advice = f"nothing is lost: the results are in {folder}, and running this step again logs them"
    with _connection(uri, "cannot log to", advice) as client:
        experiment = _experiment_id(client, uri)
        known = {}
        for run in client.search_runs([experiment], f"tags.study = '{study_name}'", **_ALL):
            if run.info.status == "FINISHED":
                known[run.data.tags["fingerprint"]] = run
            elif run.data.tags.get("logged_from") == origin:
                # It was cut off. One of another place may still be being logged.
                client.delete_run(run.info.run_id)
        runs: list[TrackedRun] = []
        for content in tqdm(contents, unit="run", desc="MLflow"):
            fingerprint = content.fingerprint()
            parent = {"mlflow.parentRunId": runs[0].run_id} if runs else {}
            if found := known.pop(fingerprint, None):
                run_id, tags = found.info.run_id, {"current": "true", **parent}
                changed = tags.items() - found.data.tags.items()
                client.log_batch(run_id, tags=[RunTag(*tag) for tag in sorted(changed)])
            else:
                tags = {"kind": content.kind, "fingerprint": fingerprint, **marks, **parent}
                run_id = _log(client, experiment, content, tags, folder)
            if content.kind == "study":
                # The page shows the run's numbers in another form: a new one replaces the old.
                for path in sorted(folder.glob("*")):
                    if path.suffix in (".html", ".md", ".yaml"):
                        client.log_artifact(run_id, str(path))
            if not found:
                # Last: an unfinished run is one whose logging was cut off.
                client.set_terminated(run_id)
            runs.append(TrackedRun(content.name, run_id, fingerprint, added=not found))
        for run in known.values():
            if run.data.tags["current"] == "true":
                client.set_tag(run.info.run_id, "current", "false")
    kept = [dict(zip(TrackedRun._fields[:3], run, strict=False)) for run in runs]
    about = {"uri": without_credentials(uri), "experiment": EXPERIMENT, "study": study_name}
    write_json({**about, "experiment_id": experiment, "runs": kept}, output)
    return runs


def find_run(name_or_id: str, uri: str | None = None) -> Run:
    """Find a run by its id, or the current run of a name.

    Args:
        name_or_id: such as `controlled/sft-q8/user/seed-0`, or MLflow's 32 hexadecimal digits.
        uri: as for `track`.

    Raises:
        InputError: there is no such run, or MLflow cannot be reached.
    """
    uri = _address(uri)
    with _connection(uri, "cannot read from", "check MLFLOW_TRACKING_URI") as client:
        if re.fullmatch("[0-9a-f]{32}", name_or_id):
            with contextlib.suppress(MlflowException):
                return client.get_run(name_or_id)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        query = "tags.current = 'true'"
        current = (
            client.search_runs([experiment.experiment_id], query, **_ALL) if experiment else []
        )
    named = {run.info.run_name: run for run in current}
    if name_or_id in named:
        return named[name_or_id]
    closest = ", ".join(difflib.get_close_matches(name_or_id, named, cutoff=0))
    raise InputError(
        f"MLflow at {without_credentials(uri)} has no run {name_or_id!r}; "
        + (f"the closest are {closest}" if closest else "it holds no study yet")
    )


def _address(uri: str | None) -> str:
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow.db"


@contextlib.contextmanager
def _connection(uri: str, failure: str, advice: str) -> Iterator[MlflowClient]:
    """A client, whose failures are one sentence; an SQLite database is made unless it is there."""
    try:
        if uri.startswith(_SQLITE):
            # MLflow keeps a database open by its URI, whatever directory that is relative to.
            path = Path(uri.removeprefix(_SQLITE)).resolve()
            path.parent.mkdir(parents=True, exist_ok=True)
            # Its tables break if two processes make them at once or one is killed meanwhile.
            if not path.exists():
                with FileLock(f"{path}.lock"):
                    if not path.exists():
                        with atomic_path(path) as partial:
                            MlflowClient(f"{_SQLITE}{partial}").get_experiment("0")
            # MLflow tries for two minutes to open what cannot be opened.
            with contextlib.closing(sqlite3.connect(path)) as database:
                database.execute("PRAGMA schema_version")
            yield MlflowClient(f"{_SQLITE}{path}")
        else:
            yield MlflowClient(uri)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = without_credentials(" ".join(str(error).split()))[:300]
        raise InputError(
            f"{failure} MLflow at {without_credentials(uri)} ({reason}); {advice}"
        ) from None


def _experiment_id(client: MlflowClient, uri: str) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        path = Path(uri.removeprefix(_SQLITE)).resolve()
        location = (path.parent / "mlartifacts").as_uri() if uri.startswith(_SQLITE) else None
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=location))
        except MlflowException:
            # Another study may be faster.
            if (found := client.get_experiment_by_name(EXPERIMENT)) is None:
                raise
    return str(found.experiment_id)


def _log(
    client: MlflowClient,
    experiment: str,
    content: RunContent,
    tags: Mapping[str, str],
    folder: Path,
) -> str:
    """Log one run, leave it unfinished and give its id."""
    run = client.create_run(experiment, tags=tags, run_name=content.name)
    run_id = str(run.info.run_id)
    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        params=[Param(key, value) for key, value in content.params.items()],
        metrics=[Metric(key, value, now, step) for key, step, value in content.metrics.rows()],
    )
    inputs = [
        DatasetInput(
            Dataset(name, file.md5, source_type="local", source=json.dumps({"uri": file.path})),
            [InputTag("mlflow.data.context", name)],
        )
        for name, file in content.data.items()
    ]
    client.log_inputs(run_id, inputs)
    for name in content.tables:
        client.log_artifact(run_id, str(folder / name), "tables")
    return run_id
