"""The recipes for TRL's command line: every key is one that it has, and the batches are as told."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from trl import GRPOConfig, ModelConfig, ScriptArguments, SFTConfig
from trl.scripts.grpo import GRPOScriptArguments

FOLDER = Path(__file__).parents[3] / "workflow/distillation"
RECIPES = {
    "sft-olmo2-7b.yaml": (ScriptArguments, SFTConfig, ModelConfig),
    "grpo-qwen2.5-7b.yaml": (GRPOScriptArguments, GRPOConfig, ModelConfig),
}
COMPLETIONS = {"sft-olmo2-7b.yaml": 64, "grpo-qwen2.5-7b.yaml": 1024}


@pytest.mark.parametrize("name", RECIPES)
def test_every_key_is_known_to_trl(name: str) -> None:
    values: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    known = {field.name: field for part in RECIPES[name] for field in dataclasses.fields(part)}
    assert not values.keys() - known.keys()
    floats = ("learning_rate", "warmup_steps", "beta", "temperature")
    assert all(isinstance(values[key], float) for key in floats if key in values)
    at_once = values["per_device_train_batch_size"] * values["gradient_accumulation_steps"]
    assert 8 * at_once == COMPLETIONS[name]


def test_there_is_no_other_recipe() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == set(RECIPES)
