"""Log a study to MLflow; what is there already is not logged again."""

from pathlib import Path

from alignment_extraction.layout import condition_folder
from alignment_extraction.step import step
from alignment_extraction.tracking.record import track

with step(snakemake.log[0]):
    track(
        snakemake.wildcards.study,
        snakemake.params.study.settings,
        Path(snakemake.input.metrics).parent,
        {
            "corpus": Path(snakemake.input.corpus),
            **{
                f"{condition_folder(condition)}/{Path(file).stem}": Path(file)
                for condition, files in snakemake.params.shards.items()
                for file in files
            },
        },
        Path(snakemake.output[0]),
        curves={
            Path(file).stem.removesuffix("-curves"): Path(file) for file in snakemake.input.curves
        },
    )
