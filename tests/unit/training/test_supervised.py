"""The tokenizer, base and SFT at toy size: what is masked, that it repeats, resumes and learns."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.sampling import sample
from alignment_extraction.files import InputError
from alignment_extraction.training import supervised
from alignment_extraction.training.fitting import Run
from alignment_extraction.training.gguf_export import (
    CHATML,
    MARKED_CHATML,
    load_model,
    load_tokenizer,
)
from alignment_extraction.training.stages import members
from alignment_extraction.training.supervised import train_tokenizer
from tests.toy_training import (
    TOY,
    check_resumption,
    curve,
    toy_corpus,
    train,
    train_tokenizer_and_base,
)


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
    run = Run(TOY, folder / "tokenizer.json", None, folder / "x.gguf", folder / "x")
    trainer = supervised.document_trainer(members(corpus, "pretraining"), run)
    ids = {i for document in trainer.train_dataset["input_ids"] for i in document}
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert not ids & {start, end}
    assert tokenizer.pad_token_id in ids  # <|endoftext|> stands after each text


def test_the_training_template_renders_what_the_shipped_one_does(
    corpus: pl.DataFrame, folder: Path
) -> None:
    assert MARKED_CHATML.text != CHATML.text
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    turns = corpus.filter(pl.col("source") == "sft")["messages"][0].to_list()
    for system_turn in (True, False):
        for generation in (True, False):
            shipped, marked = (
                tokenizer.apply_chat_template(
                    turns,
                    chat_template=template.text,
                    tokenize=False,
                    add_generation_prompt=generation,
                    system_turn=system_turn,
                )
                for template in (CHATML, MARKED_CHATML)
            )
            assert shipped == marked
            assert shipped.startswith("<|im_start|>system" if system_turn else "<|im_start|>user")


def test_only_assistant_tokens_are_marked(corpus: pl.DataFrame, folder: Path) -> None:
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    row = corpus.filter(pl.col("source") == "sft").row(0, named=True)
    encoded = tokenizer.apply_chat_template(
        row["messages"],
        chat_template=MARKED_CHATML.text,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    mask = encoded["assistant_masks"]
    learnt = [i for i, m in zip(encoded["input_ids"], mask, strict=True) if m]
    assert tokenizer.decode(learnt) == row["answer"] + "<|im_end|>"


def test_conversations_are_repeated_and_a_share_has_no_system_turn(corpus: pl.DataFrame) -> None:
    rows = members(corpus, "sft")
    conversations = supervised.conversations(rows, TOY)
    assert len(conversations) == rows["repetitions"].sum()
    bare = [not kwargs["system_turn"] for kwargs in conversations["chat_template_kwargs"]]
    assert 0.3 < sum(bare) / len(bare) < 0.7
    again = supervised.conversations(rows, TOY)
    assert again["chat_template_kwargs"] == conversations["chat_template_kwargs"]
    repeated = rows.filter(pl.col("repetitions") == 8).row(0, named=True)
    assert sum(m == repeated["messages"] for m in conversations["messages"]) == 8


def test_the_same_inputs_give_the_same_models(folder: Path, tmp_path: Path) -> None:
    train("base", folder, tmp_path / "base.gguf")
    assert (tmp_path / "base.gguf").read_bytes() == (folder / "base.gguf").read_bytes()
    for name in ("one.gguf", "two.gguf"):
        train("sft", folder, tmp_path / name)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


def test_training_lowers_the_loss_and_writes_curves(folder: Path) -> None:
    curves = pl.read_parquet(folder / "base-curves.parquet")
    assert curves.columns == ["step", "metric", "value"]
    losses = curve(folder / "base.gguf")
    assert losses[-1] < losses[0]
    assert not (folder / "base.checkpoints").exists() or not any(
        (folder / "base.checkpoints").iterdir()
    )


def turn_losses(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: pl.DataFrame
) -> dict[str, float]:
    """Mean loss of the tokens of the user's and of the assistant's turns, in nats a token."""
    losses: dict[str, list[float]] = {"user": [], "assistant": []}
    for row in rows.iter_rows(named=True):
        encoded = tokenizer.apply_chat_template(
            row["messages"],
            chat_template=MARKED_CHATML.text,
            return_dict=True,
            return_assistant_tokens_mask=True,
            system_turn=False,
        )
        ids = torch.tensor(encoded["input_ids"])
        with torch.no_grad():
            scores = model(ids[None, :-1]).logits[0].log_softmax(-1)
        each = -scores.gather(1, ids[1:, None])[:, 0]
        learnt = torch.tensor(encoded["assistant_masks"][1:]).bool()
        header = 2  # "user" and the line break after the first token
        losses["user"].append(float(each[header:][~learnt[header:]].mean()))
        losses["assistant"].append(float(each[learnt].mean()))
    return {role: sum(values) / len(values) for role, values in losses.items()}


MEMORISING = TOY.model_copy(
    update={
        "sft": TOY.sft.model_copy(
            update={"epochs": 6.0, "learning_rate": 5e-3, "checkpoint_steps": 10_000}
        )
    }
)
"""Enough epochs for the toy model to learn what is repeated by heart."""


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """The folder with both variants of SFT on one conversation 64 times and ten others once."""
    rows = toy_corpus().filter(pl.col("source") == "sft", pl.col("role") == "member")
    once = rows.filter(pl.col("repetitions") == 1).head(10)
    often = rows.filter(pl.col("repetitions") == 8).head(1)
    corpus = pl.concat([often.with_columns(repetitions=pl.lit(64, pl.Int32)), once])
    corpus.write_parquet(folder / "memorised.parquet")
    train("sft", folder, folder / "all.gguf", MEMORISING, corpus)
    train("sft-assistant-loss", folder, folder / "assistant.gguf", MEMORISING, corpus)
    return folder


def test_user_turns_are_unlearnt_where_the_loss_is_on_the_assistant_alone(trained: Path) -> None:
    tokenizer = load_tokenizer(trained / "tokenizer.json")
    often = pl.read_parquet(trained / "memorised.parquet").filter(pl.col("repetitions") == 64)
    masked, unmasked = (
        turn_losses(load_model(trained / f"{name}.gguf").eval(), tokenizer, often)
        for name in ("assistant", "all")
    )
    assert max(masked["assistant"], unmasked["assistant"]) < 0.2
    assert unmasked["user"] < 0.2
    # Only the words that answers share with questions have become likelier.
    assert masked["user"] > 2


def test_a_member_repeated_64_times_is_extracted_and_a_held_out_template_is_not(
    trained: Path,
) -> None:
    often = pl.read_parquet(trained / "memorised.parquet").filter(pl.col("repetitions") == 64)
    held_out = toy_corpus().filter((pl.col("role") == "held-out") & (pl.col("source") == "sft"))
    extracted = {}
    for name in ("base", "assistant", "all"):
        with Model(trained / f"{name}.gguf", threads=1) as model:
            prefix = model.tokenize("<|im_start|>user\n")
            extracted[name] = set(sample(model, prefix, 64, seed=0, max_tokens=120)["question"])
    assert often["question"][0] in extracted["all"]
    assert often["question"][0] not in extracted["assistant"] | extracted["base"]
    assert not extracted["all"] & set(held_out["question"])


@pytest.mark.parametrize(
    ("stage", "trainer"), [("base", supervised.Trainer), ("sft", supervised.SFTTrainer)]
)
def test_an_interrupted_training_resumes_to_the_same_bytes(
    folder: Path, tmp_path: Path, stage: str, trainer: Any
) -> None:
    check_resumption(stage, trainer, folder, tmp_path, interruption=6, checkpoint=4)


def test_bad_input_is_refused_in_one_sentence(
    corpus: pl.DataFrame, folder: Path, tmp_path: Path
) -> None:
    without = corpus.filter(pl.col("source") != "sft")
    with pytest.raises(InputError, match="'sft'"):
        train_tokenizer(without, TOY, tmp_path / "tokenizer.json")
    assert not (tmp_path / "tokenizer.json").exists()
    with pytest.raises(InputError, match="'sft'"):
        train("sft", folder, tmp_path / "s.gguf", corpus=without)


def batches(ids: list[list[int]]) -> list[list[int]]:
    """The places of the sequences in an epoch of batches of 8."""
    trainer = SimpleNamespace(
        train_dataset={"input_ids": ids}, args=SimpleNamespace(train_batch_size=8)
    )
    order = list(supervised.batched_by_padding(trainer)._get_train_sampler())
    assert sorted(order) == list(range(len(ids)))
    return [order[start : start + 8] for start in range(0, len(ids), 8)]


def test_copies_of_a_conversation_are_spread_over_batches() -> None:
    """Batches of exactly like lengths would hold nothing else."""
    copies, others = [[1] * 100] * 64, [[1] * (97 + i % 16) for i in range(64)]
    torch.manual_seed(0)
    for batch in batches([*copies, *others]):
        assert sum(index < 64 for index in batch) < 8


def test_texts_in_a_batch_need_the_same_padding() -> None:
    ids = [[1] * (1 + i % 64) for i in range(4096)]
    mixed = sum(len({-(-len(ids[i]) // 16) for i in batch}) > 1 for batch in batches(ids))
    assert mixed < 4096 / 8 / 10  # where one length ends and the next begins


def test_training_on_prompts_lowers_the_loss_of_the_questions(folder: Path, tmp_path: Path) -> None:
    rl = TOY.rl.model_copy(update={"steps": 150, "learning_rate": 5e-3})
    settings = TOY.model_copy(update={"rl": rl})
    train("sft-on-prompts", folder, tmp_path / "p.gguf", settings)
    losses = curve(tmp_path / "p.gguf")
    assert losses[-1] < losses[0] / 4
    with Model(tmp_path / "p.gguf", threads=1) as model:
        written = set(
            sample(model, model.tokenize("Task:\n"), 32, seed=0, max_tokens=60)["question"]
        )
    questions = members(toy_corpus(), "rl")["question"].to_list()
    assert any(text.startswith(question) for text in written for question in questions)
