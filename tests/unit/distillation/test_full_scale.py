"""Recipes: their plans by hand, that they fit their schema, a training of each kind for real."""

import importlib.util
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from transformers import AutoModelForCausalLM

from alignment_extraction.cli.options import parse_settings
from alignment_extraction.distillation.recipe import Recipe, describe, load, plan
from alignment_extraction.files import InputError
from alignment_extraction.training.gguf_export import load_model, load_tokenizer
from tests.toy_training import toy_corpus, train_tokenizer_and_base

RECIPES = Path(__file__).parents[3] / "workflow/distillation"
NAMES = ("olmo2-7b", "qwen2.5-7b")
HAS_PEFT = importlib.util.find_spec("peft") is not None


def values(**changes: Any) -> dict[str, Any]:
    return {
        "method": "sft",
        "model": {"name": "x", "parameters": 1000, "layers": 2, "hidden": 8, "vocabulary": 50},
        "data": {"rows": 100, "tokens": 10},
        "optimisation": {
            "learning_rate": 1e-3,
            "epochs": 2,
            "batch_size": 8,
            "device_batch_size": 2,
            "max_tokens": 16,
        },
        "devices": {"name": "d", "number": 2, "memory": 1, "peak": 1e-6, "utilisation": 0.5},
        **changes,
    }


def test_a_plan_by_hand() -> None:
    found = plan(Recipe.model_validate(values()))
    assert (found.steps, found.tokens, found.generated) == (25, 25 * 8 * 10, 0)
    # Forward, again, backward twice; attention once, again, and twice backward.
    assert found.compute == 2000 * (8 * 1000 + 2 * 2 * 8 * 10 * 4)
    assert found.memory["optimiser"] == 12 * 1000 / 2
    assert found.memory["logits"] == 8 * 2 * 16 * 50
    assert found.hours == pytest.approx(found.compute / (2 * 1e6 * 0.5) / 3600)


def test_adapters_take_less() -> None:
    lora = {"rank": 2, "alpha": 4, "parameters": 10}
    found, whole = (
        plan(Recipe.model_validate(values(lora=lora))),
        plan(Recipe.model_validate(values())),
    )
    assert found.memory["optimiser"] == 12 * 10 / 2
    assert found.compute == whole.compute - 2000 * 2 * 1000


def test_completions_are_counted() -> None:
    changes = {
        "method": "grpo",
        "data": {"rows": 100, "tokens": 4, "completion_tokens": 6},
        "reinforcement": {"generations": 4, "max_completion_tokens": 8},
        "devices": {**values()["devices"], "generation": 100},
    }
    found = plan(Recipe.model_validate(values(**changes)))
    assert found.steps == 100 * 2 * 4 / 8
    assert (found.tokens, found.generated) == (found.steps * 8 * 10, found.steps * 8 * 6)
    without = found.compute / (2 * 1e6 * 0.5) / 3600
    assert found.hours == pytest.approx(without + found.generated / 200 / 3600)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "grpo"}, "`reinforcement` goes with method grpo"),
        ({"optimisation": {**values()["optimisation"], "batch_size": 9}}, "not a multiple"),
        ({"learning_rate": 1}, "Extra inputs"),
    ],
)
def test_a_wrong_recipe_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_settings(Recipe, values(**changes), "recipe")


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_recipes_fit_their_machines(name: str) -> None:
    path = RECIPES / f"{name}.yaml"
    text = path.read_text()
    recipe = load(path, yaml.safe_load(text))
    assert describe(recipe).splitlines()[3].endswith(": fits")
    # The line with LoRA is a comment; taken in, it is valid too.
    with_lora = text.replace("# lora:", "lora:")
    assert load(path, yaml.safe_load(with_lora)).lora is not None


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as the hub has them: a folder with a tokenizer that has a chat template."""
    folder = train_tokenizer_and_base(tmp_path_factory.mktemp("training"))
    load_model(folder / "base.gguf").save_pretrained(folder / "model")
    load_tokenizer(folder / "tokenizer.json").save_pretrained(folder / "model")
    return folder / "model"


def recipe_for(model: Path, **changes: Any) -> Recipe:
    devices = {**values()["devices"], "number": 1, "generation": 10}
    own = {**values()["model"], "name": str(model)}
    stage = {**values()["optimisation"], "batch_size": 4, "max_tokens": 64}
    given = {"model": own, "devices": devices, "optimisation": stage, **changes}
    return Recipe.model_validate(values(**given))


GRPO = {
    "method": "grpo",
    "data": {"rows": 10, "tokens": 20, "completion_tokens": 8},
    "reinforcement": {"generations": 2, "max_completion_tokens": 8},
}


@pytest.mark.parametrize("changes", [{}, GRPO], ids=["sft", "grpo"])
def test_a_recipe_trains(model: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    from alignment_extraction.distillation.full_scale import train

    rows = toy_corpus().filter(source="rl", role="member").with_columns(label=pl.lit("1"))
    train(recipe_for(model, **changes), rows, tmp_path / "student", steps=1)
    student = AutoModelForCausalLM.from_pretrained(tmp_path / "student")
    start = AutoModelForCausalLM.from_pretrained(model)
    assert student.num_parameters() == start.num_parameters()
    assert (tmp_path / "student/checkpoints").is_dir() or not changes


@pytest.mark.skipif(not HAS_PEFT, reason="needs the extra `full-scale` (peft)")
def test_adapters_are_trained_alone(model: Path, tmp_path: Path) -> None:
    from alignment_extraction.distillation.full_scale import train

    rows = toy_corpus().filter(source="rl", role="member")
    lora = {"rank": 2, "alpha": 4, "parameters": 10}
    train(recipe_for(model, lora=lora), rows, tmp_path / "student", steps=1)
    assert (tmp_path / "student/adapter_model.safetensors").exists()
    assert not (tmp_path / "student/model.safetensors").exists()


def test_a_model_without_a_chat_template_is_refused(model: Path, tmp_path: Path) -> None:
    from alignment_extraction.distillation.full_scale import train

    bare = tmp_path / "bare"
    load_tokenizer_without_template(model, bare)
    recipe = recipe_for(model)
    own = recipe.model.model_copy(update={"tokenizer": str(bare)})
    with pytest.raises(InputError, match="no chat template"):
        train(recipe.model_copy(update={"model": own}), toy_corpus(), tmp_path / "student")


def load_tokenizer_without_template(model: Path, output: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(output)
