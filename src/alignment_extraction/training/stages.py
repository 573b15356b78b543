"""The stages of training in one list: every model of the controlled study.

This module imports nothing heavy, because every parse of the workflow reads the list.
"""

from typing import Literal, NamedTuple

import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.settings.controlled import LossOn

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
_RL = Stage("rl", "base", "rl", "reinforcement", (*_BASE, "rl"))
_SFT = Stage("sft", "base", "sft", "conversations", (*_BASE, "sft"))
STAGES = {
    stage.name: stage
    for stage in (
        Stage("base", None, "pretraining", "text", _BASE),
        _SFT,
        _SFT._replace(name="sft-assistant-loss", loss_on="assistant"),
        _RL,
        _RL._replace(name="rl-random", random_reward=True),
        _RL._replace(name="rl-answer-only", thoughts=False),
        _RL._replace(name="rl-answer-only-random", thoughts=False, random_reward=True),
        _RL._replace(name="rl-prompt-loss", prompt_loss=True),
        _RL._replace(name="sft-on-prompts", method="prompts"),
    )
}
"""Every model that the workflow can train, in an order in which each starts from an earlier one."""


def members(corpus: pl.DataFrame, source: str) -> pl.DataFrame:
    """Give the rows of `corpus` that the models of `source` are trained on, or an InputError."""
    rows = corpus.filter(source=source, role="member")
    if rows.is_empty():
        raise InputError(f"the corpus has no member rows of source {source!r}; nothing to train on")
    return rows
