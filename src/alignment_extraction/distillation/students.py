"""Students: small models trained on one data set each, with equal budgets and equal seeds."""

from pathlib import Path

import polars as pl

from alignment_extraction.distillation.data_sets import COLUMNS
from alignment_extraction.distillation.questions import reward
from alignment_extraction.files import InputError, write_parquet
from alignment_extraction.settings.controlled import RlSettings, TrainingSettings
from alignment_extraction.settings.distillation import RlStudentSettings, SftStudentSettings
from alignment_extraction.training.answers import answer_scores
from alignment_extraction.training.gguf_export import load_model, load_tokenizer, write_gguf
from alignment_extraction.training.reinforcement import optimise
from alignment_extraction.training.stages import run_folder
from alignment_extraction.training.supervised import fine_tune

WATCHED = "rl.fresh-instance"
"""The benchmark whose accuracy is measured during RL."""


def conversations(data: pl.DataFrame) -> pl.DataFrame:
    """Rows of a data set as conversations that are trained on once an epoch."""
    turn = {
        role: pl.struct(pl.lit(role).alias("role"), pl.col(column).alias("content"))
        for role, column in (("user", "question"), ("assistant", "answer"))
    }
    return data.select("id", messages=pl.concat_list(turn.values()), repetitions=pl.lit(1))


def train_sft_student(
    data: pl.DataFrame,
    start: Path,
    tokenizer: Path,
    training: TrainingSettings,
    budget: SftStudentSettings,
    seed: int,
    output: Path,
    checkpoints: Path,
    curves: Path,
) -> None:
    """Train a student on conversations, loss on all tokens as the study's SFT model has it.

    Args:
        data: columns `data_sets.COLUMNS`.
        start: F16 GGUF of the base model.
        tokenizer: the study's tokenizer.json.
        training: section `train` of params.yaml.
        budget: its steps.
        seed: of the order of the conversations and of which lack the system turn.
        output: GGUF to write.
        checkpoints: folder from which an interrupted training goes on.
        curves: Parquet to write, columns step, metric, value.

    Raises:
        InputError: the data set lacks a column, or an unusable model or tokenizer.
    """
    _check(data)
    fine_tune(
        conversations(data),
        start,
        tokenizer,
        training.model_copy(update={"seed": seed}),
        "all",
        output,
        checkpoints,
        curves,
        name="student",
        steps=budget.steps,
    )


def train_rl_student(
    data: pl.DataFrame,
    benchmarks: pl.DataFrame,
    start: Path,
    tokenizer: Path,
    training: TrainingSettings,
    budget: RlStudentSettings,
    seed: int,
    output: Path,
    checkpoints: Path,
    curves: Path,
) -> None:
    """Train a student on questions with GRPO; the reward is 1 for a final answer equal to `label`.

    Args:
        data: columns `data_sets.COLUMNS`.
        benchmarks: of `data_sets.examination`; the accuracy on `WATCHED`, by verifier, is measured
            before and during the training.
        start: F16 GGUF of the SFT model.
        tokenizer: the study's tokenizer.json.
        training: section `train` of params.yaml.
        budget: its steps and completions, which replace those of `training.rl`.
        seed: of the order of the questions and of the completions.
        output: GGUF to write.
        checkpoints: folder from which an interrupted training goes on.
        curves: Parquet to write, columns step, metric, value; `reward` and `accuracy` among the
            metrics.

    Raises:
        InputError: the data set lacks a column, or an unusable model or tokenizer.
    """
    _check(data)
    own = {"steps": budget.steps, "batch_size": budget.batch_size, "log_steps": 1}
    stage = RlSettings.model_validate(training.rl.model_dump() | own)
    settings = training.model_copy(update={"seed": seed, "rl": stage})
    rows = data.select("id", "question", "label")
    watched = benchmarks.filter(benchmark=WATCHED)
    steps = budget.accuracy_steps
    folder = run_folder(checkpoints, settings.model_dump(), steps, rows, watched, tokenizer, start)
    model, loaded = load_model(start), load_tokenizer(tokenizer)

    def accuracy() -> float:
        scores = answer_scores(model, loaded, watched, settings.rl.max_tokens)
        return sum(score >= 1 for score in scores) / max(1, len(scores))

    loaded.padding_side = "left"
    history = optimise(
        model, loaded, rows, reward, settings, folder, accuracy if watched.height else None, steps
    )
    write_gguf(model, loaded, output, "student")
    write_parquet(history, curves)


def _check(data: pl.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in data.columns]
    if missing:
        raise InputError(
            f"the data set lacks the columns {', '.join(missing)}; make it with distillation-data"
        )
