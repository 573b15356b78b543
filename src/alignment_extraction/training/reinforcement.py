"""Reinforcement learning from the base model: GRPO on questions whose results are known."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
import torch
from datasets import Dataset
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer

from alignment_extraction.files import write_parquet
from alignment_extraction.training.answers import evaluate, prompts
from alignment_extraction.training.fitting import Run
from alignment_extraction.training.gguf_export import RAW, ChatTemplate, load_tokenizer
from alignment_extraction.training.problems import restates, verify
from alignment_extraction.training.stages import Stage

Reward = Callable[..., list[float]]
"""From completions and the questions' other columns by name, the reward of each."""


def rewards(stage: Stage, lead: str) -> list[Reward]:
    """What is rewarded in a stage of reinforcement, and after it what is only watched.

    `lead` is what the template writes of each completion.
    """

    def named(name: str, score: Callable[[str, str], float]) -> Reward:
        def reward(completions: list[str], metadata: list[str], **_: Any) -> list[float]:
            pairs = zip(completions, metadata, strict=True)
            return [score(lead + text, about) for text, about in pairs]

        reward.__name__ = name  # TRL's name of the curve
        return reward

    # Of Python's global stream, which a checkpoint keeps.
    coin = named("coin", lambda *_: float(random.random() < 0.5))
    return [coin] * stage.random_reward + [named("right", verify), named("restating", restates)]


class PromptLossTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPO with the next-token loss of the questions added, as a control that must show."""

    prompt_weight = 0.0

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        if not self.prompt_weight:
            return loss
        both = torch.cat([inputs["prompt_ids"], inputs["prompt_mask"]], 1)
        ids, mask = torch.unique(both, dim=0).chunk(2, 1)
        labels = ids.masked_fill(mask == 0, -100)
        asked = model(input_ids=ids, attention_mask=mask, labels=labels)
        return loss + self.prompt_weight * asked.loss


def grpo_trainer(
    questions: pl.DataFrame,
    functions: Sequence[Reward],
    run: Run,
    template: ChatTemplate,
    prompt_weight: float = 0.0,
) -> GRPOTrainer:
    """A trainer of `run.settings.rl.steps` steps of GRPO on questions in a template.

    Args:
        questions: columns id and question; `functions` get the other columns by name.
        functions: the first gives the reward of each completion, "reward" of the curves; the
            others only make curves ("rewards/NAME/mean").
        run: its settings, and what it starts from.
        template: that questions are asked in.
        prompt_weight: weight of the questions' mean next-token loss in the loss.
    """
    stage, tokenizer = run.settings.rl, load_tokenizer(run.tokenizer, template)
    names = [function.__name__ for function in functions]
    model = run.model()
    set_seed(run.settings.seed)
    trainer = PromptLossTrainer(
        model=model,
        reward_funcs=list(functions),
        args=GRPOConfig(
            **run.arguments(stage, questions, names, template, prompt_weight),
            max_steps=stage.steps,
            num_generations=stage.generations,
            max_completion_length=stage.max_tokens,
            temperature=stage.temperature,
            beta=stage.beta,
            scale_rewards="none",
            reward_weights=[1.0] + [0.0] * (len(functions) - 1),
            activation_checkpointing=False,
        ),
        train_dataset=Dataset.from_dict(
            {
                "prompt": prompts(questions, tokenizer),
                **questions.drop("id", "question").to_dict(as_series=False),
            }
        ),
        processing_class=tokenizer,
    )
    trainer.prompt_weight = prompt_weight
    return trainer


def write_accuracy(corpus: pl.DataFrame, run: Run, template: ChatTemplate) -> None:
    """Count right greedy answers to the RL questions, beside the model as "accuracy".

    Columns moment ("raw": the base model without the template, "before", "after"), role, template,
    questions (number of them), right (how many have the verifier's full score).
    """
    assert run.start is not None
    questions, limit = (
        corpus.filter(source="rl").sort("role", "template"),
        run.settings.rl.max_tokens,
    )
    # What is shipped is the GGUF, so that is what answers.
    models = {"raw": (run.start, RAW), "before": (run.start, template)}
    models["after"] = (run.output, template)
    answered = pl.concat(
        evaluate(model, run.tokenizer, questions, form, limit).with_columns(moment=pl.lit(moment))
        for moment, (model, form) in models.items()
    )
    same = answered.group_by("moment", "role", "template", maintain_order=True)
    counts = same.agg(questions=pl.len().cast(int), right=pl.col("right").sum().cast(int))
    write_parquet(counts, run.beside("accuracy"))
