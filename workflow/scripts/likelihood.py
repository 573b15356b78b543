"""Score every row of a corpus under one model."""

from pathlib import Path

from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.likelihoods.likelihood import needed_rows, select_rows, write_likelihood
from alignment_extraction.step import step

with step(snakemake.log[0]):
    rows = select_rows(
        read_corpus(Path(snakemake.input.corpus)), snakemake.params.sources, snakemake.params.limit
    )
    template = snakemake.input.get("template_of")
    write_likelihood(
        snakemake.params.served or Path(snakemake.input.model[0]),
        needed_rows(rows),
        Path(snakemake.output[0]),
        prefix=snakemake.params.prefix.settings,
        template_of=snakemake.params.template_of or (Path(template[0]) if template else None),
        scored=snakemake.params.scored,
        threads=snakemake.threads,
        gpu_layers=snakemake.params.gpu_layers,
        sha256=snakemake.params.sha256,
    )
