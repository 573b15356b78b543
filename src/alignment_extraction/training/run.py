"""Training of any stage in the list: one call, one model with its curves."""

from pathlib import Path

import polars as pl

from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.training.fitting import Run
from alignment_extraction.training.reinforcement import train_rl
from alignment_extraction.training.stages import find_stage
from alignment_extraction.training.supervised import train_base, train_on_prompts, train_sft


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
        corpus: the study's corpus; member rows of the stage's source are trained on.
        folder: has `tokenizer.json` and the model that the stage starts from.
        settings: of the training; the same inputs give the same weights on the same machine.
        checkpoints: folder for checkpoints; an interrupted run goes on from there.
        output: GGUF to write, `folder`/NAME.gguf by default; its curves are written beside it as
            NAME-curves.parquet, and for reinforcement the accuracies as NAME-accuracy.parquet.

    Raises:
        InputError: an unknown stage, no rows to train on, or an unusable tokenizer or model.
    """
    stage = find_stage(name)
    start = folder / f"{stage.starts_from}.gguf" if stage.starts_from else None
    output = output or folder / f"{name}.gguf"
    run = Run(settings, folder / "tokenizer.json", start, output, checkpoints)
    if stage.method == "text":
        train_base(corpus, run)
    elif stage.method == "conversations":
        train_sft(corpus, run, stage.loss_on)
    elif stage.method == "prompts":
        train_on_prompts(corpus, run)
    else:
        train_rl(corpus, run, stage)
