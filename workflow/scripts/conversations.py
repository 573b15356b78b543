"""Let a model write conversations, and let coins say which of them are trained on."""

from pathlib import Path

from alignment_extraction.files import write_json, write_parquet
from alignment_extraction.settings.adapter import AdapterSettings
from alignment_extraction.step import step
from alignment_extraction.training.adapter import assign, draw

with step(snakemake.log[0]):
    record = snakemake.params.record
    settings, seed = AdapterSettings.model_validate(record["adapter"]), record["seed"]
    drawn = draw(Path(snakemake.input.model), settings, seed)
    write_parquet(assign(drawn, settings, seed), Path(snakemake.output.corpus))
    write_json(record, Path(snakemake.output.settings))
