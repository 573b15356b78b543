"""The controlled study at a size that trains in seconds: corpus, settings, one call a stage."""

import functools
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alignment_extraction.settings.controlled import ControlledSettings, TrainingSettings
from alignment_extraction.training import stages, supervised
from alignment_extraction.training.controlled import build

TOY_DATA = ControlledSettings(
    pretraining_templates=2,
    pretraining_instances=16,
    pretraining_short_instances=6,
    sft_templates=8,
    sft_repetitions={1: 3, 8: 1},
    sft_seed_problems=1,
    sft_edit_repetitions=1,
    rl_templates=("short/more", "short/less"),
    rl_instances=6,
    rl_twins=6,
    rl_wide_instances=4,
)
TOY = TrainingSettings.model_validate(
    {
        "bf16": False,
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


@functools.cache
def toy_corpus() -> pl.DataFrame:
    """The toy study's corpus."""
    return build(TOY_DATA, seed=1)


def train_tokenizer_and_base(folder: Path) -> Path:
    """Train what the later stages start from: tokenizer.json and base.gguf in `folder`."""
    supervised.train_tokenizer(toy_corpus(), TOY, folder / "tokenizer.json")
    train("base", folder, folder / "base.gguf")
    return folder


def train(
    stage: str,
    folder: Path,
    output: Path,
    settings: TrainingSettings = TOY,
    corpus: pl.DataFrame | None = None,
) -> None:
    """Train a stage from the tokenizer and the models of `folder`; tables lie beside `output`."""
    rows = toy_corpus() if corpus is None else corpus
    stages.train(stage, rows, folder, settings, output.with_suffix(".checkpoints"), output)


def curve(output: Path, metric: str = "loss") -> pl.Series:
    """The values of a curve of the training that wrote `output`, in order of the steps."""
    curves = pl.read_parquet(output.with_name(f"{output.stem}-curves.parquet"))
    return curves.filter(metric=metric).sort("step")["value"]


class _InterruptionError(Exception):
    pass


def check_resumption(
    stage: str,
    trainer: Any,
    folder: Path,
    output_folder: Path,
    *,
    interruption: int,
    checkpoint: int,
) -> None:
    """Interrupt a training and go on: the same bytes, and no step before the checkpoint again.

    Args:
        stage: what is trained.
        trainer: the trainer's class that it uses.
        folder: with the tokenizer and the base model.
        output_folder: an empty folder.
        interruption: steps after which the training breaks off.
        checkpoint: the last step before that has a checkpoint.
    """
    original = trainer.training_step
    whole, parts = output_folder / "whole.gguf", output_folder / "parts.gguf"
    steps = 0

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > limit:
            raise _InterruptionError
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "training_step", counted)
        limit = 10**9
        train(stage, folder, whole)
        in_all, steps, limit = steps, 0, interruption
        with pytest.raises(_InterruptionError):
            train(stage, folder, parts)
        assert not parts.exists()
        steps, limit = 0, 10**9
        train(stage, folder, parts)
    assert steps == in_all - checkpoint
    assert parts.read_bytes() == whole.read_bytes()
    assert curve(parts).equals(curve(whole))
