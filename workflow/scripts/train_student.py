"""Train one student on one data set, and ask it the evaluation questions of its family."""

from pathlib import Path

from alignment_extraction.distillation.students import train_student
from alignment_extraction.files import read_parquet, write_parquet
from alignment_extraction.step import step
from alignment_extraction.training.answers import evaluate
from alignment_extraction.training.fitting import Run
from alignment_extraction.training.gguf_export import OF_FAMILY

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
    questions = read_parquet(Path(snakemake.input.questions)).filter(family=own.family)
    template = OF_FAMILY[own.family]
    rows = evaluate(run.output, run.tokenizer, questions, template, params.max_tokens)
    write_parquet(rows, Path(snakemake.output.evaluation))
