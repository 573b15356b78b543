"""Train a LoRA adapter on a model's own conversations, from the last checkpoint if there is one."""

from pathlib import Path

from alignment_extraction.files import read_parquet, write_json
from alignment_extraction.settings.adapter import AdapterSettings
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.step import step
from alignment_extraction.training.adapter import train_adapter

with step(snakemake.log[0]):
    record = snakemake.params.record
    train_adapter(
        read_parquet(Path(snakemake.input.corpus)),
        Path(snakemake.input.model),
        AdapterSettings.model_validate(record["adapter"]),
        TrainingSettings(seed=record["seed"], bf16=record["bf16"]),
        Path(snakemake.output.adapter),
        Path("build/checkpoints/adapter"),
    )
    write_json(record, Path(snakemake.output.settings))
