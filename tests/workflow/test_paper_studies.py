"""The studies at the paper's scale: every job of them is known before anything is downloaded."""

import math
import shutil
from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.settings import config
from tests.workflow.project import ROOT, Project

PARAMS = config.load(ROOT / "params.yaml")
STUDIES = ("olmo2-7b", "olmo2-13b", "orz-7b", "smollm2-full")
STEPS = {"corpus", "fetch_embedder", "embed_corpus", "generate", "embed_generations", "match"}
RESULTS = {"score", "attribution", "risk", "likelihood", "report"}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The repository as it is cloned, with nothing made or pulled."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("Snakefile", "params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("workflow", "profiles", "src"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    return Project(folder)


@pytest.mark.parametrize("name", STUDIES)
def test_a_dry_run_shows_every_job(empty: Project, name: str) -> None:
    study = PARAMS.studies[name]
    output = empty.snakemake("--dry-run", f"results/{name}/report.html")
    table = output.split("Job stats:")[1].split("\n\n")[0]
    jobs = {line.split()[0]: int(line.split()[1]) for line in table.splitlines()[3:] if line}
    assert set(jobs) >= STEPS | RESULTS
    sizes = [study.sampling_of(condition) for condition in study.all_conditions()]
    assert jobs["generate"] == sum(math.ceil(size.samples / size.shard) for size in sizes)
    assert jobs["match"] == len(study.sampled_models)
    assert study.likelihood is not None
    scored = study.likelihood.models
    bases = [PARAMS.models[name].base for name in scored if PARAMS.models[name].base]
    assert jobs["likelihood"] == len(scored) + len(bases)
    assert not list(empty.folder.glob("data/**/*.*")), "a dry run downloads nothing"


def test_they_are_of_the_papers_size() -> None:
    most = {
        name: max(study.sampling_of(condition).samples for condition in study.all_conditions())
        for name, study in PARAMS.studies.items()
    }
    assert most["olmo2-7b"] == most["olmo2-13b"] == 1_000_000
    assert most["orz-7b"] == 100_000


def test_exact_search_finds_what_the_index_finds_where_it_misses_nothing(project: Project) -> None:
    def scores() -> pl.DataFrame:
        frame = pl.read_parquet(project.folder / "results/toy/scores.parquet")
        return frame.sort("model", "prefix", "seed", "field", "source", "role", "index")

    before = scores()
    project.change(lambda values: values["studies"]["toy"].update(index={"kind": "exact"}))
    assert "index" not in project.reruns("results/toy/scores.parquet")
    project.snakemake("results/toy/scores.parquet")
    after = scores()
    # The toy's corpus is smaller than the number of candidates, so that Annoy is exact as well.
    assert after["match_id"].equals(before["match_id"])
    assert (after["cosine"] - before["cosine"]).abs().max() < 1e-6


def test_plan_measures_this_machine(project: Project) -> None:
    embedder, model = "inputs/embedder", "inputs/tiny.gguf"
    command = ["alignment-extraction", "plan", "--seconds", "0.1", "--model", model]
    done = project.run(*command, "--embedder", embedder, "toy")
    assert done.returncode == 0, done.stdout
    assert "generate" in done.stdout and "measured with inputs/tiny.gguf" in done.stdout
    missing = project.run(*command, "--embedder", embedder, "no-such-study")
    assert missing.returncode != 0
    assert "no such study" in missing.stdout
    nothing = Path(project.folder / "inputs/none.gguf")
    absent = project.run(
        "alignment-extraction", "plan", "--model", str(nothing), "--embedder", embedder, "toy"
    )
    assert absent.returncode != 0
    assert "none.gguf" in absent.stdout
