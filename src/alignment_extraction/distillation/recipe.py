"""Recipes of the full scale: what is trained, on what, on which devices, and what that takes.

A plan is arithmetic on a recipe's numbers; nothing is downloaded. Its formulas:

- compute: 6 operations a parameter and token (forward 2, backward 4; Kaplan et al. 2020, arXiv
  2001.08361, section 2.1), 8 where activations are computed again in the backward pass; with LoRA
  the weights' own gradients fall away, which leaves 4, or 6. Causal attention adds 2 x layers x
  length x hidden for a token's forward pass, and twice that backward.
- memory of ZeRO-3 (Rajbhandari et al. 2019, arXiv 1910.02054, section 3): 2 bytes a parameter for
  bfloat16 weights, and for each trained one 2 for its gradient and 12 for AdamW (weight, mean and
  variance in float32), all divided among the devices.
- activations with checkpointing: one input of 2 bytes x hidden for each layer and token, one
  layer's own 34 bytes x hidden for each token (Korthikanti et al. 2022, arXiv 2205.05198, equation
  2, attention computed blockwise), and logits twice in float32.
- time: compute over devices x peak x utilisation; for GRPO also the completions over the devices'
  generation speed. Utilisation and speed are the recipe's assumptions, not measurements.
"""

import math
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

_GIGABYTE = 1e9


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSize(_Section):
    """The base model that students start from."""

    name: str = Field(description="a name on the hub, or a local folder")
    revision: str | None = Field(None, description="commit on the hub")
    tokenizer: str | None = Field(
        None, description="where tokenizer and chat template come from, if not from `name`"
    )
    parameters: PositiveInt
    layers: PositiveInt
    hidden: PositiveInt
    vocabulary: PositiveInt


class Lora(_Section):
    """Low-rank adapters instead of all weights (Hu et al. 2021, arXiv 2106.09685)."""

    rank: PositiveInt = 64
    alpha: PositiveInt = 128
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    parameters: PositiveInt = Field(description="of all adapters; counted for the plan")


class Optimisation(_Section):
    """AdamW and its schedule."""

    learning_rate: PositiveFloat
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(0.0, ge=0)
    epochs: PositiveFloat
    batch_size: PositiveInt = Field(description="sequences a step, over all devices")
    device_batch_size: PositiveInt = Field(description="sequences that a device computes at once")
    max_tokens: PositiveInt = Field(description="a longer sequence is cut here")


class Reinforcement(_Section):
    """Dr. GRPO (Liu et al. 2025, arXiv 2503.20783): no division by length or deviation."""

    generations: int = Field(ge=2, description="completions of a question")
    max_completion_tokens: PositiveInt
    temperature: PositiveFloat = 1.0
    beta: float = Field(0.0, ge=0, description="weight of the divergence from the start")


class Data(_Section):
    """What the recipe is for; the plan counts with it, the training takes what it is given."""

    rows: PositiveInt
    tokens: PositiveInt = Field(
        description="of a row's prompt and, for SFT, its answer; on average"
    )
    completion_tokens: PositiveInt | None = Field(None, description="of a completion, on average")


class Devices(_Section):
    """The machine, and how much of it a training gets out of it."""

    name: str
    number: PositiveInt
    memory: PositiveFloat = Field(description="of each, in 10^9 bytes")
    peak: PositiveFloat = Field(description="of each in bfloat16, in 10^12 operations a second")
    utilisation: float = Field(gt=0, le=1, description="share of the peak; an assumption")
    generation: PositiveFloat | None = Field(
        None, description="tokens a second that each generates; an assumption, for RL"
    )


class Recipe(_Section):
    """One training at full scale."""

    method: Literal["sft", "grpo"]
    model: ModelSize
    data: Data
    optimisation: Optimisation
    devices: Devices
    reinforcement: Reinforcement | None = None
    lora: Lora | None = None
    checkpointing: bool = Field(True, description="compute activations again when backward")
    seed: int = Field(0, ge=0)
    save_steps: PositiveInt = Field(500, description="steps between two checkpoints")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        at_once = self.devices.number * self.optimisation.device_batch_size
        if self.optimisation.batch_size % at_once:
            raise ValueError(
                f"optimisation.batch_size = {self.optimisation.batch_size} is not a multiple of "
                f"devices.number x optimisation.device_batch_size = {at_once}"
            )
        if (self.method == "grpo") != (self.reinforcement is not None):
            raise ValueError("`reinforcement` goes with method grpo, and with that alone")
        if self.reinforcement is not None:
            if self.data.completion_tokens is None or self.devices.generation is None:
                raise ValueError("grpo needs data.completion_tokens and devices.generation")
            if self.optimisation.batch_size % self.reinforcement.generations:
                raise ValueError(
                    "optimisation.batch_size is not a multiple of reinforcement.generations"
                )
        return self

    @property
    def accumulation(self) -> int:
        """Batches of a device in one step."""
        at_once = self.devices.number * self.optimisation.device_batch_size
        return self.optimisation.batch_size // at_once


