"""Hold the students against each other: the tables of the experiment."""

from pathlib import Path

from alignment_extraction.distillation import results
from alignment_extraction.files import read_parquet, write_parquet


def main(snakemake):
    params = snakemake.params
    named = [
        (results.Student(item["family"], item["arm"], item["seed"]), item)
        for item in params.students
    ]
    evaluated = {student: read_parquet(Path(item["evaluation"])) for student, item in named}
    curves = {
        student: read_parquet(Path(item["curves"]))
        for student, item in named
        if student.arm != "start"
    }
    tables = (
        results.results_table(evaluated, params.margin, params.seed),
        results.curve_table(curves),
        read_parquet(Path(snakemake.input.counts)),
    )
    for path, table in zip(snakemake.output, tables, strict=True):
        write_parquet(table, Path(path))


main(snakemake)  # noqa: F821
