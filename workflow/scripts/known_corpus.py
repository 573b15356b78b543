"""Give a corpus of known truth as it is searched: pretraining text is a control."""

from pathlib import Path

from alignment_extraction.corpora.corpus import REJECTS
from alignment_extraction.files import read_parquet, write_json, write_parquet
from alignment_extraction.step import step
from alignment_extraction.training import controlled

with step(snakemake.log[0]):
    rows = read_parquet(Path(snakemake.input.corpus))
    corpus = controlled.post_training(rows, snakemake.params.searched)
    write_parquet(REJECTS.to_frame(), Path(snakemake.output.rejects))
    write_json(controlled.statistics(corpus), Path(snakemake.output.statistics))
    write_parquet(corpus, Path(snakemake.output.corpus))
