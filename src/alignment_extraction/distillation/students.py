"""Students: small models trained on one data set each, with equal budgets and equal seeds."""

import polars as pl

from alignment_extraction.distillation.curation import trl_columns
from alignment_extraction.settings.controlled import RlSettings
from alignment_extraction.settings.distillation import RlStudentSettings, SftStudentSettings
from alignment_extraction.training.fitting import Run
from alignment_extraction.training.gguf_export import CHATML, TASK
from alignment_extraction.training.reinforcement import grpo_trainer, rewards
from alignment_extraction.training.stages import STAGES
from alignment_extraction.training.supervised import conversation_trainer


def train_student(data: pl.DataFrame, run: Run, budget: SftStudentSettings, seed: int) -> None:
    """Train a student and write it as an F16 GGUF.

    A supervised student has the loss on all tokens of its conversations, as the study's SFT model
    has it; a student by reinforcement (GRPO, in the plain template that the study's RL introduces)
    has reward 1 for a final answer equal to `label`.

    Args:
        data: columns `data_sets.COLUMNS`.
        run: its settings are section `train`.
        budget: what kind of student; its steps and completions replace those of `train.rl`.
        seed: of the order of the rows and of the completions; replaces `train.seed`.
    """
    train = run.settings.model_copy(update={"seed": seed})
    if isinstance(budget, RlStudentSettings):
        own = {"steps": budget.steps, "batch_size": budget.batch_size, "log_steps": 1}
        stage = RlSettings.model_validate(train.rl.model_dump() | own)
        run = run._replace(settings=train.model_copy(update={"rl": stage}))
        metadata = pl.struct(result="label").struct.json_encode()
        rows = data.select("id", "question", metadata=metadata)
        right = rewards(STAGES["rl"], TASK.lead)[0]
        run.finish(grpo_trainer(rows, [right], run, TASK), "student", TASK)
    else:
        run = run._replace(settings=train)
        turns = trl_columns(data, "sft")
        rows = pl.concat([data.select("id", repetitions=1), turns], how="horizontal")
        run.finish(conversation_trainer(rows, run, "all", budget.steps), "student", CHATML)
