"""Settings of the distillation experiment: which generations, which students, how many steps.

This module imports nothing heavy, because the schema of params.yaml contains these settings.
"""

from pydantic import Field, NonNegativeInt, PositiveInt

from alignment_extraction.settings.base import Settings

FAMILIES = {
    "sft": ("start", "original", "extracted", "non-matches"),
    "rl": ("start", "original", "extracted", "verified"),
}
"""The students of each kind of training; `start` is what they all start from, untrained."""

STARTS = {"sft": "base", "rl": "sft"}
"""The trained model that the students of each kind start from."""


class SftStudentSettings(Settings):
    """SFT students; they start from the trained model `base`."""

    model: str = Field(description="model in `models` whose generations they learn from")
    steps: PositiveInt = Field(250, description="optimiser steps of each student")


class RlStudentSettings(Settings):
    """RL students; they start from the trained model `sft`."""

    model: str = Field(description="model in `models` whose generations they learn from")
    steps: PositiveInt = Field(60, description="optimiser steps of each student")
    batch_size: PositiveInt = Field(
        32, description="completions a step; a multiple of `train.rl.generations`"
    )
    accuracy_steps: PositiveInt = Field(
        20, description="steps between two measurements of the accuracy"
    )


class DistillationSettings(Settings):
    """Students trained on extracted and on original data, on equal terms."""

    sft: SftStudentSettings = Field(
        description="students by supervised training; they start from the trained model `base`"
    )
    rl: RlStudentSettings = Field(
        description="students by reinforcement; they start from the trained model `sft`"
    )
    prefix: str = Field("user", description="prefix of the generations; all seeds are used")
    seeds: tuple[NonNegativeInt, ...] = Field(
        (0, 1, 2), min_length=1, description="one student of each data set for each seed"
    )
    near_duplicate: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Jaccard similarity of word 5-grams from which on one of two samples is left "
        "out",
    )
    false_positive_rate: float = Field(
        0.01, gt=0, lt=1, description="at whose threshold a sample is a match of a training item"
    )
    threshold: float = Field(
        0.95,
        ge=-1,
        le=1,
        description="cosine from which on it is a match, where the corpus has too few held-out "
        "rows for that rate",
    )
    max_answer_tokens: PositiveInt = Field(
        128, description="longest answer in the evaluation, in tokens"
    )

    @property
    def models(self) -> dict[str, str]:
        """The model whose generations each kind of students learns from."""
        return {"sft": self.sft.model, "rl": self.rl.model}
