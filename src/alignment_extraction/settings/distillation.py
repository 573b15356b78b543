"""Settings of the distillation experiment: whose generations, which students, how many steps."""

from typing import Literal, Self, get_args

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from alignment_extraction.settings.base import Settings

Family = Literal["sft", "rl"]
"""How students are trained: supervised, or by reinforcement."""

Arm = Literal["original", "extracted", "extracted-without-copies", "other"]
"""What students are trained on."""

ARMS = ("start", *get_args(Arm))
"""All arms in the order of the tables; `start` is the untrained model that all start from."""


class SftStudentSettings(Settings):
    """Students trained on whole conversations."""

    model: str = Field(description="model in `models` whose generations they learn from")
    prefix: str = Field("user", description="prefix of the generations; all seeds are used")
    source: str = Field("sft", description="source that this model was trained on")
    other: str = Field("pretraining", description="source of the arm `other`'s rows, a control")
    start: str = Field("base", description="trained model that the students start from")
    arms: tuple[Arm, ...] = Field(get_args(Arm), description="all as large as the smallest")
    seeds: tuple[NonNegativeInt, ...] = Field((0, 1, 2), min_length=1, description="of each arm")
    steps: PositiveInt = Field(250, description="optimiser steps of each student")


class RlStudentSettings(SftStudentSettings):
    """Students trained by GRPO on questions, with each data set's own answers as the reward."""

    source: str = Field("rl", description="source that this model was trained on")
    steps: PositiveInt = Field(100, description="optimiser steps of each student")
    batch_size: PositiveInt = 64
    """completions in a step; a multiple of `train.rl.generations`"""


class DistillationSettings(Settings):
    """Students trained on extracted and on original data, on equal terms."""

    sft: SftStudentSettings | None = Field(None, description="students by supervised training")
    rl: RlStudentSettings | None = Field(None, description="students by reinforcement")
    near_duplicate: float = Field(0.8, gt=0, le=1)
    """Jaccard similarity of word 5-grams at which the later of two generations is dropped"""
    margin: float = Field(0.03, gt=0, lt=1)
    """loss of accuracy against `original` that still counts as non-inferior"""
    questions: PositiveInt = Field(1500, description="evaluation questions at most")
    max_answer_tokens: PositiveInt = Field(128, description="longest evaluated answer, in tokens")

    @property
    def families(self) -> dict[Family, SftStudentSettings]:
        """The kinds of training that students are asked for."""
        named: dict[Family, SftStudentSettings | None] = {"sft": self.sft, "rl": self.rl}
        return {family: about for family, about in named.items() if about}

    @model_validator(mode="after")
    def _something_to_compare(self) -> Self:
        if not self.families:
            raise ValueError("give `sft`, `rl` or both")
        for family, own in self.families.items():
            if "original" not in own.arms or len(set(own.arms)) < max(2, len(own.arms)):
                raise ValueError(f"{family}.arms: expected `original` and another, each once")
        return self
