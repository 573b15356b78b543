"""Train one student on one data set."""

from pathlib import Path

from alignment_extraction.distillation.students import train_student
from alignment_extraction.files import read_parquet
from alignment_extraction.step import step
from alignment_extraction.training.fitting import Run

with step(snakemake.log[0]):
    own, params = snakemake.wildcards, snakemake.params
    run = Run(
        params.train.settings,
        tokenizer=Path(snakemake.input.tokenizer),
        start=Path(snakemake.input.start),
        output=Path(snakemake.output.model),
        checkpoints=Path(params.checkpoints),
    )
    data = read_parquet(Path(snakemake.input.data)).filter(family=own.family, arm=own.arm)
    train_student(data, run, params.budget.settings, int(own.student_seed))
