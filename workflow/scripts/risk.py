"""Which rows are at risk, and what training changed in the likelihood of the corpus."""

from pathlib import Path

from alignment_extraction.attribution.study import assess, read_bases
from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.files import read_parquet, write_csv, write_parquet
from alignment_extraction.step import step

with step(snakemake.log[0]):
    tables = assess(
        {model: read_parquet(Path(file)) for model, file in snakemake.params.likelihoods.items()},
        read_bases(snakemake.params.bases),
        read_parquet(Path(snakemake.input.scores)),
        read_corpus(Path(snakemake.input.corpus)),
        {c: [Path(f) for f in files] for c, files in snakemake.params.shards.items()},
        snakemake.params.trained,
        snakemake.params.thresholds.settings,
        snakemake.params.seed,
    )
    for name, table in tables.items():
        write_parquet(table, Path(snakemake.output[name]))
    write_csv(tables["rows"], Path(snakemake.output.csv))
