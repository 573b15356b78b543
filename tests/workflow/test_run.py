"""The main job at toy size: what it leaves behind, and what it survives."""

import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest
from mlflow import MlflowClient

from alignment_extraction.tracking.record import EXPERIMENT
from alignment_extraction.tracking.runs import flat
from tests.workflow.project import Project

SHARDS = "data/generations/toy/tiny/user/seed-0"


def test_results_are_there(finished_project: Project) -> None:
    results = finished_project.folder / "results" / "toy"
    for name in ("attribution", "exchangeability", "scores", "rows", "risk", "shift"):
        assert pl.read_parquet(results / f"{name}.parquet").height > 0, name
    assert (results / "report.html").read_text().startswith("<!doctype html>")
    attribution = pl.read_parquet(results / "attribution.parquet")
    assert set(attribution.select("model", "prefix", "n").rows()) == {
        ("tiny", "user", 24),
        ("other", "user", 12),
        ("tiny", "user-t0.7", 12),
    }
    assert set(attribution.select("model", "trained").rows()) == {("tiny", True), ("other", False)}
    # 20 members against 10 held-out rows that stand in for twins.
    assert set(attribution.select("level", "members", "twins").rows()) == {("rows", 20, 10)}
    assert set(pl.read_parquet(results / "rows.parquet")["role"]) == {"member", "held-out"}
    numbers = finished_project.metrics()
    assert 0 < len(flat(numbers)) <= 500


def test_killed_generation_gives_the_same_bytes(project: Project) -> None:
    """SIGKILL in the middle of sampling, then the same command again."""
    folder = project.folder / SHARDS
    wanted = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    assert sorted(wanted) == ["00000.parquet", "00001.parquet"]
    # Long enough to be caught in the middle: the second shard has many more samples to draw.
    (folder / "00001.parquet").unlink()
    command = ["alignment-extraction", "generate", "data/models/tiny.gguf"]
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
        digests = [
            {d.dataset.name: d.dataset.digest for d in run.inputs.dataset_inputs} for run in found
        ]
        assert all(len(named["corpus"]) == 32 for named in digests)
        return {run.info.run_id: run.info.run_name for run in found}

    before = runs()
    names = ("tiny/user", "tiny/user-t0.7", "other/user")
    sampled = {f"toy/{name}/seed-0" for name in names}
    scored = {f"toy/models/{model}" for model in ("tiny", "other")}
    assert set(before.values()) == {"toy", *scored, *sampled}
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
