"""Quantise a trained model with llama.cpp."""

from pathlib import Path

from alignment_extraction.engine.quantisation import quantise
from alignment_extraction.step import step

with step(snakemake.log[0]):
    quantise(Path(snakemake.input[0]), Path(snakemake.output[0]), snakemake.params.kind)
