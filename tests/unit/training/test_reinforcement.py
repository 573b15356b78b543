"""GRPO at toy size: its reward, that it repeats and resumes, what it records."""

from pathlib import Path

import polars as pl
import pytest
import torch

from alignment_extraction.files import InputError
from alignment_extraction.training import reinforcement
from alignment_extraction.training.gguf_export import load_model
from alignment_extraction.training.tasks import verify
from tests.toy_training import (
    TOY,
    check_resumption,
    toy_corpus,
    train_rl,
    train_tokenizer_and_base,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and a base model."""
    return train_tokenizer_and_base(tmp_path_factory.mktemp("training"))


@pytest.fixture
def easy_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward that an untrained model gets too, so that RL changes its weights."""
    monkeypatch.setattr(reinforcement, "verify", lambda text, _: text.count("e") / 8)


def test_the_reward_is_the_verifiers_score() -> None:
    rows = toy_corpus().filter(pl.col("source") == "rl")
    right, metadata = rows["answer"].to_list(), rows["metadata"].to_list()
    wrong = ["1 + 1 = 2\n#### 123456"] * rows.height
    assert reinforcement.reward(right, metadata) == [1.0] * rows.height
    assert reinforcement.reward(wrong, metadata) == [
        verify(text, item) for text, item in zip(wrong, metadata, strict=True)
    ]
    assert max(reinforcement.reward(wrong, metadata)) < 1
    assert reinforcement.reward(["nothing"] * rows.height, metadata) == [0.0] * rows.height


@pytest.mark.usefixtures("easy_reward")
def test_an_interrupted_training_resumes_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    check_resumption(
        train_rl, reinforcement.GRPOTrainer, folder, tmp_path, interruption=3, checkpoint=2
    )


@pytest.mark.usefixtures("easy_reward")
def test_rl_repeats_and_records_accuracy_before_and_after(folder: Path, tmp_path: Path) -> None:
    corpus = toy_corpus()
    for name in ("one", "two"):
        train_rl(corpus, folder, tmp_path / f"{name}.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()
    assert (tmp_path / "one.gguf").read_bytes() != (folder / "base.gguf").read_bytes()
    assert pl.read_parquet(tmp_path / "one.parquet").filter(metric="reward")["value"].max() > 0
    accuracy = pl.read_parquet(tmp_path / "one.accuracy.parquet")
    questions = corpus.filter(pl.col("source") == "rl").height
    assert dict(accuracy.group_by("moment").agg(pl.col("questions").sum()).iter_rows()) == {
        "before": questions,
        "after": questions,
    }
    assert load_model(tmp_path / "one.gguf").config.vocab_size == TOY.architecture.vocabulary


def test_a_corpus_without_questions_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'rl'"):
        train_rl(toy_corpus().filter(pl.col("source") != "rl"), folder, tmp_path / "rl.gguf")
