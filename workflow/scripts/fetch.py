"""Fetch a model or an embedder, and check it."""

from pathlib import Path

from alignment_extraction import sources
from alignment_extraction.step import step

with step(snakemake.log[0]):
    sources.fetch_checked(snakemake.params.source, Path(snakemake.output[0]))
