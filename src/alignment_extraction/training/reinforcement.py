"""Reinforcement learning: GRPO on questions whose answers reasoning-gym's verifiers check."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from datasets import Dataset
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback, set_seed
from trl import GRPOConfig, GRPOTrainer

from alignment_extraction.files import write_parquet
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.training.answers import accuracy, prompts
from alignment_extraction.training.gguf_export import load_model, load_tokenizer, write_gguf
from alignment_extraction.training.stages import fit, members, run_folder, stage_arguments
from alignment_extraction.training.tasks import verify


def reward(completions: list[str], metadata: list[str], **_: Any) -> list[float]:
    """Score completions as GRPOTrainer wants it.

    Args:
        completions: what the model wrote.
        metadata: the `metadata` of each one's question.

    Returns:
        The verifier's score of each, 0.0 to 1.0 (see `tasks.verify`).
    """
    return [verify(text, item) for text, item in zip(completions, metadata, strict=True)]


def optimise(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    questions: pl.DataFrame,
    rewarded: Callable[..., list[float]],
    settings: TrainingSettings,
    folder: Path,
    watch: Callable[[], float] | None = None,
    watch_steps: int = 1,
) -> pl.DataFrame:
    """Train a model in place with GRPO.

    Args:
        model: what is trained.
        tokenizer: the study's tokenizer.
        questions: column question; `rewarded` gets the other columns by name.
        rewarded: gives the reward of each of the completions.
        settings: of the training; `settings.rl.steps` steps.
        folder: for checkpoints; an interrupted run goes on from there.
        watch: measures the model's accuracy during the training, if given.
        watch_steps: steps between two of these measurements.

    Returns:
        The curves: step, metric, value; the metric "reward" is the mean reward of a step's
        completions, "accuracy" what `watch` gave.
    """
    set_seed(settings.seed)
    stage = settings.rl
    others = [name for name in questions.columns if name not in ("id", "question")]
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=rewarded,
        args=GRPOConfig(
            **stage_arguments(stage, settings, folder),
            max_steps=stage.steps,
            num_generations=stage.generations,
            max_completion_length=stage.max_tokens,
            temperature=stage.temperature,
            beta=stage.beta,
            scale_rewards="none",
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
            # A record of its own must not take the place of the step's.
            due = control.should_log
            self._record()
            control.should_log = due


def train_rl(
    corpus: pl.DataFrame,
    sft: Path,
    tokenizer: Path,
    settings: TrainingSettings,
    output: Path,
    checkpoints: Path,
    curves: Path,
    accuracies: Path,
) -> None:
    """Train the SFT model on the corpus's RL questions with GRPO and write it as an F16 GGUF.

    The reward is the verifier's score of the final answer. Questions are asked with the chat
    template's default system turn.

    Args:
        corpus: the study's corpus; member rows of source "rl" are trained on, the other rows of
            that source are only asked before and after.
        sft: F16 GGUF to start from.
        tokenizer: the study's tokenizer.json.
        settings: of the training; the same inputs give the same weights on the same machine.
        output: GGUF to write.
        checkpoints: folder for checkpoints; an interrupted run goes on from there.
        curves: Parquet to write, columns step, metric, value; the metric "reward" is the mean
            reward of a step's completions.
        accuracies: Parquet to write, columns of `accuracy` and `moment` ("before" or "after").

    Raises:
        InputError: no RL questions, or an unusable SFT model or tokenizer.
    """
    questions = corpus.filter(pl.col("source") == "rl")
    rows = members(corpus, "rl").select("id", "question", "metadata")
    folder = run_folder(checkpoints, settings.model_dump(), rows, tokenizer, sft)
    loaded = load_tokenizer(tokenizer)
    model = load_model(sft)
    stage = settings.rl
    before = accuracy(model, loaded, questions, stage.max_tokens)
    history = optimise(model, loaded, rows, reward, settings, folder)
    write_gguf(model, loaded, output, "rl")
    write_parquet(history, curves)
    # What is shipped is the GGUF, so that is what answers.
    after = accuracy(load_model(output), loaded, questions, stage.max_tokens)
    write_parquet(
        pl.concat(
            [
                before.select(pl.lit("before").alias("moment"), pl.all()),
                after.select(pl.lit("after").alias("moment"), pl.all()),
            ]
        ),
        accuracies,
    )
