"""A study of a model that a server has, from its first sample to its scores."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alignment_extraction.generations.server import KEY
from tests.completions import LlamaServer
from tests.workflow.project import Project, make_project

SECRET = "the-key-of-the-server"
END = "<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def server(tiny_path: Path) -> Iterator[LlamaServer]:
    with LlamaServer(tiny_path) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, server: LlamaServer) -> Project:
    """The toy project with a served model alone."""
    made = make_project(tmp_path / "project")
    made.environment[KEY] = SECRET

    def serve(values: dict[str, Any]) -> None:
        values["models"] = {"served": {"endpoint": server.url, "model": "tiny"}}
        study = values["studies"]["toy"]
        study["models"] = ["served"]
        study["prefixes"] = [{"name": "mine", "text": "<|im_start|>user\n", "end": END}]
        study["sampling"] |= {"answer": True, "max_answer_tokens": 4, "samples": 9, "shard": 6}
        study["fields"] = ["question", "both"]
        del study["conditions"], study["likelihood"]

    made.change(serve)
    return made


def test_a_served_model_is_sampled_and_scored(project: Project, server: LlamaServer) -> None:
    output = project.snakemake("results/toy/scores.parquet")
    scores = pl.read_parquet(project.folder / "results" / "toy" / "scores.parquet")
    assert set(scores["model"]) == {"served"} and set(scores["prefix"]) == {"mine"}
    assert not list((project.folder / "data").glob("models/*"))
    shards = sorted((project.folder / "data" / "generations").rglob("*.parquet"))
    frame = pl.concat([pl.read_parquet(shard) for shard in shards])
    assert frame["index"].to_list() == list(range(9))
    assert (frame["answer"].is_not_null() == (frame["question_finish"] == "stop")).all()
    about = pl.read_parquet_metadata(shards[0])
    assert about["endpoint"] == server.url and about["server_version"] != "unknown"
    assert (about["model"], about["server"], about["temperature"]) == ("tiny", "me", "1.0")
    # The key is in nothing that is said or kept.
    assert SECRET not in output
    for file in project.folder.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file
    # Nothing is drawn again, and a lost shard is the same when it is.
    assert not project.reruns("results/toy/scores.parquet")
    whole = shards[1].read_bytes()
    shards[1].unlink()
    project.snakemake("generations")
    assert shards[1].read_bytes() == whole


def test_what_the_server_cannot_do_is_one_sentence(project: Project) -> None:
    def ask_more(values: dict[str, Any]) -> None:
        values["studies"]["toy"]["likelihood"] = {"models": ["served"]}

    project.change(ask_more)
    table = "data/likelihood/toy/served.parquet"
    result = project.run("snakemake", "--cores", "2", table)
    assert result.returncode != 0
    assert "gives no prompt_logprobs, so it cannot score texts; serve the model with" in (
        result.stdout
    )
    assert "Traceback" not in result.stdout

    def name_the_prefix(values: dict[str, Any]) -> None:
        values["studies"]["toy"]["prefixes"] = ["user"]

    project.change(name_the_prefix)
    result = project.run("snakemake", "--cores", "2", "generations")
    assert result.returncode != 0
    assert "'served' is served, so its prefix 'user' has to be a literal" in result.stdout
