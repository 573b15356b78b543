"""Train one student on one data set."""

from pathlib import Path

from alignment_extraction.distillation.students import train_student
from alignment_extraction.files import read_parquet
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.settings.distillation import RlStudentSettings, SftStudentSettings


def main(snakemake):
    own, params = snakemake.wildcards, snakemake.params
    budget = RlStudentSettings if own.family == "rl" else SftStudentSettings
    train_student(
        read_parquet(Path(snakemake.input.data)).filter(family=own.family, arm=own.arm),
        Path(snakemake.input.start),
        Path(snakemake.input.tokenizer),
        TrainingSettings.model_validate(params.train),
        budget.model_validate(params.budget),
        int(own.student_seed),
        Path(snakemake.output.model),
        Path(params.checkpoints),
        Path(snakemake.output.curves),
    )


main(snakemake)  # noqa: F821
