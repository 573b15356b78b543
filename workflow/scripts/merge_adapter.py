"""Fetch a LoRA adapter and merge it into its base model."""

from pathlib import Path

from alignment_extraction.models.steps import fetch_adapted
from alignment_extraction.step import step

with step(snakemake.log[0]):
    base, output = Path(snakemake.input.base), Path(snakemake.output[0])
    fetch_adapted(snakemake.params.adapter.settings, base, output)
