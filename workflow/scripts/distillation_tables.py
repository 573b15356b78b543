"""Hold the students against each other: the tables of the experiment."""

from pathlib import Path

from alignment_extraction.distillation import results
from alignment_extraction.files import read_parquet, write_parquet
from alignment_extraction.step import step

with step(snakemake.log[0]):
    params = snakemake.params
    named = {results.Student(*about): name for *about, name in params.students}
    evaluated = {s: read_parquet(Path(f"{n}-evaluation.parquet")) for s, n in named.items()}
    curves = {
        student: read_parquet(Path(f"{name}-curves.parquet"))
        for student, name in named.items()
        if student.arm != "start"
    }
    tables = (
        results.results_table(evaluated, params.margin, params.seed),
        results.curve_table(curves),
        read_parquet(Path(snakemake.input.counts)),
    )
    for path, table in zip(snakemake.output, tables, strict=True):
        write_parquet(table, Path(path))
