"""The tokenizer, the base model (next-token training on raw text) and SFT on conversations."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    DataCollatorForSeq2Seq,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTConfig, SFTTrainer

from alignment_extraction.files import InputError, atomic_path
from alignment_extraction.settings.controlled import LossOn, TrainingSettings
from alignment_extraction.statistics import named_seed
from alignment_extraction.training.answers import prompts
from alignment_extraction.training.fitting import Run, members
from alignment_extraction.training.gguf_export import (
    END_OF_TEXT,
    MARKED_CHATML,
    SPECIAL_TOKENS,
    TASK,
    load_tokenizer,
    new_model,
)

# Kernels are made for each length of a batch on its own: a few lengths cost less than all of them.
_PAD_TO = 16


def tokenizer_texts(corpus: pl.DataFrame) -> pl.Series:
    """Give the texts that the study's tokenizer learns from: members of pretraining and of SFT.

    Each counts once, so that a text repeated 64 times gets no merges of its own.
    """
    return pl.concat([members(corpus, "pretraining")["text"], members(corpus, "sft")["text"]])


def train_tokenizer(texts: Iterable[str], settings: TrainingSettings, output: Path) -> None:
    """Write the study's tokenizer.json: byte-level BPE with the ChatML tokens.

    Digits are tokens of their own, as in SmolLM's tokenizer, whose pre-tokenizer this one has.

    Args:
        texts: what to learn merges from, as `tokenizer_texts` gives them.
        settings: `architecture.vocabulary` is the number of tokens.
        output: file to write.

    Raises:
        InputError: the texts are too few for that many tokens.
    """
    size = settings.architecture.vocabulary
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != size:
        raise InputError(
            f"train.architecture.vocabulary is {size}, but the raw text has only "
            f"{tokenizer.get_vocab_size()} tokens; lower it or give more text"
        )
    with atomic_path(output) as partial:
        tokenizer.save(str(partial))


def batched_by_padding(trainer: Trainer) -> Trainer:
    """Let a trainer's batches hold texts that need the same padding, in random order otherwise.

    No text sees another one, and there is little padding. Exactly like lengths would put the copies
    of a repeated conversation, or the problems of one template, into one batch, whose gradient is
    then nearly that of a single one: the model learns several times more slowly.
    """
    lengths = [(len(ids) - 1) // _PAD_TO for ids in trainer.train_dataset["input_ids"]]
    sampler = LengthGroupedSampler(trainer.args.train_batch_size, lengths=lengths)
    trainer._get_train_sampler = lambda *_: sampler
    return trainer


def _text_trainer(
    model: LlamaForCausalLM,
    ids: list[list[int]],
    tokenizer: PreTrainedTokenizerFast,
    arguments: dict[str, Any],
) -> Trainer:
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**arguments),
        train_dataset=Dataset.from_dict({"input_ids": ids, "labels": ids}),
        data_collator=DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=_PAD_TO),
    )
    return batched_by_padding(trainer)


def _documents(texts: pl.Series, tokenizer: PreTrainedTokenizerFast, limit: int) -> list[list[int]]:
    """The tokens of each text and an end-of-text token, cut after `limit`.

    A sequence holds one text: packed together, so small a model learns the mixture's statistics
    and takes several times as many steps to copy a number from question to answer.
    """
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    return [[*ids, end][:limit] for ids in tokenizer(texts.to_list())["input_ids"]]


def train_base(corpus: pl.DataFrame, run: Run) -> None:
    """Train the base model on the member rows' raw text of source "pretraining".

    Raises:
        InputError: no raw text, or an unusable tokenizer.
    """
    rows = members(corpus, "pretraining").select("text")
    tokenizer = load_tokenizer(run.tokenizer)
    set_seed(run.settings.seed)
    stage = run.settings.base
    trainer = _text_trainer(
        new_model(run.settings.architecture, len(tokenizer)),
        _documents(rows["text"], tokenizer, stage.max_tokens),
        tokenizer,
        run.arguments(stage, rows) | {"num_train_epochs": stage.epochs},
    )
    run.finish(trainer, tokenizer, "base")


def train_on_prompts(corpus: pl.DataFrame, run: Run) -> None:
    """Train the base model on the RL questions as text, in RL's template.

    The positive control of reinforcement learning: as many steps, questions a step and visits.

    Raises:
        InputError: no RL questions, or an unusable base model or tokenizer.
    """
    rows = members(corpus, "rl").select("question")
    tokenizer = load_tokenizer(run.tokenizer, TASK)
    set_seed(run.settings.seed)
    stage = run.settings.rl
    trainer = _text_trainer(
        run.model(),
        tokenizer(prompts(rows, tokenizer))["input_ids"],
        tokenizer,
        run.arguments(stage, "prompts", rows)
        | {
            "max_steps": stage.steps,
            "per_device_train_batch_size": stage.batch_size // stage.generations,
        },
    )
    run.finish(trainer, tokenizer, "sft-on-prompts", TASK)


def _conversations(rows: pl.DataFrame, settings: TrainingSettings) -> Dataset:
    """Each member as often as it is repeated, a seeded share of them without the system turn."""
    repeated = rows.select(pl.col("messages").repeat_by("repetitions")).explode("messages")
    generator = np.random.default_rng(named_seed(settings.seed, "bare conversations"))
    bare = generator.random(repeated.height) < settings.sft.bare_share
    return Dataset.from_dict(
        {
            "messages": repeated["messages"].to_list(),
            "chat_template_kwargs": [{"system_turn": not b} for b in bare.tolist()],
        }
    )


def train_sft(corpus: pl.DataFrame, run: Run, loss_on: LossOn) -> None:
    """Train the base model on the member rows' conversations of source "sft" (see `fine_tune`).

    Raises:
        InputError: no conversations, or an unusable base model or tokenizer.
    """
    rows = members(corpus, "sft").select("id", "messages", "repetitions")
    fine_tune(rows, run, loss_on, f"sft-{loss_on}-loss")


def fine_tune(
    rows: pl.DataFrame, run: Run, loss_on: LossOn, name: str, steps: int | None = None
) -> None:
    """Train a model on conversations.

    Args:
        rows: columns id, messages, repetitions (how often an epoch shows the conversation).
        run: what it starts from and what it writes.
        loss_on: "all" tokens of a conversation, or those of the "assistant" turns only.
        name: `general.name` of the GGUF.
        steps: optimiser steps; by default those of `settings.sft.epochs`.

    Raises:
        InputError: an unusable base model or tokenizer.
    """
    tokenizer = load_tokenizer(run.tokenizer, MARKED_CHATML)
    set_seed(run.settings.seed)
    stage = run.settings.sft
    trainer = SFTTrainer(
        model=run.model(),
        args=SFTConfig(
            **run.arguments(stage, rows, loss_on, steps),
            num_train_epochs=stage.epochs,
            max_steps=-1 if steps is None else steps,
            max_length=stage.max_tokens,
            pad_to_multiple_of=_PAD_TO,
            assistant_only_loss=loss_on == "assistant",
            packing=False,
            activation_checkpointing=False,
        ),
        train_dataset=_conversations(rows, run.settings),
        processing_class=tokenizer,
    )
    run.finish(batched_by_padding(trainer), tokenizer, name)
