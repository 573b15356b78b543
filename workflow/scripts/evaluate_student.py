"""Ask a student the evaluation questions of its family."""

from pathlib import Path

from alignment_extraction.distillation.evaluation import evaluate
from alignment_extraction.files import read_parquet, write_parquet


def main(snakemake):
    files, family = snakemake.input, snakemake.wildcards.family
    questions = read_parquet(Path(files.questions)).filter(family=family)
    limit = snakemake.params.max_tokens
    rows = evaluate(Path(files.student), Path(files.tokenizer), questions, family, limit)
    write_parquet(rows, Path(snakemake.output[0]))


main(snakemake)  # noqa: F821
