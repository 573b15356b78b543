"""Training at toy size: what is masked, that it repeats, that it resumes, that it learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from pydantic import ValidationError

from alignment_extraction import reinforcement, supervised
from alignment_extraction.controlled import build
from alignment_extraction.controlled_settings import ControlledSettings, TrainingSettings
from alignment_extraction.files import InputError
from alignment_extraction.gguf_export import CHAT_TEMPLATE, load_model, load_tokenizer
from alignment_extraction.tasks import GSM

@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def corpus() -> pl.DataFrame:
    return toy_corpus()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and a base model."""
    return train_tokenizer_and_base(tmp_path_factory.mktemp("training"))


def test_pretraining_shows_no_chat_tokens(corpus: pl.DataFrame, folder: Path) -> None:
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    texts = supervised.members(corpus, "pretraining")["text"]
    documents = supervised._documents(texts, tokenizer, limit=200)
    ids = {i for document in documents["input_ids"] for i in document}
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert not ids & {start, end}
    assert tokenizer.pad_token_id in ids  # <|endoftext|> stands after each text


def test_the_training_template_renders_what_the_shipped_one_does(
    corpus: pl.DataFrame, folder: Path
) -> None:
    assert supervised.TRAINING_TEMPLATE != CHAT_TEMPLATE
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    turns = corpus.filter(pl.col("source") == "sft")["messages"][0].to_list()
    for system_turn in (True, False):
        for generation in (True, False):
            shipped, marked = (
                tokenizer.apply_chat_template(
                    turns,
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=generation,
                    system_turn=system_turn,
                )
                for template in (CHAT_TEMPLATE, supervised.TRAINING_TEMPLATE)
            )
            assert shipped == marked
            assert shipped.startswith("<|im_start|>system" if system_turn else "<|im_start|>user")


def test_only_assistant_tokens_are_marked(corpus: pl.DataFrame, folder: Path) -> None:
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    row = corpus.filter(pl.col("source") == "sft").row(0, named=True)
    encoded = tokenizer.apply_chat_template(
        row["messages"],
        chat_template=supervised.TRAINING_TEMPLATE,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    mask = encoded["assistant_masks"]
    learnt = [i for i, m in zip(encoded["input_ids"], mask, strict=True) if m]
    assert tokenizer.decode(learnt) == row["answer"] + "<|im_end|>"


def test_conversations_are_repeated_and_a_share_has_no_system_turn(corpus: pl.DataFrame) -> None:
    rows = supervised.members(corpus, "sft")
    conversations = supervised._conversations(rows, TOY)
    assert len(conversations) == rows["repetitions"].sum()
    bare = [not kwargs["system_turn"] for kwargs in conversations["chat_template_kwargs"]]
    assert 0.3 < sum(bare) / len(bare) < 0.7
    again = supervised._conversations(rows, TOY)
    assert again["chat_template_kwargs"] == conversations["chat_template_kwargs"]
    repeated = rows.filter(pl.col("template").str.starts_with(GSM)).row(0, named=True)
    assert repeated["repetitions"] == 8
    assert sum(m == repeated["messages"] for m in conversations["messages"]) == 8


def test_the_same_inputs_give_the_same_models(
    corpus: pl.DataFrame, folder: Path, tmp_path: Path
) -> None:
    train_base(corpus, folder, tmp_path / "base.gguf")
    assert (tmp_path / "base.gguf").read_bytes() == (folder / "base.gguf").read_bytes()
    for name in ("one.gguf", "two.gguf"):
        train_sft(corpus, folder, tmp_path / name)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


def test_training_lowers_the_loss_and_writes_curves(folder: Path) -> None:
    curves = pl.read_parquet(folder / "base.parquet")
    assert curves.columns == ["step", "metric", "value"]
    losses = curves.filter(pl.col("metric") == "loss").sort("step")["value"]
    assert losses[-1] < losses[0]
    assert not (folder / "base.checkpoints").exists() or not any(
        (folder / "base.checkpoints").iterdir()
    )


def test_the_two_variants_differ(corpus: pl.DataFrame, folder: Path, tmp_path: Path) -> None:
    for loss_on in ("all", "assistant"):
        train_sft(corpus, folder, tmp_path / f"{loss_on}.gguf", loss_on)
    assert (tmp_path / "all.gguf").read_bytes() != (tmp_path / "assistant.gguf").read_bytes()


@pytest.mark.parametrize(
    ("train", "trainer"),
    [(train_base, supervised.Trainer), (train_sft, supervised.SFTTrainer)],
    ids=["base", "sft"],
)
def test_an_interrupted_training_resumes_to_the_same_bytes(
    folder: Path, tmp_path: Path, train: Any, trainer: Any
) -> None:
    check_resumption(train, trainer, folder, tmp_path, interruption=6, checkpoint=4)


def test_a_local_model_can_be_the_starting_point(
    corpus: pl.DataFrame, folder: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    load_model(folder / "base.gguf").save_pretrained(tmp_path / "hub")
    tokenizer.save_pretrained(tmp_path / "hub")
    settings = TOY.model_copy(
        update={"base": TOY.base.model_copy(update={"from_pretrained": str(tmp_path / "hub")})}
    )
    supervised.train_tokenizer([], settings, tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path / "tokenizer.json").get_vocab() == tokenizer.get_vocab()
    supervised.train_base(
        corpus,
        tmp_path / "tokenizer.json",
        settings,
        tmp_path / "base.gguf",
        tmp_path / "checkpoints",
        tmp_path / "curves.parquet",
    )
    losses = [
        pl.read_parquet(path).filter(pl.col("metric") == "loss").sort("step")["value"][0]
        for path in (folder / "base.parquet", tmp_path / "curves.parquet")
    ]
    assert losses[1] < losses[0]


def test_bad_input_is_refused_in_one_sentence(
    corpus: pl.DataFrame, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="vocabulary"):
        supervised.train_tokenizer(["too short"], TOY, tmp_path / "tokenizer.json")
    assert not (tmp_path / "tokenizer.json").exists()
    with pytest.raises(InputError, match="'sft'"):
        train_sft(corpus.filter(pl.col("source") != "sft"), folder, tmp_path / "sft.gguf")
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        train_base(corpus, tmp_path, tmp_path / "base.gguf")
