"""The tokenizer, the base model (next-token training on raw text) and SFT on conversations."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTConfig, SFTTrainer

from alignment_extraction.files import InputError, atomic_path, write_parquet
from alignment_extraction.settings.controlled import LossOn, TrainingSettings
from alignment_extraction.statistics import named_seed
from alignment_extraction.training.answers import prompts
from alignment_extraction.training.gguf_export import (
    CHAT_TEMPLATE,
    END_OF_TEXT,
    SPECIAL_TOKENS,
    TASK,
    load_model,
    load_tokenizer,
    new_model,
    write_gguf,
)
from alignment_extraction.training.stages import fit, members, run_folder, stage_arguments

# Kernels are made for each length of a batch on its own: a few lengths cost less than all of them.
_PAD_TO = 16

# TRL finds the assistant's tokens by these marks. Only TRL knows them, so the template that a GGUF
# carries has none; both render the same text.
_MESSAGE = "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
_MARKED_MESSAGE = (
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{ message['content'] + '<|im_end|>' }}{%- endgeneration -%}"
    "{%- else -%}{{ message['content'] + '<|im_end|>' }}{%- endif -%}"
    "{{ '\\n' }}"
)
TRAINING_TEMPLATE = CHAT_TEMPLATE.replace(_MESSAGE, _MARKED_MESSAGE)


def tokenizer_texts(corpus: pl.DataFrame) -> pl.Series:
    """Give the texts that the study's tokenizer learns from: members of pretraining and of SFT.

    Each counts once, so that a text repeated 64 times gets no merges of its own.
    """
    return pl.concat([members(corpus, "pretraining")["text"], members(corpus, "sft")["text"]])


def train_tokenizer(texts: Iterable[str], settings: TrainingSettings, output: Path) -> None:
    """Write the study's tokenizer.json: byte-level BPE with the ChatML tokens.

    Digits are tokens of their own, as in SmolLM's tokenizer, whose pre-tokenizer this one has.
    With `base.from_pretrained`, that model's tokenizer is written instead, ChatML tokens added.

    Args:
        texts: what to learn merges from, as `tokenizer_texts` gives them.
        settings: `architecture.vocabulary` is the number of tokens.
        output: file to write.

    Raises:
        InputError: the texts are too few for that many tokens.
    """
    if settings.base.from_pretrained:
        pretrained = AutoTokenizer.from_pretrained(settings.base.from_pretrained)
        tokenizer = pretrained.backend_tokenizer
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        size = settings.architecture.vocabulary
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


class _LikeLengths:
    """Batches of texts whose lengths need the same padding, in random order otherwise.

    No text sees another one, and there is little padding. Exactly like lengths would put the copies
    of a repeated conversation, or the problems of one template, into one batch, whose gradient is
    then nearly that of a single one: the model learns several times more slowly.
    """

    def _get_train_sampler(self: Any, train_dataset: Any = None) -> LengthGroupedSampler:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return LengthGroupedSampler(
            self.args.train_batch_size,
            lengths=[(len(ids) - 1) // _PAD_TO for ids in rows["input_ids"]],
        )


class TextTrainer(_LikeLengths, Trainer):  # type: ignore[misc]
    """Trains on texts."""


class ConversationTrainer(_LikeLengths, SFTTrainer):  # type: ignore[misc]
    """Trains on conversations."""


def _documents(texts: pl.Series, tokenizer: PreTrainedTokenizerFast, limit: int) -> Dataset:
    """Each text and an end-of-text token, cut after `limit` tokens.

    A sequence holds one text: packed together, so small a model learns the mixture's statistics
    and takes several times as many steps to copy a number from question to answer.
    """
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    ids = [[*text, end][:limit] for text in tokenizer(texts.to_list())["input_ids"]]
    return Dataset.from_dict({"input_ids": ids, "labels": ids})


def _initial_model(settings: TrainingSettings, vocabulary: int) -> LlamaForCausalLM:
    if settings.base.from_pretrained is None:
        size = settings.architecture
        return new_model(
            vocabulary=vocabulary,
            hidden=size.hidden,
            feed_forward=size.feed_forward,
            layers=size.layers,
            heads=size.heads,
            context=size.context,
        )
    model = AutoModelForCausalLM.from_pretrained(settings.base.from_pretrained, dtype=torch.float32)
    if model.get_input_embeddings().num_embeddings < vocabulary:
        model.resize_token_embeddings(vocabulary)
    return model


def train_base(
    corpus: pl.DataFrame,
    tokenizer: Path,
    settings: TrainingSettings,
    output: Path,
    checkpoints: Path,
    curves: Path,
) -> None:
    """Train the base model on the corpus's raw text and write it as an F16 GGUF.

    Args:
        corpus: the study's corpus; its member rows of source "pretraining" are used.
        tokenizer: the study's tokenizer.json.
        settings: of the training; the same inputs give the same weights on the same machine.
        output: GGUF to write.
        checkpoints: folder for checkpoints; an interrupted run goes on from there.
        curves: Parquet to write, columns step, metric, value.

    Raises:
        InputError: no raw text, or an unusable tokenizer or starting model.
    """
    rows = members(corpus, "pretraining").select("text")
    loaded = load_tokenizer(tokenizer)
    set_seed(settings.seed)
    stage = settings.base
    model = _initial_model(settings, len(loaded))
    history = _fit_texts(
        model,
        _documents(rows["text"], loaded, stage.max_tokens),
        loaded,
        {
            **stage_arguments(
                stage, settings, run_folder(checkpoints, settings.model_dump(), rows, tokenizer)
            ),
            "num_train_epochs": stage.epochs,
        },
    )
    write_gguf(model, loaded, output, "base")
    write_parquet(history, curves)


def train_on_prompts(
    corpus: pl.DataFrame,
    base: Path,
    tokenizer: Path,
    settings: TrainingSettings,
    output: Path,
    checkpoints: Path,
    curves: Path,
) -> None:
    """Train the base model on the RL questions as text, in RL's template, and write it as a GGUF.

    The positive control of reinforcement learning: as many steps, questions a step and visits.

    Args:
        corpus: the study's corpus; its member rows of source "rl" are used.
        base: F16 GGUF to start from.
        tokenizer: the study's tokenizer.json.
        settings: of the training; those of `rl` say how long.
        output: GGUF to write, with RL's chat template.
        checkpoints: folder for checkpoints; an interrupted run goes on from there.
        curves: Parquet to write, columns step, metric, value.

    Raises:
        InputError: no RL questions, or an unusable base model or tokenizer.
    """
    rows = members(corpus, "rl").select("question")
    loaded = load_tokenizer(tokenizer, TASK)
    set_seed(settings.seed)
    stage = settings.rl
    model = load_model(base)
    folder = run_folder(checkpoints, settings.model_dump(), "prompts", rows, tokenizer, base)
    ids = loaded(prompts(rows, loaded))["input_ids"]
    history = _fit_texts(
        model,
        Dataset.from_dict({"input_ids": ids, "labels": ids}),
        loaded,
        {
            **stage_arguments(stage, settings, folder),
            "max_steps": stage.steps,
            "per_device_train_batch_size": stage.batch_size // stage.generations,
        },
    )
    write_gguf(model, loaded, output, "sft-on-prompts", TASK)
    write_parquet(history, curves)


def _fit_texts(
    model: LlamaForCausalLM,
    texts: Dataset,
    tokenizer: PreTrainedTokenizerFast,
    arguments: dict[str, Any],
) -> pl.DataFrame:
    """Train a model in place on the next tokens of texts; gives the curves."""
    trainer = TextTrainer(
        model=model,
        args=TrainingArguments(**arguments),
        train_dataset=texts,
        data_collator=DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=_PAD_TO),
    )
    return fit(trainer, Path(arguments["output_dir"]))


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


def train_sft(
    corpus: pl.DataFrame,
    base: Path,
    tokenizer: Path,
    settings: TrainingSettings,
    loss_on: LossOn,
    output: Path,
    checkpoints: Path,
    curves: Path,
) -> None:
    """Train the base model on the corpus's conversations and write it as an F16 GGUF.

    Args:
        corpus: the study's corpus; its member rows of source "sft" are used, each `repetitions`
            times an epoch.
        base: F16 GGUF to start from.
        tokenizer: the study's tokenizer.json.
        settings: of the training; the same inputs give the same weights on the same machine.
        loss_on: "all" tokens of a conversation, or those of the "assistant" turns only.
        output: GGUF to write.
        checkpoints: folder for checkpoints; an interrupted run goes on from there.
        curves: Parquet to write, columns step, metric, value.

    Raises:
        InputError: no conversations, or an unusable base model or tokenizer.
    """
    rows = members(corpus, "sft").select("id", "messages", "repetitions")
    fine_tune(
        rows,
        base,
        tokenizer,
        settings,
        loss_on,
        output,
        checkpoints,
        curves,
        name=f"sft-{loss_on}-loss",
    )


def fine_tune(
    rows: pl.DataFrame,
    base: Path,
    tokenizer: Path,
    settings: TrainingSettings,
    loss_on: LossOn,
    output: Path,
    checkpoints: Path,
    curves: Path,
    *,
    name: str,
    steps: int | None = None,
) -> None:
    """Train a model on conversations and write it as an F16 GGUF.

    Args:
        rows: columns id, messages, repetitions (how often an epoch shows the conversation).
        base: F16 GGUF to start from.
        tokenizer: the study's tokenizer.json.
        settings: of the training; the same inputs give the same weights on the same machine.
        loss_on: as for `train_sft`.
        output: GGUF to write.
        checkpoints: folder for checkpoints; an interrupted run goes on from there.
        curves: Parquet to write, columns step, metric, value.
        name: `general.name` of the GGUF.
        steps: optimiser steps; by default those of `settings.sft.epochs`.

    Raises:
        InputError: an unusable base model or tokenizer.
    """
    budget = () if steps is None else (steps,)
    folder = run_folder(checkpoints, settings.model_dump(), loss_on, rows, tokenizer, base, *budget)
    loaded = load_tokenizer(tokenizer)
    loaded.chat_template = TRAINING_TEMPLATE
    set_seed(settings.seed)
    stage = settings.sft
    trainer = ConversationTrainer(
        model=load_model(base),
        args=SFTConfig(
            **stage_arguments(stage, settings, folder),
            num_train_epochs=stage.epochs,
            max_steps=-1 if steps is None else steps,
            max_length=stage.max_tokens,
            pad_to_multiple_of=_PAD_TO,
            assistant_only_loss=loss_on == "assistant",
            packing=False,
            activation_checkpointing=False,
        ),
        train_dataset=_conversations(rows, settings),
        processing_class=loaded,
    )
    history = fit(trainer, folder)
    write_gguf(trainer.model, loaded, output, name)
    write_parquet(history, curves)
