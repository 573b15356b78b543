"""The stages of training in one list: every model of the controlled study, and how it is trained.

This module imports nothing heavy, because every parse of the workflow reads the list.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.settings.controlled import LossOn, TrainingSettings

Method = Literal["text", "conversations", "reinforcement", "prompts"]
"""Next tokens of raw text, of conversations; GRPO on questions; next tokens of the questions."""


class Stage(NamedTuple):
    """One model of the controlled study.

    It goes on from the model of the stage `starts_from` (None: random weights) with the rows of
    `source`, and with `repeat` more than the seed of the settings `train`, of which it depends on
    these `sections`. `loss_on` says which tokens of conversations are learnt. Of reinforcement,
    `thoughts` says whether a completion is a solution or the result alone, `random_reward` whether
    a coin gives the reward, and `prompt_loss` whether the questions' tokens are learnt too.
    """

    name: str
    starts_from: str | None
    source: str
    method: Method
    sections: tuple[str, ...]
    loss_on: LossOn = "all"
    thoughts: bool = True
    random_reward: bool = False
    prompt_loss: bool = False
    repeat: int = 0

    @property
    def trained_on(self) -> tuple[str, ...]:
        """All sources that the model has seen."""
        earlier = () if self.starts_from is None else STAGES[self.starts_from].trained_on
        return (*earlier, self.source)


_BASE = ("seed", "bf16", "architecture", "base")
_RL = Stage("rl", "base", "rl", "reinforcement", (*_BASE, "rl"))
_SFT = Stage("sft", "base", "sft", "conversations", (*_BASE, "sft"))
_ARMS = (
    _RL,
    _RL._replace(name="rl-random", random_reward=True),
    _RL._replace(name="rl-answer-only", thoughts=False),
    _RL._replace(name="rl-answer-only-random", thoughts=False, random_reward=True),
    _RL._replace(name="rl-prompt-loss", prompt_loss=True),
    _RL._replace(name="sft-on-prompts", method="prompts"),
)
_LIST = (
    Stage("base", None, "pretraining", "text", _BASE),
    *(_SFT, _SFT._replace(name="sft-assistant-loss", loss_on="assistant")),
    *_ARMS,
    _RL._replace(name="rl-wide", source="rl-wide"),
    *(arm._replace(name=f"{arm.name}-seed{n}", repeat=n) for n in (1, 2) for arm in _ARMS),
)
STAGES = {stage.name: stage for stage in _LIST}
"""Every model that the workflow can train, in an order in which each starts from an earlier one."""


def members(corpus: pl.DataFrame, source: str) -> pl.DataFrame:
    """Give the rows of `corpus` that the models of `source` are trained on, or an InputError."""
    rows = corpus.filter(source=source, role="member")
    if rows.is_empty():
        raise InputError(f"the corpus has no member rows of source {source!r}; nothing to train on")
    return rows


def train(
    name: str,
    corpus: pl.DataFrame,
    folder: Path,
    settings: TrainingSettings,
    checkpoints: Path,
    output: Path | None = None,
) -> None:
    """Train one stage's model; the same inputs give the same weights on the same machine.

    Args:
        name: of the stage.
        corpus: the study's corpus; member rows of the stage's source are trained on.
        folder: has `tokenizer.json` and the model that the stage starts from.
        settings: of the training.
        checkpoints: folder for checkpoints; an interrupted run goes on from there.
        output: GGUF to write, `folder`/NAME.gguf by default; beside it lie NAME-curves.parquet
            and, for reinforcement, NAME-accuracy.parquet.

    Raises:
        InputError: an unknown stage, no rows to train on, or an unusable model.
    """
    from alignment_extraction.training import fitting, gguf_export, reinforcement, supervised

    if name not in STAGES:
        raise InputError(f"stage {name!r} is unknown; use one of {', '.join(STAGES)}")
    stage = STAGES[name]
    start = folder / f"{stage.starts_from}.gguf" if stage.starts_from else None
    output = output or folder / f"{name}.gguf"
    settings = settings.model_copy(update={"seed": settings.seed + stage.repeat})
    run = fitting.Run(settings, folder / "tokenizer.json", start, output, checkpoints)
    rows, template = members(corpus, stage.source), gguf_export.CHATML
    if stage.method == "text":
        trainer = supervised.document_trainer(rows, run)
    elif stage.method == "conversations":
        trainer = supervised.conversation_trainer(rows, run, stage.loss_on)
    elif stage.method == "prompts":
        template = gguf_export.TASK
        trainer = supervised.prompt_trainer(rows, run, template)
    else:
        template = gguf_export.TASK if stage.thoughts else gguf_export.TASK_RESULT
        questions = rows.select("id", "question", "metadata")
        weight = settings.rl.prompt_weight if stage.prompt_loss else 0.0
        rewarded = reinforcement.rewards(stage, template.lead)
        trainer = reinforcement.grpo_trainer(questions, rewarded, run, template, weight)
    run.finish(trainer, name, template)
    if stage.method == "reinforcement":
        reinforcement.write_accuracy(corpus.filter(source=stage.source), run, template)
