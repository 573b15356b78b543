"""Fetch a model or an embedder, and check it."""

from pathlib import Path

from alignment_extraction.models.steps import fetch_checked
from alignment_extraction.step import step

with step(snakemake.log[0]):
    fetch_checked(
        snakemake.params.source.settings,
        Path(snakemake.output[0]),
        quantisation=snakemake.params.get("quantisation"),
    )
