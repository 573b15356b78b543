"""Settings of the distillation experiment: which generations, which students, how many steps.

This module imports nothing heavy, because the schema of params.yaml contains these settings.
"""

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

FAMILIES = {
    "sft": ("start", "original", "extracted", "non-matches"),
    "rl": ("start", "original", "extracted", "verified"),
}
"""The students of each kind of training; `start` is what they all start from, untrained."""

STARTS = {"sft": "base", "rl": "sft"}
"""The trained model that the students of each kind start from."""


class DistillationSettings(BaseModel):
    """Students trained on extracted and on original data, on equal terms."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sft_model: str = Field(
        description="model in `models` whose generations the SFT students learn from; they start "
        "from the trained model `base`"
    )
    rl_model: str = Field(
        description="model in `models` whose generations the RL students learn from; they start "
        "from the trained model `sft`"
    )
    prefix: str = Field("user", description="prefix of these generations; all seeds are used")
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
    sft_steps: PositiveInt = Field(250, description="optimiser steps of each SFT student")
    rl_steps: PositiveInt = Field(80, description="optimiser steps of each RL student")
    rl_batch_size: PositiveInt = Field(
        32, description="completions a step of RL; a multiple of `train.rl.generations`"
    )
    accuracy_steps: PositiveInt = Field(
        20, description="steps of RL between two measurements of the accuracy"
    )
    max_answer_tokens: PositiveInt = Field(
        128, description="longest answer in the evaluation, in tokens"
    )
