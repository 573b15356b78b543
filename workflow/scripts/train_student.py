"""Train one student on one data set and ask it the evaluation questions of its family."""

from pathlib import Path

from alignment_extraction.distillation.evaluation import evaluate
from alignment_extraction.distillation.students import train_student
from alignment_extraction.files import read_parquet, write_parquet
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.settings.distillation import RlStudentSettings, SftStudentSettings


def main(snakemake):
    files, own, params = snakemake.input, snakemake.wildcards, snakemake.params
    budget = RlStudentSettings if own.family == "rl" else SftStudentSettings
    model, tokenizer = Path(snakemake.output.model), Path(files.tokenizer)
    train_student(
        read_parquet(Path(files.data)).filter(family=own.family, arm=own.arm),
        Path(files.start),
        tokenizer,
        TrainingSettings.model_validate(params.train),
        budget.model_validate(params.budget),
        int(own.student_seed),
        model,
        Path(params.checkpoints),
        Path(snakemake.output.curves),
    )
    questions = read_parquet(Path(files.questions)).filter(family=own.family)
    rows = evaluate(model, tokenizer, questions, own.family, params.max_tokens)
    write_parquet(rows, Path(snakemake.output.evaluation))


main(snakemake)  # noqa: F821
