"""Train one stage of the controlled study, from its last checkpoint if there is one."""

from pathlib import Path

from alignment_extraction.files import read_parquet, write_json
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.step import step
from alignment_extraction.training.stages import train

with step(snakemake.log[0]):
    stage, model = snakemake.wildcards.stage, Path(snakemake.output.model)
    train(
        stage,
        read_parquet(Path(snakemake.input.corpus)),
        model.parent,
        TrainingSettings.model_validate(snakemake.params.record["train"]),
        Path("build/checkpoints") / stage,
    )
    write_json(snakemake.params.record, Path(snakemake.output.settings))
