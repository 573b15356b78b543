"""What runs again after which change, asked of Snakemake itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.workflow.project import Project

PAGES = {"report", "track"}
ANALYSIS = {"attribution", "risk", *PAGES}
SEARCH = {"match", "score", *ANALYSIS}
SAMPLING = {"generate", "embed_generations", *SEARCH}
LIKELIHOOD = {"likelihood"}
EMBEDDING = {"embed_corpus", "index", "embed_generations", *SEARCH}


def study(values: dict[str, Any]) -> Any:
    return values["studies"]["toy"]


def edit_threshold(values: dict[str, Any]) -> None:
    study(values)["thresholds"] = {"semantic": 0.9}


def edit_temperature(values: dict[str, Any]) -> None:
    study(values)["sampling"]["temperature"] = 0.7


def edit_seed(values: dict[str, Any]) -> None:
    study(values)["seeds"] = [0, 1]


def edit_prefix(values: dict[str, Any]) -> None:
    study(values)["conditions"][0]["prefixes"].append("bos")


def edit_model(values: dict[str, Any]) -> None:
    study(values)["models"].append("third")
    values["models"]["third"] = {**values["models"]["other"], "base": "tiny"}
    study(values)["conditions"].append({"models": ["third"], "prefixes": ["user"]})


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
    study(values)["likelihood"]["limit"] = 5


@pytest.mark.parametrize(
    ("edit", "rules"),
    [
        (edit_threshold, ANALYSIS),
        (edit_temperature, SAMPLING),
        (edit_seed, SAMPLING),
        (edit_prefix, SAMPLING),
        (edit_model, {"fetch_model", *SAMPLING}),
        (edit_trees, {"index", *SEARCH}),
        (edit_embedder, EMBEDDING),
        (swap_embedder, {"fetch_embedder", *EMBEDDING}),
        (edit_title, PAGES),
        (edit_likelihood, {*LIKELIHOOD, *ANALYSIS}),
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
    append(project.folder / "src/alignment_extraction/report/page.py", "\n# edited\n")
    assert project.reruns() == PAGES


def test_an_edited_script_runs_again(project: Project) -> None:
    append(project.folder / "workflow/scripts/attribution.py", "\n# edited\n")
    assert project.reruns() == {"attribution", *PAGES}


def test_an_edited_step_runs_again(project: Project) -> None:
    append(project.folder / "src/alignment_extraction/search/index.py", "\n# edited\n")
    assert project.reruns() == {"index", *SEARCH}
    append(project.folder / "src/alignment_extraction/engine/sampler.py", "\n# edited\n")
    assert project.reruns() == {"index", *LIKELIHOOD, *SAMPLING}


def test_changed_corpus_row(project: Project) -> None:
    append(project.folder / "inputs/members.jsonl", '{"question": "New?", "answer": "#### 2"}\n')
    assert project.reruns() == {"corpus", "embed_corpus", "index", *LIKELIHOOD, *SEARCH}


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
            [f"{name}/seed-1" for name in ("tiny/user", "tiny/user-t0.7", "other/user")],
            marks=pytest.mark.slow,
        ),
        pytest.param(edit_model, ["third/user/seed-0"], marks=pytest.mark.slow),
    ],
)
def test_a_new_condition_alone_is_sampled(
    project: Project, edit: Callable[[dict[str, Any]], None], added: list[str]
) -> None:
    """A prefix, seed or model more samples that alone; what was there stays byte for byte."""
    folder = project.folder / "data" / "generations"
    before = snapshot(folder)
    project.change(edit)
    project.snakemake()
    after = snapshot(folder)
    assert {name: after.get(name) for name in before} == before
    new = after.keys() - before.keys()
    assert new
    assert all(any(condition in name for condition in added) for name in new), new
    attribution = pl.read_parquet(project.folder / "results/toy/attribution.parquet")
    conditions = pl.format("{}/{}/seed-{}", "model", "prefix", "seed")
    assert set(added) <= set(attribution.select(conditions).to_series())
    assert project.reruns() == set()
