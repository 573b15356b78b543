"""Training of any stage in the list: one call, one model with its curves."""

from pathlib import Path

import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.training.fitting import Run
from alignment_extraction.training.gguf_export import CHATML, TASK, TASK_RESULT
from alignment_extraction.training.reinforcement import grpo_trainer, rewards, write_accuracy
from alignment_extraction.training.stages import STAGES, members
from alignment_extraction.training.supervised import (
    conversation_trainer,
    document_trainer,
    prompt_trainer,
)


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
    if name not in STAGES:
        raise InputError(f"stage {name!r} is unknown; use one of {', '.join(STAGES)}")
    stage = STAGES[name]
    start = folder / f"{stage.starts_from}.gguf" if stage.starts_from else None
    output = output or folder / f"{name}.gguf"
    run = Run(settings, folder / "tokenizer.json", start, output, checkpoints)
    rows = members(corpus, stage.source)
    if stage.method == "text":
        run.finish(document_trainer(rows, run), name, CHATML)
    elif stage.method == "conversations":
        trainer = conversation_trainer(rows, run, stage.loss_on)
        run.finish(trainer, f"sft-{stage.loss_on}-loss", CHATML)
    elif stage.method == "prompts":
        run.finish(prompt_trainer(rows, run, TASK), name, TASK)
    else:
        template = TASK if stage.thoughts else TASK_RESULT
        questions = rows.select("id", "question", "metadata")
        weight = settings.rl.prompt_weight if stage.prompt_loss else 0.0
        rewarded = rewards(stage, template.lead)
        run.finish(grpo_trainer(questions, rewarded, run, template, weight), name, template)
        write_accuracy(corpus, run, template)
