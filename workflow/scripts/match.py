"""Find the nearest rows of everything that one model wrote."""

from pathlib import Path

from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.files import write_json, write_parquet
from alignment_extraction.generations.shards import read_shards
from alignment_extraction.search.matching import match
from alignment_extraction.step import step

with step(snakemake.log[0]):
    searched = snakemake.params.searched
    matches, audit = match(
        read_shards(snakemake.input.generations),
        read_corpus(Path(snakemake.input.corpus)),
        generation_vectors={field: Path(file) for field, file in searched["generations"].items()},
        corpus_vectors={field: Path(file) for field, file in searched["corpus"].items()},
        indexes={key: file and Path(file) for key, file in searched["indexes"].items()},
        settings=snakemake.params.index.settings,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
    )
    write_json(audit, Path(snakemake.output.audit))
    write_parquet(matches, Path(snakemake.output.matches))
