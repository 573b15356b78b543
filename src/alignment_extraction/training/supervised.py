"""The tokenizer, and trainers on next tokens: of raw text, of questions, of conversations."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTConfig, SFTTrainer

from alignment_extraction.files import atomic_path
from alignment_extraction.settings.controlled import LossOn, StageSettings, TrainingSettings
from alignment_extraction.statistics import named_seed
from alignment_extraction.training.fitting import Run
from alignment_extraction.training.gguf_export import (
    END_OF_TEXT,
    MARKED_CHATML,
    SPECIAL_TOKENS,
    ChatTemplate,
    load_tokenizer,
)
from alignment_extraction.training.reinforcement import prompts
from alignment_extraction.training.stages import members

# Kernels are made for each length of a batch on its own: a few lengths cost less than all of them.
_PAD_TO = 16


def train_tokenizer(corpus: pl.DataFrame, settings: TrainingSettings, output: Path) -> None:
    """Write the study's tokenizer.json: byte-level BPE with the ChatML tokens.

    Digits are tokens of their own, as in SmolLM's tokenizer, whose pre-tokenizer this one has. It
    learns from the members of pretraining and of SFT, each once, so that a text repeated 64 times
    gets no merges of its own. It has at most `settings.architecture.vocabulary` tokens.
    """
    texts = pl.concat([members(corpus, source)["text"] for source in ("pretraining", "sft")])
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.architecture.vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    with atomic_path(output) as partial:
        tokenizer.save(str(partial))


def batched_by_padding(trainer: Trainer) -> Trainer:
    """Let a trainer's batches hold texts that need the same padding, in random order otherwise.

    Exactly like lengths would put the copies of a repeated conversation, or the problems of one
    template, into one batch, whose gradient is then nearly that of a single one.
    """
    lengths = [(len(ids) - 1) // _PAD_TO for ids in trainer.train_dataset["input_ids"]]
    sampler = LengthGroupedSampler(trainer.args.train_batch_size, lengths=lengths)
    trainer._get_train_sampler = lambda *_: sampler
    return trainer


def text_trainer(
    ids: list[list[int]],
    tokenizer: PreTrainedTokenizerFast,
    run: Run,
    stage: StageSettings,
    *inputs: Any,
    **schedule: Any,
) -> Trainer:
    """A trainer on the next tokens of sequences of tokens.

    `inputs` are those of `Run.folder`, `schedule` arguments of the trainer besides the stage's.
    """
    set_seed(run.settings.seed)
    trainer = Trainer(
        model=run.model(),
        args=TrainingArguments(**run.arguments(stage, *inputs) | schedule),
        train_dataset=Dataset.from_dict({"input_ids": ids, "labels": ids}),
        data_collator=DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=_PAD_TO),
    )
    return batched_by_padding(trainer)


def document_trainer(rows: pl.DataFrame, run: Run) -> Trainer:
    """A trainer on raw text, column text, with an end-of-text token after each.

    Packed together, so small a model takes several times as many steps to copy a number from
    question to answer.
    """
    tokenizer, stage = load_tokenizer(run.tokenizer), run.settings.base
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    texts = tokenizer(rows["text"].to_list())["input_ids"]
    ids = [[*own, end][: stage.max_tokens] for own in texts]
    inputs = rows.select("text")
    return text_trainer(ids, tokenizer, run, stage, inputs, num_train_epochs=stage.epochs)


def prompt_trainer(rows: pl.DataFrame, run: Run, template: ChatTemplate) -> Trainer:
    """A trainer on questions as text, in RL's template: column question.

    The positive control of reinforcement learning: as many steps, questions a step and visits.
    """
    tokenizer, stage = load_tokenizer(run.tokenizer, template), run.settings.rl
    ids = tokenizer(prompts(rows, tokenizer))["input_ids"]
    asked = rows.select("question")
    size = stage.batch_size // stage.generations
    schedule = {"max_steps": stage.steps, "per_device_train_batch_size": size}
    return text_trainer(ids, tokenizer, run, stage, "prompts", asked, **schedule)


def conversations(rows: pl.DataFrame, settings: TrainingSettings) -> Dataset:
    """Each row's messages as often as it is repeated, a seeded share without the system turn."""
    repeated = rows.select(pl.col("messages").repeat_by("repetitions")).explode("messages")
    generator = np.random.default_rng(named_seed(settings.seed, "bare conversations"))
    bare = generator.random(repeated.height) < settings.sft.bare_share
    kwargs = [{"system_turn": not b} for b in bare.tolist()]
    return Dataset.from_dict(
        {"messages": repeated["messages"].to_list(), "chat_template_kwargs": kwargs}
    )


def conversation_trainer(
    rows: pl.DataFrame, run: Run, loss_on: LossOn, steps: int | None = None
) -> Trainer:
    """A trainer on conversations: columns id, messages, repetitions (how often an epoch).

    The loss is on "all" tokens, or on those of the "assistant" turns only; optimiser steps are by
    default those of `settings.sft.epochs`.
    """
    stage, used = run.settings.sft, rows.select("id", "messages", "repetitions")
    tokenizer = load_tokenizer(run.tokenizer, MARKED_CHATML)
    set_seed(run.settings.seed)
    trainer = SFTTrainer(
        model=run.model(),
        args=SFTConfig(
            **run.arguments(stage, used, loss_on, steps),
            num_train_epochs=stage.epochs,
            max_steps=-1 if steps is None else steps,
            max_length=stage.max_tokens,
            pad_to_multiple_of=_PAD_TO,
            assistant_only_loss=loss_on == "assistant",
            packing=False,
            activation_checkpointing=False,
        ),
        train_dataset=conversations(rows, run.settings),
        processing_class=tokenizer,
    )
    return batched_by_padding(trainer)
