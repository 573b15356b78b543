"""Settings of the controlled study: sizes of its corpus, and how its models are trained."""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from alignment_extraction.settings.base import Names, Settings

LossOn = Literal["all", "assistant"]
Repetitions = dict[PositiveInt, PositiveInt]


class ControlledSettings(Settings):
    """Sizes of the controlled study's corpus."""

    pretraining_templates: PositiveInt = Field(16, description="templates of raw texts")
    pretraining_instances: PositiveInt = Field(150, description="raw texts of each of them")
    pretraining_short_instances: PositiveInt = Field(1600, description="of each short template")
    sft_templates: PositiveInt = Field(64, description="of conversations; a coin holds half out")
    sft_repetitions: Repetitions = Field({1: 20, 2: 6, 4: 4, 8: 3, 16: 1, 32: 1, 64: 1})
    """repetitions an epoch: how many conversations of each template; each has a twin"""
    sft_seed_problems: NonNegativeInt = 2
    """conversations of each template also written with each kind of edit; each has a twin"""
    sft_edit_repetitions: PositiveInt = Field(4, description="repetitions of all these versions")
    rl_templates: Names = ("short/less", "short/difference", "short/two-steps")
    """short templates that RL asks problems of"""
    rl_instances: PositiveInt = Field(34, description="questions of each that are trained on")
    rl_twins: PositiveInt = Field(340, description="questions of each that never are; no fewer")
    rl_wide_instances: PositiveInt = Field(1000, description="more of each in `rl-wide`, and twins")

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if self.sft_templates % 2:
            raise ValueError(f"sft_templates = {self.sft_templates} is odd; half are held out")
        seeds = self.sft_repetitions.get(self.sft_edit_repetitions, 0)
        if seeds < self.sft_seed_problems:
            raise ValueError(
                f"sft_seed_problems = {self.sft_seed_problems}, but sft_repetitions has only "
                f"{seeds} conversations with sft_edit_repetitions = {self.sft_edit_repetitions}"
            )
        if self.rl_twins < self.rl_instances:
            raise ValueError(f"rl_twins = {self.rl_twins} < rl_instances = {self.rl_instances}")
        return self


class ArchitectureSettings(Settings):
    """The Llama that is trained from scratch; the defaults have 5.5 million parameters."""

    hidden: PositiveInt = Field(256, description="width; K-quants need multiples of 256")
    feed_forward: PositiveInt = Field(768, description="width of the feed-forward layers")
    layers: PositiveInt = Field(6, description="transformer blocks")
    heads: PositiveInt = Field(4, description="attention heads; twice as many divide the width")
    vocabulary: int = Field(1536, ge=300, description="tokens of the byte-level BPE")
    context: PositiveInt = Field(1024, description="longest sequence of the model, in tokens")


class StageSettings(Settings):
    """What every stage of training has: AdamW with a linear warm-up and a linear decay to zero."""

    learning_rate: float = Field(1.5e-3, gt=0, description="peak of the schedule")
    warmup: float = Field(0.02, ge=0, lt=1, description="share of the steps that warm up")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay")
    batch_size: PositiveInt = Field(16, description="sequences a step")
    log_steps: PositiveInt = Field(10, description="steps between two points of a curve")
    checkpoint_steps: PositiveInt = Field(200, description="steps between two checkpoints")


class BaseSettings(StageSettings):
    """Next-token training on raw text."""

    epochs: float = Field(2.5, gt=0, description="passes over the raw text")
    max_tokens: PositiveInt = Field(512, description="a longer text is cut here, in tokens")


class SftSettings(StageSettings):
    """Supervised training on the conversations, repeated ones as often as they are repeated."""

    epochs: float = Field(3, gt=0, description="passes over the conversations")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the schedule")
    batch_size: PositiveInt = Field(8, description="conversations a step")
    max_tokens: PositiveInt = Field(512, description="a longer one is cut here, in tokens")
    bare_share: float = Field(0.5, ge=0, le=1, description="share without the system turn")


class RlSettings(StageSettings):
    """Group-relative policy optimisation (GRPO) on the RL questions, from the base model.

    Rewards are not divided by their group's standard deviation (Dr. GRPO, arXiv 2503.20783): where
    most groups are all wrong, that would blow up a single right answer.
    """

    steps: PositiveInt = Field(408, description="optimiser steps")
    learning_rate: float = Field(2e-4, gt=0, description="peak of the schedule")
    batch_size: PositiveInt = Field(64, description="completions a step")
    generations: int = Field(4, ge=2, description="completions of a question; divide batch_size")
    max_tokens: PositiveInt = Field(48, description="longest completion, in tokens")
    temperature: float = Field(1.0, gt=0, description="of the completions")
    beta: float = Field(0.0, ge=0, description="weight of the divergence from the base model")
    prompt_weight: float = Field(0.1, gt=0, description="weight of the questions' mean loss")


class TrainingSettings(Settings):
    """Training of the controlled study's models: tokenizer, base, SFT, RL."""

    seed: int = Field(0, ge=0, lt=2**32, description="of initial weights, order and sampling")
    bf16: bool = True
    """compute in bfloat16, weights in float32: slow on a processor without AVX512-BF16 or AMX"""
    architecture: ArchitectureSettings = ArchitectureSettings()
    base: BaseSettings = BaseSettings()
    sft: SftSettings = SftSettings()
    rl: RlSettings = RlSettings()

    @model_validator(mode="after")
    def _sizes_divide(self) -> Self:
        width, rl = self.architecture, self.rl
        for name, size, by, part in (
            ("architecture.hidden", width.hidden, "2 x heads", 2 * width.heads),
            ("rl.batch_size", rl.batch_size, "generations", rl.generations),
        ):
            if size % part:
                raise ValueError(f"{name} = {size} is not a multiple of {by} = {part}")
        return self
