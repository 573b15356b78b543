"""Write a study's report, its numbers and its cards."""

from pathlib import Path

from alignment_extraction.report.study import write_report
from alignment_extraction.step import step

with step(snakemake.log[0]):
    write_report(
        snakemake.wildcards.study,
        snakemake.params.study.settings,
        Path(snakemake.output.page).parent,
        audits=[Path(file) for file in snakemake.input.audits],
        statistics=Path(snakemake.input.statistics),
        shards={c: Path(file) for c, file in snakemake.params.shards.items()},
    )