class Plan(NamedTuple):
    """What a recipe takes."""

    steps: int
    tokens: int
    """That gradients are computed for or through, prompts included."""
    generated: int
    """Tokens of completions; 0 for SFT."""
    compute: float
    """Operations."""
    memory: dict[str, float]
    """Bytes on each device by what they are for."""
    hours: float
    """Of all devices together."""


def plan(recipe: Recipe) -> Plan:
    """Steps, tokens, compute, memory and time of a recipe (see the module for the formulas)."""
    size, data, stage = recipe.model, recipe.data, recipe.optimisation
    per_question = recipe.reinforcement.generations if recipe.reinforcement else 1
    sequences = data.rows * stage.epochs * per_question
    steps = math.ceil(sequences / stage.batch_size)
    completion = data.completion_tokens or 0
    length = min(data.tokens + completion, stage.max_tokens)
    tokens = steps * stage.batch_size * length
    generated = steps * stage.batch_size * completion
    # Two operations for a parameter and token each: forward, again, for inputs, for weights.
    passes = 2 + recipe.checkpointing + (recipe.lora is None)
    # Attention has no weights, but gradients for both factors of each of its products.
    attended = 2 * size.layers * size.hidden * length * (3 + recipe.checkpointing)
    compute = tokens * (2.0 * passes * size.parameters + attended)
    devices = recipe.devices.number
    trained = recipe.lora.parameters if recipe.lora else size.parameters
    weights = size.parameters + (recipe.lora.parameters if recipe.lora else 0)
    # The longest sequences decide, not the average ones.
    at_once = stage.device_batch_size * stage.max_tokens
    kept = size.layers if recipe.checkpointing else 17 * size.layers
    memory = {
        "weights": 2 * weights / devices,
        "gradients": 2 * trained / devices,
        "optimiser": 12 * trained / devices,
        "activations": at_once * size.hidden * (2.0 * kept + 34),
        "logits": 8.0 * at_once * size.vocabulary,
    }
    seconds = compute / (devices * recipe.devices.peak * 1e12 * recipe.devices.utilisation)
    if recipe.devices.generation:
        seconds += generated / (devices * recipe.devices.generation)
    return Plan(steps, tokens, generated, compute, memory, seconds / 3600)


def describe(recipe: Recipe) -> str:
    """A recipe's plan in lines to read."""
    found, devices = plan(recipe), recipe.devices
    needed = sum(found.memory.values()) / _GIGABYTE
    parts = ", ".join(f"{name} {size / _GIGABYTE:.1f}" for name, size in found.memory.items())
    verdict = "fits" if needed < devices.memory else "DOES NOT FIT"
    lines = [
        f"{recipe.method.upper()} of {recipe.model.name} ({recipe.model.parameters / 1e9:.2f} "
        f"billion parameters{', LoRA' if recipe.lora else ''}) on {recipe.data.rows:,} rows",
        f"steps:   {found.steps:,} of {recipe.optimisation.batch_size} sequences "
        f"({recipe.accumulation} x {recipe.optimisation.device_batch_size} on each of "
        f"{devices.number} {devices.name})",
        f"tokens:  {found.tokens:,} trained on"
        + (f", {found.generated:,} generated" if found.generated else ""),
        f"memory:  {needed:.1f} of {devices.memory:.0f} GB a device ({parts}): {verdict}",
        f"time:    {found.hours:.1f} hours, {found.hours * devices.number:.0f} device hours "
        f"({found.compute:.2e} operations at {devices.utilisation:.0%} of the peak)",
    ]
    return "\n".join(lines)


def load(path: Path, values: Any) -> Recipe:
    """Check the values of a recipe file.

    Raises:
        InputError: one line that names the first offending key.
    """
    from alignment_extraction.cli.options import parse_settings

    recipe: Recipe = parse_settings(Recipe, values, str(path))
    return recipe
