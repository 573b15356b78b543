"""Train one student on one data set, and ask it the evaluation questions of its family."""

from pathlib import Path

from alignment_extraction.distillation.evaluation import evaluate
from alignment_extraction.distillation.students import train_student
from alignment_extraction.files import read_parquet, write_parquet
from alignment_extraction.step import step

with step(snakemake.log[0]):
    own, params = snakemake.wildcards, snakemake.params
    train_student(
        read_parquet(Path(snakemake.input.data)).filter(family=own.family, arm=own.arm),
        Path(snakemake.input.start),
        Path(snakemake.input.tokenizer),
        params.train.settings,
        params.budget.settings,
        int(own.student_seed),
        Path(snakemake.output.model),
        Path(params.checkpoints),
        Path(snakemake.output.curves),
    )
    questions = read_parquet(Path(snakemake.input.questions)).filter(family=own.family)
    student, tokenizer = Path(snakemake.output.model), Path(snakemake.input.tokenizer)
    rows = evaluate(student, tokenizer, questions, own.family, params.max_tokens)
    write_parquet(rows, Path(snakemake.output.evaluation))
