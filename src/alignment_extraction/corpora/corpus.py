"""Corpora: files and hub data sets, brought into one schema."""

import itertools
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from tqdm import tqdm

from alignment_extraction.corpora.conversations import Conversation, NumberedRow, read_rows
from alignment_extraction.corpora.rows import RowError
from alignment_extraction.corpora.source import CorpusSource, source_files
from alignment_extraction.files import InputError, atomic_path, write_json, write_parquet
from alignment_extraction.vocabulary import CORPUS

_logger = logging.getLogger(__name__)

_TEXT = pl.String()
REJECTS = pl.Schema(
    {"source": _TEXT, "file": _TEXT, "line": pl.Int64(), "reason": _TEXT, "excerpt": _TEXT}
)
"""Rows that could not be used: `line` is that of a JSON Lines file, a row's number elsewhere."""

_CHUNK = 10_000  # rows that are Python objects at one time


class _Rows(NamedTuple):
    """The rows of a source (`CORPUS`), those that could not be used (`REJECTS`), and counts."""

    frame: pl.LazyFrame
    rejects: pl.DataFrame
    statistics: dict[str, Any]


def write_corpus(
    sources: Sequence[CorpusSource], output: Path, rejects: Path, statistics: Path
) -> None:
    """Read every source, in memory that does not grow with the number of rows.

    A row's id is its source and its number there, rejected rows counted: it is the same in every
    build from the same files. The role comes in between unless that is `member` or `unknown`, and
    the second and later user turns of a row have theirs behind it. Duplicates (question and answer
    equal, character for character) are kept and counted: how often something was trained on
    matters.

    Args:
        sources: no two of one name and role.
        output: `CORPUS`, as Parquet.
        rejects: `REJECTS`, as Parquet.
        statistics: counts, as JSON; docs/files.md has their meaning.

    Raises:
        InputError: a file without a usable row; more than half of a source's rows unusable, unless
            `allow_rejects`; or see `source_files` and `read_rows`.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        parts = {one.group: _read_source(one, Path(folder, one.group)) for one in sources}
        frame = pl.concat([part.frame for part in parts.values()])
        refused = pl.concat([part.rejects for part in parts.values()])
        roles = frame.group_by("role").len().collect(engine="streaming")
        several = frame.group_by(pl.col("question").hash()).agg(pl.col("role").n_unique() > 1)
        counts = {
            "rows": sum(part.statistics["rows"] for part in parts.values()),
            **_counts(frame, refused),
            "questions_in_several_roles": several.sum().collect(engine="streaming")["role"].item(),
            "roles": dict(sorted(roles.iter_rows())),
            "sources": {name: part.statistics for name, part in parts.items()},
        }
        write_parquet(refused, rejects)
        write_json(counts, statistics)
        with atomic_path(output) as partial:  # never all of it in memory
            frame.sink_parquet(partial, compression="zstd", statistics=True, metadata={})


def _counts(frame: pl.LazyFrame, rejects: pl.DataFrame) -> dict[str, int]:
    # By hashes of 64 bits, as the texts themselves would not fit: of a million rows, two that
    # differ share one in 3 of 10^8 builds.
    pair = pl.struct("question", "answer").hash()
    usable, distinct = frame.select(pl.len(), pair.n_unique()).collect(engine="streaming").row(0)
    return {"usable": usable, "rejected": rejects.height, "duplicates": usable - distinct}


def _read_source(source: CorpusSource, folder: Path) -> _Rows:
    folder.mkdir(parents=True)
    pieces: list[Path] = []
    rejects = [REJECTS.to_frame()]
    count = files = 0
    with tqdm(desc=source.group, unit=" rows", unit_scale=True) as bar:
        for file, numbered in _inputs(source):
            rows = _numbered(numbered, count, source.limit)
            usable, reason = 0, "it has no rows"
            while batch := list(itertools.islice(rows, _CHUNK)):
                frame, refused = _frames(source, file, batch)
                pieces.append(folder / f"{len(pieces):06d}.parquet")
                frame.write_parquet(pieces[-1])
                if not usable and refused.height:
                    reason = "row {2}: {3}".format(*refused.row(0))
                rejects.append(refused)
                usable += frame.height
                bar.update(batch[-1][0] - count)
                count = batch[-1][0]
            if not usable:
                raise InputError(
                    f"{file}: no usable row ({reason}); correct the file, or name the fields of "
                    "question and answer: question_field, answer_field"
                )
            files += 1
            if count == source.limit:
                break
    read, rejected = pl.scan_parquet(pieces), pl.concat(rejects)
    if source.template_field and not read.select(pl.col("template").count()).collect().item():
        raise InputError(
            f"source {source.group}: no row has the key {source.template_field!r}; correct its "
            "template_field"
        )
    counted = rejected["reason"].value_counts().sort(-pl.col("count").cast(int), "reason")
    reasons: dict[str, int] = dict(counted.head(3).iter_rows())
    check_rejects(source.group, count, rejected.height, reasons, source.allow_rejects)
    about = {"files": files, "rows": count, **_counts(read, rejected)}
    return _Rows(read, rejected, about | {"turns": source.turns, "reasons": reasons})


def check_rejects(
    name: str, rows: int, rejected: int, reasons: Mapping[str, int], allowed: bool
) -> None:
    """Say on the terminal, with the commonest reasons, that over 1 % of the rows cannot be used.

    Raises:
        InputError: more than half cannot be used, and this is not `allowed`.
    """
    if rejected * 100 <= rows:
        return
    why = "; ".join(f"{reason} ({number})" for reason, number in reasons.items())
    message = f"{name}: {rejected:,} of {rows:,} rows cannot be used: {why}"
    if rejected * 2 > rows and not allowed:
        raise InputError(
            f"{message}; correct them, name the fields (question_field, answer_field), or go on "
            "with the others: allow_rejects: true, --allow-rejects"
        )
    _logger.warning(message)


def _numbered(
    rows: Iterator[NumberedRow], before: int, limit: int | None
) -> Iterator[tuple[int, NumberedRow]]:
    """Rows of a file with their number in the source, which all turns of a row share."""
    for row in rows:
        before += row.turn == 1
        if limit and before > limit:
            return
        yield before, row


def _frames(
    source: CorpusSource, file: str, batch: Sequence[tuple[int, NumberedRow]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The usable rows of a batch (`CORPUS`), and the others (`REJECTS`)."""
    good: list[tuple[Any, ...]] = []
    bad: list[tuple[Any, ...]] = []
    for number, (line, row, turn) in batch:
        if isinstance(row, RowError):
            bad.append((source.name, file, line, str(row), row.excerpt))
        else:
            good.append((f"{source.id_prefix}/{number:07d}{f'.{turn}' if turn > 1 else ''}", *row))
    fields = ("id", *Conversation._fields)
    frame = pl.DataFrame(good, schema={name: CORPUS[name] for name in fields}, orient="row")
    given = source.model_dump(include={"role", "template"})
    given |= {"source": source.name, "repetitions": 1}
    literals = {name: pl.lit(value, CORPUS[name]) for name, value in given.items()}
    if key := source.template_field:
        literals["template"] = pl.col("metadata").str.json_path_match(f'$["{key}"]')
    text = pl.concat_str("question", "answer", separator="\n", ignore_nulls=True)
    whole = [CORPUS.to_frame(), frame.with_columns(text=text, **literals)]
    return pl.concat(whole, how="diagonal"), pl.DataFrame(bad, schema=REJECTS, orient="row")


def _inputs(source: CorpusSource) -> Iterator[tuple[str, Iterator[NumberedRow]]]:
    """The files of a source, with their names and rows."""
    fields = source.model_dump(include={"question_field", "answer_field", "turns"})
    for name, path in source_files(source):
        yield name, read_rows(path, name, **fields)
