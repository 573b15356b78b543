"""The training verbs, from the corpus to a quantised model, at toy size."""

import json
from pathlib import Path

import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from alignment_extraction.cli import app
from alignment_extraction.corpora.corpus import REJECTS
from alignment_extraction.engine.model import Model
from alignment_extraction.files import InputError
from tests.toy_training import TOY, TOY_DATA, toy_corpus


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def call(folder: Path, verb: str, settings: str | None, **options: str) -> None:
    """Call a verb; an option's value that is a file's name lies in `folder`."""
    words = [verb] if settings is None else [verb, "--settings", "-"]
    for key, value in options.items():
        words += [f"--{key.replace('_', '-')}", str(folder / value) if "." in value else value]
    result = CliRunner().invoke(app, words, input=settings, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_every_stage_follows_from_the_one_before(tmp_path: Path) -> None:
    data, training = TOY_DATA.model_dump_json(), TOY.model_dump_json()
    call(
        tmp_path,
        "controlled-corpus",
        data,
        seed="1",
        output="corpus.parquet",
        rejects="rejects.parquet",
        statistics="statistics.json",
    )
    assert pl.read_parquet(tmp_path / "corpus.parquet").equals(toy_corpus())
    rejects = pl.read_parquet(tmp_path / "rejects.parquet")
    assert rejects.schema == REJECTS and rejects.is_empty()
    statistics = json.loads((tmp_path / "statistics.json").read_text())
    assert statistics["rows"] == toy_corpus().height

    corpus = {"corpus": "corpus.parquet"}
    call(tmp_path, "train-tokenizer", training, **corpus, output="tokenizer.json")
    shared = {**corpus, "tokenizer": "tokenizer.json"}

    def stage(name: str) -> dict[str, str]:
        return {
            **shared,
            "output": f"{name}.gguf",
            "curves": f"{name}.parquet",
            "checkpoints": f"{name}.checkpoints",
        }

    call(tmp_path, "train-base", training, **stage("base"))
    for loss_on in ("all", "assistant"):
        options = {**stage(loss_on), "loss_on": loss_on}
        call(tmp_path, "train-sft", training, **options, base="base.gguf")
    call(
        tmp_path, "train-rl", training, **stage("rl"), sft="all.gguf", accuracies="accuracy.parquet"
    )
    assert set(pl.read_parquet(tmp_path / "accuracy.parquet")["moment"]) == {"before", "after"}
    call(tmp_path, "quantise", None, model="rl.gguf", kind="Q8_0", output="q8.gguf", threads="1")
    names = ["base", "all", "assistant", "rl", "q8"]
    assert len({(tmp_path / f"{name}.gguf").read_bytes() for name in names}) == len(names) - (
        # An untrained model may get no reward at all, and then RL leaves it as it was.
        (tmp_path / "rl.gguf").read_bytes() == (tmp_path / "all.gguf").read_bytes()
    )
    with Model(tmp_path / "q8.gguf", threads=1) as model:
        assert model.tokenize("<|im_start|>user\n")


@pytest.mark.parametrize(
    ("verb", "settings", "message"),
    [
        ("train-tokenizer", "{sft: {epoch: 3}}", r"train\.sft\.epoch"),
        ("train-tokenizer", "{}", "no such file"),
    ],
)
def test_wrong_settings_and_missing_files_are_named(
    tmp_path: Path, verb: str, settings: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(tmp_path, verb, settings, corpus="none.parquet", output="tokenizer.json")
