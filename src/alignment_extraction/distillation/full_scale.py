"""Training of a recipe with TRL: any causal model of the hub, all weights or LoRA, many devices.

Started by `accelerate launch`, with one of the configurations in workflow/distillation, it runs on
all devices that the configuration names; started plainly, on one.
"""

from pathlib import Path
from typing import Any

import polars as pl
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from alignment_extraction.distillation.questions import reward
from alignment_extraction.distillation.recipe import Recipe
from alignment_extraction.files import InputError


def _adapters(recipe: Recipe) -> Any:
    if recipe.lora is None:
        return None
    try:
        from peft import LoraConfig
    except ImportError:
        raise InputError(
            "the recipe asks for LoRA, which needs the package peft: pip install '.[full-scale]'"
        ) from None
    return LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=list(recipe.lora.targets),
        task_type="CAUSAL_LM",
    )


def _arguments(recipe: Recipe, output: Path, steps: int | None) -> dict[str, Any]:
    stage = recipe.optimisation
    return {
        "output_dir": str(output / "checkpoints"),
        "per_device_train_batch_size": stage.device_batch_size,
        "gradient_accumulation_steps": recipe.accumulation,
        "learning_rate": stage.learning_rate,
        "lr_scheduler_type": stage.scheduler,
        "warmup_steps": stage.warmup,
        "weight_decay": stage.weight_decay,
        "num_train_epochs": stage.epochs,
        "max_steps": -1 if steps is None else steps,
        "activation_checkpointing": recipe.checkpointing,
        "bf16": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
        "seed": recipe.seed,
        "save_steps": recipe.save_steps,
        "save_total_limit": 2,
        "logging_steps": 1,
        "report_to": "none",
    }


def train(recipe: Recipe, data: pl.DataFrame, output: Path, steps: int | None = None) -> None:
    """Train the recipe's model and save it, with its tokenizer, in `output`.

    Args:
        recipe: what to train and how.
        data: question and, for SFT, answer; for GRPO label, the answer that counts as right after
            "####".
        output: folder for the model; `checkpoints` in it is where an interrupted training goes on.
        steps: optimiser steps; by default those of the recipe's epochs.

    Raises:
        InputError: a column is missing, the tokenizer has no chat template, or peft is.
    """
    needed = ("question", "answer" if recipe.method == "sft" else "label")
    missing = [name for name in needed if name not in data.columns]
    if missing:
        raise InputError(f"the data lack the columns {', '.join(missing)}; make them with `curate`")
    name, revision = recipe.model.name, recipe.model.revision
    source = recipe.model.tokenizer
    tokenizer = AutoTokenizer.from_pretrained(source or name, revision=None if source else revision)
    if tokenizer.chat_template is None:
        raise InputError(
            f"{source or name}: its tokenizer has no chat template; name one that has in "
            "model.tokenizer"
        )
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    set_seed(recipe.seed)
    model = AutoModelForCausalLM.from_pretrained(name, revision=revision, dtype=dtype)
    arguments = _arguments(recipe, output, steps)
    make = _sft if recipe.method == "sft" else _grpo
    trainer = make(recipe, model, tokenizer, data, arguments)
    folder = output / "checkpoints"
    trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")))
    trainer.save_model(str(output))


def _sft(
    recipe: Recipe, model: Any, tokenizer: Any, data: pl.DataFrame, arguments: dict[str, Any]
) -> SFTTrainer:
    turns = [
        {
            "prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": answer}],
        }
        for question, answer in data.select("question", "answer").iter_rows()
    ]
    return SFTTrainer(
        model=model,
        args=SFTConfig(**arguments, max_length=recipe.optimisation.max_tokens),
        train_dataset=Dataset.from_list(turns),
        processing_class=tokenizer,
        peft_config=_adapters(recipe),
    )


def _grpo(
    recipe: Recipe, model: Any, tokenizer: Any, data: pl.DataFrame, arguments: dict[str, Any]
) -> GRPOTrainer:
    assert recipe.reinforcement is not None  # the schema sees to it
    rows = [
        {"prompt": [{"role": "user", "content": question}], "label": label}
        for question, label in data.select("question", "label").iter_rows()
    ]
    return GRPOTrainer(
        model=model,
        reward_funcs=_conversational_reward,
        args=GRPOConfig(
            **arguments,
            num_generations=recipe.reinforcement.generations,
            max_completion_length=recipe.reinforcement.max_completion_tokens,
            temperature=recipe.reinforcement.temperature,
            beta=recipe.reinforcement.beta,
            loss_type="dr_grpo",
            scale_rewards="none",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=_adapters(recipe),
    )


def _conversational_reward(
    completions: list[list[dict[str, str]]], label: list[str], **_: object
) -> list[float]:
    """`questions.reward` for completions that are messages."""
    return reward([turns[0]["content"] for turns in completions], label)
