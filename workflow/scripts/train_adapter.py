"""Train a LoRA adapter on a model's own conversations, from the last checkpoint if there is one."""

from pathlib import Path

from alignment_extraction.files import read_parquet
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.step import step
from alignment_extraction.training.adapter import train_adapter

with step(snakemake.log[0]):
    seed, bf16 = snakemake.params.training.settings
    train_adapter(
        read_parquet(Path(snakemake.input.corpus)),
        Path(snakemake.input.model),
        snakemake.params.settings.settings,
        TrainingSettings(seed=seed, bf16=bf16),
        Path(snakemake.output.adapter),
        Path("build/checkpoints/adapter"),
        Path(snakemake.output.curves),
    )
