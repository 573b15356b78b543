"""The step of building a corpus, as rules run it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from alignment_extraction.corpora.corpus import build
from alignment_extraction.corpora.reading import stream_parquet
from alignment_extraction.corpora.source import CorpusSource
from alignment_extraction.files import write_json, write_parquet
from alignment_extraction.models.lock import LOCK


def write_corpus(
    sources: Sequence[CorpusSource],
    seed: int,
    output: Path,
    rejects: Path,
    statistics: Path,
    lock: Path = LOCK,
) -> None:
    """Build a corpus and write it, the rows that could not be used, and counts of both.

    Args:
        sources: of the corpus.
        seed: of generated problems.
        output: Parquet of the rows.
        rejects: Parquet of the rows that could not be used.
        statistics: JSON of the counts.
        lock: what the first download from the hub got.

    Raises:
        InputError: see `corpus.build`.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        built = build(sources, seed, Path(folder), lock)
        write_parquet(built.rejects, rejects)
        write_json(built.statistics, statistics)
        stream_parquet(built.frame, output)
