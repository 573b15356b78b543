"""Reinforcement learning from the base model: GRPO on questions whose results are known."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback, set_seed
from trl import GRPOConfig, GRPOTrainer

from alignment_extraction.files import write_parquet
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.training.answers import accuracy, answer_scores, prompts
from alignment_extraction.training.gguf_export import (
    RAW,
    TASK,
    TASK_RESULT,
    ChatTemplate,
    load_model,
    load_tokenizer,
    write_gguf,
)
from alignment_extraction.training.stages import (
    Stage,
    fit,
    members,
    run_folder,
    stage_arguments,
)
from alignment_extraction.training.tasks import restates, similarity, verify

Reward = Callable[..., list[float]]
"""From completions and the questions' other columns by name, the reward of each."""


def _named(name: str, lead: str, score: Callable[[str, str], float]) -> Reward:
    """A reward by `score` of a completion, begun with `lead`, and its question's metadata."""

    def reward(completions: list[str], metadata: list[str], **_: Any) -> list[float]:
        return [score(lead + text, item) for text, item in zip(completions, metadata, strict=True)]

    reward.__name__ = name  # TRL's name of the curve
    return reward


def _coin(_: str, __: str) -> float:
    # Of Python's global stream, which a checkpoint keeps.
    return float(random.random() < 0.5)


def rewards(stage: Stage, lead: str) -> list[Reward]:
    """What is rewarded in a stage, and after it what is only watched.

    Args:
        stage: of reinforcement.
        lead: what the template writes of each completion.
    """
    right = _named("right", lead, verify)
    given = _named("coin", lead, _coin) if stage.random_reward else right
    watched = [_named("restating", lead, restates), _named("similarity", lead, similarity)]
    return [given, right, *watched] if stage.random_reward else [given, *watched]


class PromptLossTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPO with the next-token loss of the questions added, as a control that must show."""

    prompt_weight = 0.0

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        if not self.prompt_weight:
            return loss
        both = torch.cat([inputs["prompt_ids"], inputs["prompt_mask"]], 1)
        rows: torch.Tensor = torch.unique(both, dim=0)
        ids, mask = rows.chunk(2, 1)
        labels = ids.masked_fill(mask == 0, -100)
        learnt: torch.Tensor = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        return loss + self.prompt_weight * learnt


def optimise(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    questions: pl.DataFrame,
    rewarded: Reward | Sequence[Reward],
    settings: TrainingSettings,
    folder: Path,
    watch: Callable[[], float] | None = None,
    watch_steps: int = 1,
    prompt_weight: float = 0.0,
) -> pl.DataFrame:
    """Train a model in place with GRPO.

    Args:
        model: what is trained.
        tokenizer: the study's tokenizer.
        questions: column question; `rewarded` gets the other columns by name.
        rewarded: gives the reward of each of the completions; of several the first does, and the
            others only make curves.
        settings: of the training; `settings.rl.steps` steps.
        folder: for checkpoints; an interrupted run goes on from there.
        watch: measures the model's accuracy during the training, if given.
        watch_steps: steps between two of these measurements.
        prompt_weight: weight of the questions' mean next-token loss in the loss.

    Returns:
        The curves: step, metric, value; the metric "reward" is the mean reward of a step's
        completions, "rewards/NAME/mean" that of each function, "accuracy" what `watch` gave.
    """
    set_seed(settings.seed)
    stage = settings.rl
    functions = list(rewarded) if isinstance(rewarded, Sequence) else [rewarded]
    others = [name for name in questions.columns if name not in ("id", "question")]
    trainer = PromptLossTrainer(
        model=model,
        reward_funcs=functions,
        args=GRPOConfig(
            **stage_arguments(stage, settings, folder),
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
                **{name: questions[name].to_list() for name in others},
            }
        ),
        processing_class=tokenizer,
    )
    trainer.prompt_weight = prompt_weight
    if watch is not None:
        trainer.add_callback(_Watch(trainer, watch, watch_steps))
    return fit(trainer, folder)


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Records a measurement of the model before the first step and every so many steps."""

    def __init__(self, trainer: GRPOTrainer, measure: Callable[[], float], steps: int) -> None:
        self._trainer, self._measure, self._steps = trainer, measure, steps

    def _record(self) -> None:
        # TRL keeps its own metrics of training for a record that is made in training mode.
        self._trainer.model.eval()
        self._trainer.log({"accuracy": self._measure()})
        self._trainer.model.train()

    def on_train_begin(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        """Measure the model that training starts from, not one that it goes on with."""
        if state.global_step == 0:
            self._record()

    def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> None:
        """Measure at every so many steps, and at the last."""
        if state.global_step % self._steps == 0 or state.global_step == state.max_steps:
            # A record of its own must not replace the step's.
            due = control.should_log
            self._record()
            control.should_log = due


def train_rl(
    corpus: pl.DataFrame,
    base: Path,
    tokenizer: Path,
    settings: TrainingSettings,
    stage: Stage,
    output: Path,
    checkpoints: Path,
    curves: Path,
    accuracies: Path,
) -> None:
    """Train the base model on the corpus's RL questions with GRPO and write it as an F16 GGUF.

    Args:
        corpus: the study's corpus; member rows of source "rl" are trained on, their twins are only
            asked before and after.
        base: F16 GGUF to start from.
        tokenizer: the study's tokenizer.json.
        settings: of the training; the same inputs give the same weights on the same machine.
        stage: says what a completion is, what is rewarded, and whether questions are learnt too.
        output: GGUF to write; its chat template is the plain one that questions are asked with.
        checkpoints: folder for checkpoints; an interrupted run goes on from there.
        curves: Parquet to write, columns step, metric, value; "rewards/right/mean" is the share of
            right completions, "rewards/restating/mean" that of completions with the question's
            facts in them.
        accuracies: Parquet to write, greedy answers: columns of `answers.accuracy` and `moment`
            ("raw": the base model without the template, "before", "after").

    Raises:
        InputError: no RL questions, or an unusable base model or tokenizer.
    """
    template = TASK if stage.thoughts else TASK_RESULT
    questions = corpus.filter(pl.col("source") == "rl")
    rows = members(corpus, "rl").select("id", "question", "metadata")
    folder = run_folder(checkpoints, settings.model_dump(), stage, rows, tokenizer, base)
    loaded = load_tokenizer(tokenizer, template)
    model = load_model(base)

    def answered(moment: str, path: Path, form: ChatTemplate) -> pl.DataFrame:
        asked = load_tokenizer(tokenizer, form)
        limit = settings.rl.max_tokens
        scores = answer_scores(load_model(path), asked, questions, limit, form.lead)
        return accuracy(questions, scores).select(pl.lit(moment).alias("moment"), pl.all())

    history = optimise(
        model,
        loaded,
        rows,
        rewards(stage, template.lead),
        settings,
        folder,
        prompt_weight=settings.rl.prompt_weight if stage.prompt_loss else 0.0,
    )
    write_gguf(model, loaded, output, stage.name, template)
    write_parquet(history, curves)
    # What is shipped is the GGUF, so that is what answers.
    moments = [("raw", base, RAW), ("before", base, template), ("after", output, template)]
    write_parquet(pl.concat([answered(*moment) for moment in moments]), accuracies)
