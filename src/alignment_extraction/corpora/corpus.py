"""Corpora: files, hub data sets and generated problems, brought into one schema."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from tqdm import tqdm

from alignment_extraction.corpora.formats import (
    Conversation,
    NumberedRow,
    RowError,
    generate_rows,
    read_rows,
)
from alignment_extraction.corpora.source import CorpusSource, source_files
from alignment_extraction.files import InputError
from alignment_extraction.source_lock import LOCK
from alignment_extraction.statistics import named_seed

SCHEMA = pl.Schema(
    {
        "id": pl.String(),
        "source": pl.String(),
        "role": pl.String(),
        "template": pl.String(),
        "pair": pl.String(),
        "repetitions": pl.Int32(),
        "seed_problem": pl.String(),
        "edit": pl.String(),
        "question": pl.String(),
        "answer": pl.String(),
        "messages": pl.List(pl.Struct({"role": pl.String(), "content": pl.String()})),
        "text": pl.String(),
        "metadata": pl.String(),
    }
)
"""Every corpus has these columns.

- `id`: unique in the corpus and the same in every build.
- `source`: the data set that the row is from.
- `role`: what is known of the row's part in training: `member` (in the training set), `twin` (of a
  member's template, kept out of training by a coin), `held-out` (never trained on, no coin for each
  row), `control` (not searched) or `unknown`.
- `template`: the generator that wrote the row, null where there is none.
- `pair`: shared by a member and its twin; null where the row has neither.
- `repetitions`: how often an epoch of training shows the row; of a twin, how often its member's
  does.
- `seed_problem`, `edit`: the row of which this one is an edited version, and what was edited;
  null in corpora without labelled edits.
- `question`, `answer`: the first user message and the first assistant message after it, the latter
  null where there is none.
- `messages`: all turns of the conversation; none for raw text.
- `text`: question, line break, answer; the question alone where there is no answer.
- `metadata`: whatever else the row had, as JSON; null where that is nothing.
"""

REJECTS = pl.Schema(
    {
        "source": pl.String(),
        "file": pl.String(),
        "line": pl.Int64(),
        "reason": pl.String(),
        "excerpt": pl.String(),
    }
)
"""Rows that could not be used: `line` is that of a JSON Lines file, a row's number elsewhere."""

_CHUNK = 10_000  # rows that are Python objects at one time


class Corpus(NamedTuple):
    """A corpus, and what became of the rows that it was made from."""

    frame: pl.LazyFrame
    """Columns of `SCHEMA`; the rows lie in the folder that `build` was given."""
    rejects: pl.DataFrame
    """Columns of `REJECTS`."""
    statistics: dict[str, Any]
    """Counts; see `build`."""


def build(sources: Sequence[CorpusSource], seed: int, folder: Path, lock: Path = LOCK) -> Corpus:
    """Read or generate every source, in memory that does not grow with the number of rows.

    A row's id is its source and its number there, rejected rows counted: it is the same in every
    build from the same files. Duplicates (question and answer equal, character for character) are
    kept and counted: how often something was trained on matters.

    Args:
        sources: with different names.
        seed: of generated problems; each data set has a random stream of its own.
        folder: an empty one, for the rows that were read so far.
        lock: the file that pins what comes from the hub (see `source_lock`).

    Returns:
        The corpus. Its statistics are `rows` (read), `usable`, `rejected`, `duplicates` (usable
        rows that an earlier one equals), `questions_in_several_roles` (distinct questions whose
        rows differ in role, which spoils a control) and `roles` (usable rows of each), and under
        `sources` the same of each source: `role`, `files`, `rows`, `usable`, `rejected`,
        `duplicates`.

    Raises:
        InputError: two sources of one name or none at all; a file without a usable row, unreadable
            or of an unknown kind; nothing to read; a data set or option that reasoning-gym lacks.
    """
    names = [source.name for source in sources]
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"sources: expected data sets with different names, found {names or 'none'}"
        )
    parts = [_read_source(source, seed, folder / source.name, lock) for source in sources]
    frame = pl.concat([part.frame for part in parts])
    rejects = pl.concat([part.rejects for part in parts])
    roles = frame.group_by("role").len().collect(engine="streaming")
    statistics = {
        **_counts(frame, rejects),
        "questions_in_several_roles": _shared_questions(frame),
        "roles": dict(sorted(roles.iter_rows())),
        "sources": {name: part.statistics for name, part in zip(names, parts, strict=True)},
    }
    return Corpus(frame, rejects, statistics)


