"""What the stages of training share: their rows, their trainers' arguments, checkpoints, curves."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import torch

from alignment_extraction.files import InputError
from alignment_extraction.settings.controlled import StageSettings, TrainingSettings


def members(corpus: pl.DataFrame, source: str) -> pl.DataFrame:
    """Give the rows of `corpus` that the models of `source` are trained on.

    Raises:
        InputError: there are none.
    """
    rows = corpus.filter(pl.col("source") == source, pl.col("role") == "member")
    if rows.is_empty():
        raise InputError(f"the corpus has no member rows of source {source!r}; nothing to train on")
    return rows


def stage_arguments(
    stage: StageSettings, settings: TrainingSettings, folder: Path
) -> dict[str, Any]:
    """Arguments that all stages' trainers share."""
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": stage.batch_size,
        "learning_rate": stage.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": stage.warmup,
        "weight_decay": stage.weight_decay,
        "bf16": settings.bf16,
        "use_cpu": not torch.cuda.is_available(),
        "seed": settings.seed,
        "save_steps": stage.checkpoint_steps,
        "save_total_limit": 1,
        "logging_steps": stage.log_steps,
        "disable_tqdm": False,
        "report_to": "none",
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def run_folder(checkpoints: Path, *inputs: Any) -> Path:
    """Give a folder below `checkpoints` that only a run with these inputs resumes from.

    Args:
        checkpoints: the stage's folder.
        inputs: settings, data frames and files of the run.
    """
    digest = hashlib.sha256()
    for item in inputs:
        if isinstance(item, Path):
            digest.update(item.read_bytes() if item.is_file() else b"")
        elif isinstance(item, pl.DataFrame):
            digest.update(item.write_ndjson().encode())
        else:
            digest.update(repr(item).encode())
    return checkpoints / digest.hexdigest()[:16]


def fit(trainer: Any, folder: Path) -> pl.DataFrame:
    """Train, from the last whole checkpoint in `folder` if there is one; then remove `folder`.

    Returns:
        The curves: columns step (Int64), metric (the trainer's name of it), value (Float64).
    """
    _drop_unfinished(folder)
    trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")))
    rows = [
        {"step": entry["step"], "metric": metric, "value": float(value)}
        for entry in trainer.state.log_history
        for metric, value in entry.items()
        if metric != "step" and isinstance(value, int | float)
    ]
    if folder.exists():
        # Under another name first: what is half removed must not be gone on from.
        done = folder.with_suffix(".done")
        shutil.rmtree(done, ignore_errors=True)
        folder.rename(done)
        shutil.rmtree(done, ignore_errors=True)
    return pl.DataFrame(rows, schema={"step": pl.Int64, "metric": pl.String, "value": pl.Float64})


def _drop_unfinished(folder: Path) -> None:
    """Remove checkpoints whose writing was cut off: the trainer writes its state last."""
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            shutil.rmtree(checkpoint, ignore_errors=True)
