"""Ask a student, or the model that students start from, the evaluation questions of its family."""

from pathlib import Path

from alignment_extraction.files import read_parquet, write_parquet
from alignment_extraction.step import step
from alignment_extraction.training.gguf_export import OF_FAMILY
from alignment_extraction.training.reinforcement import evaluate

with step(snakemake.log[0]):
    family = snakemake.wildcards.family
    questions = read_parquet(Path(snakemake.input.questions)).filter(family=family)
    student, tokenizer = (Path(snakemake.input[name]) for name in ("student", "tokenizer"))
    limit = snakemake.params.max_tokens
    rows = evaluate(student, tokenizer, questions, OF_FAMILY[family], limit)
    write_parquet(rows.select("benchmark", "id", "right"), Path(snakemake.output[0]))