def _counts(frame: pl.LazyFrame, rejects: pl.DataFrame) -> dict[str, int]:
    # By hashes of 64 bits, as the texts themselves would not fit: of a million rows, two that
    # differ share one in 3 of 10^8 builds.
    pair = pl.struct("question", "answer").hash()
    usable, distinct = frame.select(pl.len(), pair.n_unique()).collect(engine="streaming").row(0)
    return {
        "rows": usable + rejects.height,
        "usable": usable,
        "rejected": rejects.height,
        "duplicates": usable - distinct,
    }


def _shared_questions(frame: pl.LazyFrame) -> int:
    roles = frame.select(pl.col("question").hash(), "role").unique()
    counted = roles.group_by("question").len().filter(pl.col("len") > 1).select(pl.len())
    return int(counted.collect(engine="streaming").item())


def _read_source(source: CorpusSource, seed: int, folder: Path, lock: Path) -> Corpus:
    folder.mkdir(parents=True)
    pieces: list[Path] = []
    rejects = [REJECTS.to_frame()]
    count = files = 0
    with tqdm(desc=source.name, unit=" rows", unit_scale=True) as bar:
        for file, numbered in _inputs(source, seed, lock):
            rows = itertools.islice(numbered, source.limit and source.limit - count)
            usable, reason = 0, "it has no rows"
            while batch := list(itertools.islice(rows, _CHUNK)):
                frame = _frame(source, file, batch, count + 1)
                pieces.append(folder / f"{len(pieces):06d}.parquet")
                frame.write_parquet(pieces[-1])
                rejects.append(_rejects(source, file, batch))
                count += len(batch)
                bar.update(len(batch))
                if not usable and rejects[-1].height:
                    reason = "row {2}: {3}".format(*rejects[-1].row(0))
                usable += frame.height
            if not usable:
                raise InputError(
                    f"{file}: no usable row of format {source.format} ({reason}); correct the "
                    "format or the file"
                )
            files += 1
            if count == source.limit:
                break
    read, rejected = pl.scan_parquet(pieces), pl.concat(rejects)
    about = {"role": source.role, "files": files, **_counts(read, rejected)}
    return Corpus(read, rejected, about)


def _frame(
    source: CorpusSource, file: str, batch: Sequence[NumberedRow], first: int
) -> pl.DataFrame:
    """The usable rows of a batch whose first row is the source's `first`."""
    good = [(n, row) for n, (_, row) in enumerate(batch, first) if isinstance(row, Conversation)]
    columns = {
        "id": [f"{source.name}/{n:07d}" for n, _ in good],
        **{name: [getattr(row, name) for _, row in good] for name in Conversation._fields},
    }
    schema = {name: dtype for name, dtype in SCHEMA.items() if name in columns}
    return pl.DataFrame(columns, schema=schema).select(
        "id",
        source=pl.lit(source.name),
        role=pl.lit(source.role),
        template=pl.lit(file if source.datasets else None, pl.String),
        pair=pl.lit(None, pl.String),
        repetitions=pl.lit(1, pl.Int32),
        seed_problem=pl.lit(None, pl.String),
        edit=pl.lit(None, pl.String),
        question="question",
        answer="answer",
        messages="messages",
        text=pl.concat_str("question", "answer", separator="\n", ignore_nulls=True),
        metadata="metadata",
    )


def _rejects(source: CorpusSource, file: str, batch: Sequence[NumberedRow]) -> pl.DataFrame:
    rows = [
        (source.name, file, number, str(row), row.excerpt)
        for number, row in batch
        if isinstance(row, RowError)
    ]
    return pl.DataFrame(rows, schema=REJECTS, orient="row")


def _inputs(
    source: CorpusSource, seed: int, lock: Path
) -> Iterator[tuple[str, Iterator[NumberedRow]]]:
    """The files of a source, or its generated data sets, with their names and rows."""
    if source.format == "reasoning-gym":
        for name, data in source.datasets.items():
            own_seed = named_seed(seed, f"corpus/{source.name}/{name}")
            yield name, generate_rows(name, data.size, data.options, own_seed)
        return
    for name, path in source_files(source, lock):
        yield name, read_rows(path, source.format, name)
