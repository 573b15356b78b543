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

TOY = TrainingSettings.model_validate(
    {
        "architecture": {
            "hidden": 64,
            "feed_forward": 128,
            "layers": 2,
            "heads": 2,
            "vocabulary": 512,
            "context": 256,
        },
        "base": {
            "log_steps": 1,
            "epochs": 1,
            "max_tokens": 64,
            "batch_size": 8,
            "checkpoint_steps": 4,
        },
        "sft": {"epochs": 1, "batch_size": 8, "checkpoint_steps": 4, "max_tokens": 160},
        "rl": {
            "log_steps": 1,
            "steps": 5,
            "batch_size": 8,
            "generations": 4,
            "max_tokens": 8,
            "checkpoint_steps": 2,
        },
    }
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def corpus() -> pl.DataFrame:
    return build(
        ControlledSettings(
            pretraining_templates=3,
            pretraining_instances=12,
            pretraining_task_instances=20,
            sft_templates=2,
            sft_instances=6,
            sft_repeated={8: 1},
            sft_fresh_instances=2,
            sft_held_out_templates=1,
            sft_held_out_instances=2,
            sft_task_instances=6,
            rl_instances=2,
            rl_fresh_instances=1,
            rl_held_out_instances=1,
        ),
        seed=1,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, corpus: pl.DataFrame) -> Path:
    """A folder with a tokenizer and a base model."""
    path = tmp_path_factory.mktemp("training")
    supervised.train_tokenizer(supervised.tokenizer_texts(corpus), TOY, path / "tokenizer.json")
    train_base(corpus, path, path / "base.gguf")
    return path


def train_base(corpus: pl.DataFrame, folder: Path, output: Path) -> None:
    supervised.train_base(
        corpus,
        folder / "tokenizer.json",
        TOY,
        output,
        output.with_suffix(".checkpoints"),
        output.with_suffix(".parquet"),
    )


def train_sft(corpus: pl.DataFrame, folder: Path, output: Path, loss_on: Any = "all") -> None:
    supervised.train_sft(
        corpus,
        folder / "base.gguf",
        folder / "tokenizer.json",
        TOY,
        loss_on,
        output,
        output.with_suffix(".checkpoints"),
        output.with_suffix(".parquet"),
    )


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


class _InterruptionError(Exception):
    pass


def interrupt_after(trainer: Any, steps: int) -> Callable[..., Any]:
    """Make `trainer.training_step` raise after `steps` calls."""
    original = trainer.training_step
    calls = 0

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > steps:
            raise _InterruptionError
        return original(self, *args, **kwargs)

    return step


def train_rl(corpus: pl.DataFrame, folder: Path, output: Path) -> None:
    reinforcement.train_rl(
        corpus,
        folder / "base.gguf",
        folder / "tokenizer.json",
        TOY,
        output,
        output.with_suffix(".checkpoints"),
        output.with_suffix(".parquet"),
        output.with_suffix(".accuracy.parquet"),
    )


@pytest.fixture
def easy_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward that an untrained model gets too, so that RL changes its weights."""
    monkeypatch.setattr(reinforcement, "verify", lambda text, _: text.count("e") / 8)


@pytest.mark.usefixtures("easy_reward")
@pytest.mark.parametrize("stage", ["base", "sft", "rl"])
def test_an_interrupted_training_resumes_to_the_same_bytes(
    corpus: pl.DataFrame,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    train, trainer, checkpoint, interruption = {
        "base": (train_base, supervised.Trainer, 4, 6),
        "sft": (train_sft, supervised.SFTTrainer, 4, 6),
        "rl": (train_rl, reinforcement.GRPOTrainer, 2, 3),
    }[stage]
    train(corpus, folder, tmp_path / "whole.gguf")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "training_step", interrupt_after(trainer, interruption))
        with pytest.raises(_InterruptionError):
            train(corpus, folder, tmp_path / "parts.gguf")
    assert not (tmp_path / "parts.gguf").exists()
    steps = []
    with monkeypatch.context() as patch:
        original = trainer.training_step
        patch.setattr(
            trainer, "training_step", lambda *a, **k: (steps.append(1), original(*a, **k))[1]
        )
        train(corpus, folder, tmp_path / "parts.gguf")
    whole = pl.read_parquet(tmp_path / "whole.parquet")
    assert len(steps) == whole["step"].max() - checkpoint
    assert (tmp_path / "parts.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_other_settings_do_not_resume_from_old_checkpoints(tmp_path: Path) -> None:
    folders = {supervised.run_folder(tmp_path, value, pl.DataFrame({"a": [1]})) for value in (1, 2)}
    assert len(folders) == 2


@pytest.mark.usefixtures("easy_reward")
def test_rl_repeats_and_records_accuracy_before_and_after(
    corpus: pl.DataFrame, folder: Path, tmp_path: Path
) -> None:
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


@pytest.mark.parametrize(
    "values",
    [
        {"unknown": 1},
        {"rl": {"batch_size": 10, "generations": 4}},
        {"architecture": {"hidden": 100, "heads": 3}},
        {"sft": {"bare_share": 2}},
    ],
)
def test_settings_that_cannot_work_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingSettings.model_validate(values)
