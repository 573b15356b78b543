"""Settings of the controlled study's training; the steps are in `supervised` and `reinforcement`.

This module imports nothing heavy, because the schema of params.yaml contains these settings.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

LossOn = Literal["all", "assistant"]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArchitectureSettings(_Settings):
    """The Llama that is trained from nothing; the defaults have 5.6 million parameters."""

    hidden: PositiveInt = Field(
        default=256, description="width; K-quants need multiples of 256 to apply without a fallback"
    )
    feed_forward: PositiveInt = Field(default=768, description="width of the feed-forward layers")
    layers: PositiveInt = Field(default=6, description="transformer blocks")
    heads: PositiveInt = Field(default=4, description="attention heads; they divide the width")
    vocabulary: int = Field(
        default=2048, ge=300, description="tokens of the byte-level BPE, special ones included"
    )
    context: PositiveInt = Field(
        default=1024, description="longest sequence of the model, in tokens"
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.hidden % (2 * self.heads):
            raise ValueError(
                f"hidden = {self.hidden} is not a multiple of 2 x heads = {self.heads}"
            )
        return self


class StageSettings(_Settings):
    """What every stage of training has: AdamW with a linear warm-up and a linear decay to zero."""

    learning_rate: float = Field(default=2e-3, gt=0, description="peak of the schedule")
    warmup: float = Field(default=0.02, ge=0, lt=1, description="share of the steps that warm up")
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's weight decay")
    batch_size: PositiveInt = Field(default=16, description="sequences a step")
    log_steps: PositiveInt = Field(default=10, description="steps between two points of a curve")
    checkpoint_steps: PositiveInt = Field(
        default=200, description="steps between two checkpoints; what an interruption can lose"
    )


class BaseSettings(StageSettings):
    """Next-token training on raw text."""

    from_pretrained: str | None = Field(
        default=None,
        description="a Llama to start from, with its tokenizer, instead of random weights: a local"
        " folder or a name on the hub; `architecture` then does not apply",
    )
    epochs: float = Field(default=8, gt=0, description="passes over the raw text")
    batch_size: PositiveInt = Field(default=32, description="texts a step")
    max_tokens: PositiveInt = Field(default=512, description="a longer text is cut here, in tokens")


class SftSettings(StageSettings):
    """Supervised training on the conversations, repeated ones as often as they are repeated."""

    epochs: float = Field(default=5, gt=0, description="passes over the conversations")
    batch_size: PositiveInt = Field(default=16, description="conversations a step")
    max_tokens: PositiveInt = Field(
        default=512, description="a longer conversation is cut here, in tokens"
    )
    bare_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the conversations that are shown without the default system turn",
    )


class RlSettings(StageSettings):
    """Group-relative policy optimisation (GRPO) on the RL questions."""

    steps: PositiveInt = Field(default=300, description="optimiser steps")
    learning_rate: float = Field(default=1e-4, gt=0, description="peak of the schedule")
    batch_size: PositiveInt = Field(default=64, description="completions a step")
    generations: int = Field(
        default=8, ge=2, description="completions of one question; they divide the batch size"
    )
    max_tokens: PositiveInt = Field(default=48, description="longest completion, in tokens")
    temperature: float = Field(default=1.0, gt=0, description="of the completions")
    beta: float = Field(
        default=0.0, ge=0, description="weight of the divergence from the SFT model"
    )

    @model_validator(mode="after")
    def _generations_divide_batch(self) -> Self:
        if self.batch_size % self.generations:
            raise ValueError(
                f"batch_size = {self.batch_size} is not a multiple of generations = "
                f"{self.generations}"
            )
        return self


class TrainingSettings(_Settings):
    """Training of the controlled study's models: tokenizer, base, SFT, RL."""

    seed: int = Field(
        default=0, ge=0, lt=2**32, description="of initial weights, order and sampling"
    )
    bf16: bool = Field(True, description="compute in bfloat16 (weights stay in float32)")
    architecture: ArchitectureSettings = Field(
        default_factory=ArchitectureSettings,
        description="the Llama that base training starts from nothing",
    )
    base: BaseSettings = Field(
        default_factory=BaseSettings, description="next-token training on raw text"
    )
    sft: SftSettings = Field(
        default_factory=SftSettings, description="supervised training on conversations"
    )
    rl: RlSettings = Field(
        default_factory=RlSettings, description="reinforcement learning with a verifier"
    )
