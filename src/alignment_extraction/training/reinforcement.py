"""Reinforcement learning from the base model: GRPO on questions with a verifier, and answers."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, set_seed
from trl import GRPOConfig, GRPOTrainer

from alignment_extraction.files import write_parquet
from alignment_extraction.training.fitting import Run
from alignment_extraction.training.gguf_export import RAW, ChatTemplate, load_model, load_tokenizer
from alignment_extraction.training.problems import restates, verify
from alignment_extraction.training.stages import Stage

_BATCH = 64  # questions that are answered together
Reward = Callable[..., list[float]]
"""From completions and the questions' other columns by name, the reward of each."""


def rewards(stage: Stage, lead: str) -> list[Reward]:
    """What is rewarded in a stage, then what is only watched; the template writes each `lead`."""

    def named(name: str, score: Callable[[str, str], float]) -> Reward:
        def reward(completions: list[str], metadata: list[str], **_: Any) -> list[float]:
            pairs = zip(completions, metadata, strict=True)
            return [score(lead + text, about) for text, about in pairs]

        reward.__name__ = name  # TRL's name of the curve
        return reward

    # Of Python's global stream, which a checkpoint keeps.
    coin = named("coin", lambda *_: float(random.random() < 0.5))
    return [coin] * stage.random_reward + [named("right", verify), named("restating", restates)]


def prompts(rows: pl.DataFrame, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Each question in the tokenizer's chat template, up to the assistant's words."""
    turns = [[{"role": "user", "content": question}] for question in rows["question"]]
    asked: list[str] = tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    return asked


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
        asked: torch.Tensor = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        return loss + self.prompt_weight * asked


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


def evaluate(
    student: Path, tokenizer: Path, questions: pl.DataFrame, template: ChatTemplate, limit: int
) -> pl.DataFrame:
    """Ask a model, an F16 GGUF of the workflow, questions: columns question and metadata.

    Returns:
        The questions with the column right: 1.0 where the greedy answer of at most `limit` tokens,
        begun with the template's lead, has the verifier's full score, else 0.0.

    Raises:
        InputError: an unusable model.
    """
    model, loaded = load_model(student).eval(), load_tokenizer(tokenizer, template)
    loaded.padding_side = "left"
    right: list[bool] = []
    for batch in tqdm(list(questions.iter_slices(_BATCH)), "answering", unit="batch"):
        inputs = loaded(prompts(batch, loaded), return_tensors="pt", padding=True)
        with torch.no_grad():
            ids = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=limit,
                do_sample=False,
                eos_token_id=loaded.eos_token_id,
                pad_token_id=loaded.pad_token_id,
            )
        written = ids[:, inputs["input_ids"].shape[1] :]
        answers = loaded.batch_decode(written, skip_special_tokens=True)
        pairs = zip(answers, batch["metadata"], strict=True)
        right += [verify(template.lead + answer, about) >= 1 for answer, about in pairs]
    return questions.with_columns(right=pl.Series(right, dtype=pl.Boolean).cast(pl.Float64))


def write_accuracy(corpus: pl.DataFrame, run: Run, template: ChatTemplate) -> None:
    """Count right greedy answers to a corpus's questions, beside the model as "accuracy".

    Columns moment ("raw": the base model without the template, "before", "after"), role, template,
    questions (number of them), right (how many have the verifier's full score).
    """
    assert run.start is not None
    questions = corpus.sort("role", "template")
    limit = run.settings.rl.max_tokens
    # What is shipped is the GGUF, so that is what answers.
    before, after = (run.start, template), (run.output, template)
    models = {"raw": (run.start, RAW), "before": before, "after": after}
    answered = pl.concat(
        evaluate(model, run.tokenizer, questions, form, limit).with_columns(moment=pl.lit(moment))
        for moment, (model, form) in models.items()
    )
    same = answered.group_by("moment", "role", "template", maintain_order=True)
    counts = same.agg(questions=pl.len().cast(int), right=pl.col("right").sum().cast(int))
    write_parquet(counts, run.beside("accuracy"))
