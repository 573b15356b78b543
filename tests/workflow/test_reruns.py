"""What runs again after which change, asked of Snakemake itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.project import Project

BESIDE = {"controls", "contamination_rates", "second_embedder"}
EVALUATION = {"calibrate", "evaluate", "figures", "report", "track", *BESIDE}
HELD_OUT = "match_held_out"
SEARCH = {"match", "score", "discoverable", *EVALUATION}
LIKELIHOOD = {"likelihood", "likelihood_tables"}
NEW_CELL = {"generate", "embed_generations", "match_control", "embed_sample", *SEARCH}
# The audit looks at the first cell alone.
SAMPLING = {"search_audit", *NEW_CELL}
VECTORS = {"match_control", "search_audit", "contamination"}


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


@pytest.mark.parametrize(
    ("edit", "rules"),
    [
        (edit_threshold, {"search_audit", *EVALUATION}),
        (edit_temperature, SAMPLING),
        (edit_seed, NEW_CELL),
        (edit_prefix, NEW_CELL),
        (edit_model, NEW_CELL),
        (edit_trees, {"index", HELD_OUT, *SEARCH}),
        (
            edit_embedder,
            {"embed_corpus", "index", "embed_generations", HELD_OUT, *VECTORS, *SEARCH},
        ),
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
    append(project.folder / "src/alignment_extraction/search/index.py", "\n# edited\n")
    # The module that writes the likelihood tables also scores matches; writing takes a second.
    searched = {"index", "likelihood_tables", HELD_OUT, "embed_sample", *VECTORS}
    assert project.reruns() == searched | SEARCH
    append(project.folder / "src/alignment_extraction/engine/sampler.py", "\n# edited\n")
    assert project.reruns() == searched | SAMPLING


def test_changed_corpus_row(project: Project) -> None:
    append(project.folder / "inputs/members.jsonl", '{"question": "New?", "answer": "#### 2"}\n')
    built = {"corpus", "embed_corpus", "index", HELD_OUT, *LIKELIHOOD}
    assert project.reruns() == built | VECTORS | SEARCH


def test_a_new_cell_alone_is_computed(project: Project) -> None:
    """A prefix added samples that prefix alone; what was there stays byte for byte."""
    old = project.folder / "data/generations/toy/tiny/user/seed-0/00000.parquet"
    before = old.stat().st_mtime_ns, old.read_bytes()
    project.change(edit_prefix)
    project.snakemake()
    assert (old.stat().st_mtime_ns, old.read_bytes()) == before
    assert set(project.metrics()["rates"]["tiny"]) == {"user", "bos"}
    assert project.reruns() == set()
