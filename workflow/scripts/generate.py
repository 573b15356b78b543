"""Sample one shard of generations."""

from pathlib import Path

from alignment_extraction.generations.generation import write_shard
from alignment_extraction.step import step

with step(snakemake.log[0]):
    first, samples = snakemake.params.size
    write_shard(
        snakemake.params.served or Path(snakemake.input.model[0]),
        Path(snakemake.output[0]),
        prefix=snakemake.params.prefix.settings,
        sampling=snakemake.params.sampling.settings,
        seed=int(snakemake.wildcards.seed),
        first=first,
        samples=samples,
        threads=snakemake.threads,
        gpu_layers=snakemake.params.gpu_layers,
        sha256=snakemake.params.sha256,
    )
