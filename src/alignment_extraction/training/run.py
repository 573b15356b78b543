"""Training of any stage in the list: one call, one model with its curves."""

from pathlib import Path

import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.training.reinforcement import train_rl
from alignment_extraction.training.stages import STAGES, Stage
from alignment_extraction.training.supervised import train_base, train_on_prompts, train_sft


def find_stage(name: str) -> Stage:
    """Give the stage of a name.

    Raises:
        InputError: there is none.
    """
    if name not in STAGES:
        raise InputError(f"stage {name!r} is unknown; use one of {', '.join(STAGES)}")
    return STAGES[name]


def train(
    name: str,
    corpus: pl.DataFrame,
    folder: Path,
    settings: TrainingSettings,
    checkpoints: Path,
    output: Path | None = None,
) -> None:
    """Train one stage's model.

    Args:
        name: of the stage; see `stages.STAGES`.
        corpus: the study's corpus.
        folder: has `tokenizer.json` and the model that the stage starts from.
        settings: of the training; the same inputs give the same weights on the same machine.
        checkpoints: folder for checkpoints; an interrupted run goes on from there.
        output: GGUF to write, `folder`/NAME.gguf by default; its curves are written beside it as
            NAME-curves.parquet, and for reinforcement the accuracies as NAME-accuracy.parquet.

    Raises:
        InputError: an unknown stage, no rows to train on, or an unusable tokenizer or model.
    """
    stage = find_stage(name)
    tokenizer = folder / "tokenizer.json"
    output = output or folder / f"{name}.gguf"
    curves = output.with_name(f"{output.stem}-curves.parquet")
    if stage.starts_from is None:
        train_base(corpus, tokenizer, settings, output, checkpoints, curves)
        return
    start = folder / f"{stage.starts_from}.gguf"
    if stage.method == "conversations":
        train_sft(corpus, start, tokenizer, settings, stage.loss_on, output, checkpoints, curves)
    elif stage.method == "prompts":
        train_on_prompts(corpus, start, tokenizer, settings, output, checkpoints, curves)
    else:
        accuracies = output.with_name(f"{output.stem}-accuracy.parquet")
        train_rl(corpus, start, tokenizer, settings, stage, output, checkpoints, curves, accuracies)
