"""What runs again after which change, asked of Snakemake itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.workflow.project import Project

BESIDE = {"controls", "contamination_rates", "second_embedder"}
EVALUATION = {"calibrate", "evaluate", "figures", "report", "track", *BESIDE}
HELD_OUT = "match_held_out"
SEARCH = {"match", "score", "discoverable", *EVALUATION}
LIKELIHOOD = {"likelihood", "likelihood_tables"}
NEW_CELL = {
    *("generate", "embed_generations", "match_control", "embed_sample", "second_scores"),
    *SEARCH,
}
# The audit looks at the first cell alone.
AUDIT = {"search_audit", "search_recall"}
SAMPLING = {*AUDIT, *NEW_CELL}
VECTORS = {"match_control", "contamination", *AUDIT}
EMBEDDING = {"embed_corpus", "index", "embed_generations", HELD_OUT, *VECTORS, *SEARCH}


def study(values: dict[str, Any]) -> Any:
    return values["studies"]["toy"]


def edit_threshold(values: dict[str, Any]) -> None:
    study(values)["thresholds"] = {"embedding": 0.9}


def edit_temperature(values: dict[str, Any]) -> None:
    study(values)["sampling"]["temperature"] = 0.7


def edit_seed(values: dict[str, Any]) -> None:
    study(values)["seeds"] = [0, 1]


def edit_prefix(values: dict[str, Any]) -> None:
    study(values)["prefixes"].append("bos")


def edit_model(values: dict[str, Any]) -> None:
    study(values)["models"].append("other")


def edit_trees(values: dict[str, Any]) -> None:
    study(values)["index"]["trees"] = 5


def edit_embedder(values: dict[str, Any]) -> None:
    values["embedders"]["tiny"]["max_tokens"] = 32


def swap_embedder(values: dict[str, Any]) -> None:
    values["embedders"]["other"] = values["embedders"]["tiny"]
    study(values)["embedder"] = "other"


def edit_title(values: dict[str, Any]) -> None:
    study(values)["title"] = "Another title"


def edit_likelihood(values: dict[str, Any]) -> None:
    study(values)["likelihood"][0]["limit"] = 5


@pytest.mark.parametrize(
    ("edit", "rules"),
    [
        (edit_threshold, {"search_recall", *EVALUATION}),
        (edit_temperature, SAMPLING),
        (edit_seed, NEW_CELL),
        (edit_prefix, NEW_CELL),
        (edit_model, NEW_CELL),
        (edit_trees, {"index", HELD_OUT, *SEARCH}),
        (edit_embedder, EMBEDDING),
        (swap_embedder, {"fetch_embedder", *EMBEDDING}),
        (edit_title, {"figures", "report", "track"}),
        (edit_likelihood, {*LIKELIHOOD, "discoverable", "evaluate", "figures", "report", "track"}),
    ],
)
def test_changed_parameters(
    project: Project, edit: Callable[[dict[str, Any]], None], rules: set[str]
) -> None:
    project.change(edit)
    assert project.reruns() == rules


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_changed_files(project: Project) -> None:
    assert project.reruns() == set()
    append(project.folder / "src/alignment_extraction/figures/drawing.py", "\n# edited\n")
    assert project.reruns() == {"figures", "report", "track"}


def test_an_edited_style_or_page_draws_again_and_computes_nothing(project: Project) -> None:
    package = project.folder / "src/alignment_extraction"
    append(package / "report/templates/report.css", "\n/* edited */\n")
    assert project.reruns() == {"report", "track"}
    append(package / "figures/style.py", "\n# edited\n")
    assert project.reruns() == {"figures", "report", "track"}


def test_an_edited_step_runs_again(project: Project) -> None:
    append(project.folder / "src/alignment_extraction/search/index.py", "\n# edited\n")
    # The module that writes the likelihood tables also scores matches; writing takes a second.
    searched = {"index", "likelihood_tables", HELD_OUT, "embed_sample", "second_scores", *VECTORS}
    assert project.reruns() == searched | SEARCH
    append(project.folder / "src/alignment_extraction/engine/sampler.py", "\n# edited\n")
    assert project.reruns() == searched | SAMPLING


def test_changed_corpus_row(project: Project) -> None:
    append(project.folder / "inputs/members.jsonl", '{"question": "New?", "answer": "#### 2"}\n')
    built = {"corpus", "embed_corpus", "index", HELD_OUT, *LIKELIHOOD}
    assert project.reruns() == {"second_scores", *built, *VECTORS, *SEARCH}


def test_what_a_study_no_longer_asks_for_is_no_result_of_it(project: Project) -> None:
    """Tables of other settings stay where they are, but neither report nor MLflow shows them."""
    asked = ("contamination", "second_embedder", "likelihood")
    project.change(lambda values: [values["studies"]["toy"].pop(name) for name in asked])
    project.snakemake()
    results = project.folder / "results" / "toy"
    assert (results / "contamination.parquet").exists()
    page = (results / "report.html").read_text()
    assert "No public texts were named" in page
    assert "The study has one embedder" in page
    assert 'id="figure-membership"' not in page
    assert 'id="likelihood"' not in page
    assert "shifts" not in json.dumps(project.metrics())


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and bytes of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_second_run_touches_nothing(project: Project) -> None:
    before = {name: snapshot(project.folder / name) for name in ("data", "results")}
    assert "Nothing to be done" in project.snakemake()
    assert {name: snapshot(project.folder / name) for name in ("data", "results")} == before


@pytest.mark.parametrize(
    ("edit", "added"),
    [
        (edit_prefix, ["tiny/bos/seed-0"]),
        pytest.param(
            edit_seed,
            [f"{cell}/seed-1" for cell in ("tiny/user", "tiny/user-t0.7", "unseen/user")],
            marks=pytest.mark.slow,
        ),
        pytest.param(edit_model, ["other/user/seed-0"], marks=pytest.mark.slow),
    ],
)
def test_a_new_cell_alone_is_computed(
    project: Project, edit: Callable[[dict[str, Any]], None], added: list[str]
) -> None:
    """A prefix, seed or model more samples that alone; what was there stays byte for byte."""
    folders = [project.folder / "data" / name for name in ("generations", "embeddings", "matches")]
    before = {folder: snapshot(folder) for folder in folders}
    project.change(edit)
    project.snakemake()
    for folder, old in before.items():
        after = snapshot(folder)
        assert {name: after.get(name) for name in old} == old
        new = after.keys() - old.keys()
        assert new
        assert all(any(cell in name for cell in added) for name in new), new
    rates = pl.read_parquet(project.folder / "results/toy/rates.parquet")
    cells = pl.format("{}/{}/seed-{}", "model", "prefix", "seed")
    assert set(added) <= set(rates.select(cells).to_series())
    assert project.reruns() == set()
