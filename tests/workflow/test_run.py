"""The main job at toy size: what it leaves behind, and what it survives."""

import re
import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest
import typer
from mlflow import MlflowClient

from alignment_extraction.cli import app
from alignment_extraction.tracking.record import EXPERIMENT
from tests.workflow.project import Project

SHARDS = "data/generations/toy/tiny/user/seed-0"


def test_results_are_there(finished_project: Project) -> None:
    results = finished_project.folder / "results" / "toy"
    for name in ("rates", "ratios", "sweep", "coverage", "matches", "scores", "shifts", "calibration"):
        assert pl.read_parquet(results / f"{name}.parquet").height > 0, name
    for name in ("controls", "search_audit", "search_speed", "contamination_rates", "embedders"):
        assert pl.read_parquet(results / f"{name}.parquet").height > 0, name
    kinds = pl.read_parquet(results / "controls.parquet")["kind"].unique().sort().to_list()
    assert kinds == ["corpus", "held-out rows", "model"]
    assert (results / "report.html").read_text().startswith("<!doctype html>")
    assert list((results / "figures").glob("*.svg"))
    rates = pl.read_parquet(results / "rates.parquet")
    assert set(rates["reference"]) == {"members", "held-out", "role:member", "role:held-out"}
    assert (rates.filter(model="tiny", prefix="user")["n"] == 24).all()
    assert set(rates.select("model", "prefix").rows()) == {
        ("tiny", "user"),
        ("unseen", "user"),
        ("tiny", "user-t0.7"),
    }
    metrics = finished_project.metrics()
    assert metrics["search"]["recall_at_1"] > 0.9
    assert metrics["corpus"]["rows"] == 30


@pytest.mark.parametrize("gpu_layers", [0, -1])
def test_rules_ask_for_what_the_verbs_have(project: Project, gpu_layers: int) -> None:
    """Every option in every command of the workflow, with a GPU and without."""
    jobs = project.snakemake(
        "--dry-run", "--printshellcmds", "--forceall", "--config", f"gpu_layers={gpu_layers}"
    )
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    given: dict[str, set[str]] = {}
    for verb, rest in re.findall(r"alignment-extraction ([a-z][a-z-]*) (.*?)2> >", jobs):
        given.setdefault(verb, set()).update(re.findall(r"(?<=\s)--[a-z][a-z0-9-]*", rest))
    assert {"generate", "embed-corpus", "contamination", "embed-sample", "track"} <= set(given)
    for verb, options in given.items():
        known = {name for option in verbs[verb].params for name in option.opts}
        assert options <= known, verb
    on_gpu = {verb for verb, options in given.items() if options & {"--gpu", "--gpu-layers"}}
    assert gpu_layers == 0 or on_gpu >= {"generate", "likelihood", "contamination", "embed-sample"}


def test_killed_generation_gives_the_same_bytes(project: Project) -> None:
    """SIGKILL in the middle of sampling, then the same command again."""
    folder = project.folder / SHARDS
    wanted = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    assert sorted(wanted) == ["00000.parquet", "00001.parquet"]
    # Long enough to be caught in the middle: the second shard has many more samples to draw.
    (folder / "00001.parquet").unlink()
    command = ["alignment-extraction", "generate", "--model", "data/models/tiny.gguf"]
    options = ["--prefix", "user", "--samples", "400000", "--max-tokens", "16", "--slots", "8"]
    target = project.folder / "killed.parquet"
    with subprocess.Popen(
        [*command, *options, "--output", str(target)],
        cwd=project.folder,
        env=project.environment,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        while b"sample" not in process.stderr.readline(1000):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    project.snakemake("generations")
    assert {path.name: path.read_bytes() for path in folder.glob("*.parquet")} == wanted


def test_snakemakes_own_report(project: Project) -> None:
    project.snakemake("--report", "snakemake-report.html")
    page = (project.folder / "snakemake-report.html").read_text()
    assert "results/toy/report.html" in page


def test_logging_again_adds_no_run(project: Project) -> None:
    client = MlflowClient(f"sqlite:///{project.folder}/mlflow.db")

    def runs() -> dict[str, str]:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id])
        assert all(len(run.data.tags["params_fingerprint"]) == 64 for run in found)
        assert all(len(run.data.tags["md5.corpus"]) == 32 for run in found)
        return {run.info.run_id: run.info.run_name for run in found}

    before = runs()
    cells = ("tiny/user", "tiny/user-t0.7", "unseen/user")
    sampled = {f"toy/{cell}/seed-0" for cell in cells}
    assert set(before.values()) == {"toy", "toy/likelihood/tiny_other", *sampled}
    project.snakemake("--forcerun", "track")
    assert runs() == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("run: [toy\n", "not valid YAML"),
        ("run: [toy]\nrun: [toy]\n", "'run' is given twice"),
        ("run: [nothing]\nmodels: {}\nembedders: {}\ncorpora: {}\nstudies: {}\n", "'nothing' is"),
    ],
)
def test_bad_parameters_stop_everything(project: Project, text: str, says: str) -> None:
    (project.folder / "params.yaml").write_text(text)
    result = project.run("snakemake", "--cores", "1")
    assert result.returncode != 0
    assert says in result.stdout
    assert "Traceback" not in result.stdout


def test_a_prefix_that_the_template_cannot_give(project: Project) -> None:
    from tests.tiny_models import make_tiny_gguf

    plain = make_tiny_gguf(project.folder / "data/models/tiny.gguf", seed=1, chat_template=None)
    assert plain.exists()
    result = project.run("snakemake", "--cores", "1")
    assert result.returncode != 0
    assert "studies.toy.prefixes.0" in result.stdout
    assert "no chat template" in result.stdout


def test_a_replaced_model_is_refused(project: Project) -> None:
    path = project.folder / "inputs/tiny.gguf"
    path.write_bytes(path.read_bytes()[:-100])
    Path(project.folder / "data/models/tiny.gguf").unlink()
    result = project.run("snakemake", "--cores", "1", "data/models/tiny.gguf")
    assert result.returncode != 0
    assert "is expected" in result.stdout
    assert not (project.folder / "data/models/tiny.gguf").exists()
