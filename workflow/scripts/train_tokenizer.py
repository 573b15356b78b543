"""Train the controlled study's tokenizer: byte-level BPE with the ChatML tokens."""

from pathlib import Path

from alignment_extraction.files import read_parquet, write_json
from alignment_extraction.step import step
from alignment_extraction.training.supervised import tokenizer_texts, train_tokenizer

with step(snakemake.log[0]):
    corpus = read_parquet(Path(snakemake.input.corpus))
    output = Path(snakemake.output.tokenizer)
    train_tokenizer(tokenizer_texts(corpus), snakemake.params.settings, output)
    write_json(snakemake.params.record, Path(snakemake.output.settings))
