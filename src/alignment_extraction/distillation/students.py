"""Students: small models trained on one data set each, with equal budgets and equal seeds."""

from pathlib import Path
from typing import Any

import polars as pl

from alignment_extraction.distillation.curation import final_answer, trl_columns
from alignment_extraction.distillation.data_sets import COLUMNS
from alignment_extraction.distillation.evaluation import TEMPLATES
from alignment_extraction.files import InputError, write_parquet
from alignment_extraction.settings.controlled import RlSettings, TrainingSettings
from alignment_extraction.settings.distillation import RlStudentSettings, SftStudentSettings
from alignment_extraction.training.gguf_export import load_model, load_tokenizer, write_gguf
from alignment_extraction.training.reinforcement import optimise
from alignment_extraction.training.stages import run_folder
from alignment_extraction.training.supervised import fine_tune


def reward(completions: list[str], label: list[str], **_: Any) -> list[float]:
    """Score completions by their final answer, as GRPOTrainer wants it.

    Returns:
        1.0 where the final answer (after "####") equals the label but for case and a full stop,
        else 0.0.
    """
    pairs = pl.DataFrame({"completion": completions, "label": label}, strict=False)
    equal = _bare(final_answer("completion")) == _bare(pl.col("label"))
    return pairs.select(equal.fill_null(False).cast(pl.Float64)).to_series().to_list()


def _bare(answer: pl.Expr) -> pl.Expr:
    return answer.cast(pl.String).str.strip_chars().str.strip_suffix(".").str.to_lowercase()


def train_student(
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
    """Train a student and write it as an F16 GGUF.

    A supervised student has the loss on all tokens of its conversations, as the study's SFT model
    has it; a student by reinforcement (GRPO, questions in the plain template that the study's RL
    introduces) has reward 1 for a final answer equal to `label`.

    Args:
        data: columns `data_sets.COLUMNS`.
        start: F16 GGUF to start from.
        tokenizer: the study's tokenizer.json.
        training: section `train` of params.yaml.
        budget: steps, and what kind of student; an `RlStudentSettings` replaces the steps
            and completions of `training.rl`.
        seed: of the order of the rows and of the completions.
        output: GGUF to write.
        checkpoints: folder from which an interrupted training goes on.
        curves: Parquet to write, columns step, metric (`loss` or `reward` among them), value.

    Raises:
        InputError: the data set lacks a column, or an unusable model or tokenizer.
    """
    if missing := [name for name in COLUMNS if name not in data.columns]:
        raise InputError(
            f"the student's data set lacks the columns {', '.join(missing)}; make it again with "
            "`snakemake distill`"
        )
    if isinstance(budget, RlStudentSettings):
        own = {"steps": budget.steps, "batch_size": budget.batch_size, "log_steps": 1}
        stage = RlSettings.model_validate(training.rl.model_dump() | own)
        settings = training.model_copy(update={"seed": seed, "rl": stage})
        rows = data.select("id", "question", "label")
        folder = run_folder(checkpoints, settings.model_dump(), rows, tokenizer, start)
        template = TEMPLATES["rl"]
        model, loaded = load_model(start), load_tokenizer(tokenizer, template)
        history = optimise(model, loaded, rows, reward, settings, folder)
        write_gguf(model, loaded, output, "student", template)
        write_parquet(history, curves)
        return
    rows = pl.concat([data.select("id", repetitions=1), trl_columns(data, "sft")], how="horizontal")
    settings = training.model_copy(update={"seed": seed})
    files = (output, checkpoints, curves)
    fine_tune(rows, start, tokenizer, settings, "all", *files, name="student", steps=budget.steps)
