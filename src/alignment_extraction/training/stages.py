"""The stages of training in one list, and what they share: rows, arguments, checkpoints, curves.

This module imports nothing heavy at its top, because every parse of the workflow reads the list.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.settings.controlled import LossOn, StageSettings, TrainingSettings

Method = Literal["text", "conversations", "reinforcement", "prompts"]
"""Next tokens of raw text, of conversations; GRPO on questions; next tokens of the questions."""


class Stage(NamedTuple):
    """One model of the controlled study: what it starts from and what it is trained on."""

    name: str
    starts_from: str | None
    """The stage whose model it goes on from; None for random weights."""
    source: str
    """The source of the corpus that this stage adds."""
    method: Method
    sections: tuple[str, ...]
    """Sections of the settings `train` that the model depends on, its predecessors' included."""
    loss_on: LossOn = "all"
    """Tokens of conversations that are learnt."""
    thoughts: bool = True
    """Reinforcement: whether a completion is a solution, or the result alone."""
    random_reward: bool = False
    """Reinforcement: whether a coin, and not the verifier, gives the reward."""
    prompt_loss: bool = False
    """Reinforcement: whether the questions' tokens are learnt too (a positive control)."""

    @property
    def trained_on(self) -> tuple[str, ...]:
        """All sources that the model has seen."""
        earlier = () if self.starts_from is None else STAGES[self.starts_from].trained_on
        return (*earlier, self.source)


_BASE = ("seed", "bf16", "architecture", "base")
_SFT, _RL = (*_BASE, "sft"), (*_BASE, "rl")
STAGES = {
    stage.name: stage
    for stage in (
        Stage("base", None, "pretraining", "text", _BASE),
        Stage("sft", "base", "sft", "conversations", _SFT),
        Stage("sft-assistant-loss", "base", "sft", "conversations", _SFT, loss_on="assistant"),
        Stage("rl", "base", "rl", "reinforcement", _RL),
        Stage("rl-random", "base", "rl", "reinforcement", _RL, random_reward=True),
        Stage("rl-answer-only", "base", "rl", "reinforcement", _RL, thoughts=False),
        Stage(
            "rl-answer-only-random",
            "base",
            "rl",
            "reinforcement",
            _RL,
            thoughts=False,
            random_reward=True,
        ),
        Stage("rl-prompt-loss", "base", "rl", "reinforcement", _RL, prompt_loss=True),
        Stage("sft-on-prompts", "base", "rl", "prompts", _RL),
    )
}
"""Every model that the workflow can train, in an order in which each starts from an earlier one."""


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
    import torch

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
