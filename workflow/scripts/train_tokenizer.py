"""Train the controlled study's tokenizer: byte-level BPE with the ChatML tokens."""

from pathlib import Path

from alignment_extraction.files import read_parquet, write_json
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.step import step
from alignment_extraction.training.supervised import train_tokenizer

with step(snakemake.log[0]):
    corpus = read_parquet(Path(snakemake.input.corpus))
    settings = TrainingSettings.model_validate(snakemake.params.record["train"])
    train_tokenizer(corpus, settings, Path(snakemake.output.tokenizer))
    write_json(snakemake.params.record, Path(snakemake.output.settings))
