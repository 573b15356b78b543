"""Files of rows as people have them: JSON Lines, JSON, CSV and Parquet, compressed or not.

Rows are read one after the other, in memory that does not grow with their number; an array in JSON
is read all at once. A row that cannot be read becomes a `RowError` in its place and stops nothing.
"""

import contextlib
import csv
import functools
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from alignment_extraction.files import InputError

ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Kinds of files, in any letter case; all but Parquet may also end in one of `COMPRESSED`."""
COMPRESSED = (".gz", ".zst")
EXCERPT = 200  # characters of a malformed row that are shown
_BATCH = 1000  # rows of a Parquet file that are Python objects at one time
_FIELD = 1 << 24  # characters that a field of CSV may have; more is a quote that never ends
_WRAPPERS = ("data", "rows", "examples", "train")  # keys that some files keep all rows under

Rows = Iterator[tuple[int, Any]]


class RowError(ValueError):
    """A row that cannot be used: why, and how it begins."""

    def __init__(self, reason: str, excerpt: str = "") -> None:
        super().__init__(reason)
        self.excerpt = excerpt.encode("utf-8", "replace").decode()[:EXCERPT]


def is_data_file(name: str) -> bool:
    """Whether a file's name ends as one that `raw_rows` reads."""
    return _kind_of(name)[0] in ENDINGS


def _kind_of(name: str) -> tuple[str, str]:
    """A file's kind and its compression, by its name; "" where there is none."""
    path = Path(name.lower())
    packed = path.suffix if path.suffix in COMPRESSED else ""
    return Path(path.stem).suffix if packed else path.suffix, packed


def raw_rows(path: Path, name: str | None = None) -> Rows:
    """The rows of a file as it has them, each with its line (Parquet, arrays: its number), from 1.

    A row is an object, a list, whatever it is, or a `RowError`; a blank line is none. Text is
    UTF-8, or UTF-16 or UTF-32 where a byte order mark, or the zeros of JSON's first characters (RFC
    4627, section 3), say so. The first line of CSV names the columns; its delimiter is whichever of
    comma, semicolon and tab that line has most of, and the tab for .tsv.

    Args:
        path: a file that ends as `ENDINGS` and `COMPRESSED` say.
        name: how messages call the file; its path by default.

    Raises:
        InputError: the file cannot be read, ends otherwise, is damaged, or is JSON as a whole (an
            array) and not valid.
    """
    name = name or str(path)
    kind, packed = _kind_of(path.name)
    if kind not in ENDINGS or (kind == ".parquet" and packed):
        raise InputError(
            f"{name}: ends in none of {', '.join(ENDINGS)} (the text files also with "
            f"{' or '.join(COMPRESSED)} behind it); convert or rename it"
        )
    try:
        if kind == ".parquet":
            yield from _parquet(path, name)
            return
        with path.open("rb") as file:
            if kind in (".csv", ".tsv"):
                yield from _delimited(_text(file, packed, ""), name, kind)
            else:
                yield from _json(_text(file, packed, "\n"), name, array=kind == ".json")
    except (UnicodeDecodeError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: cut off or damaged ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error})") from error


def _text(file: IO[bytes], packed: str, newline: str) -> io.TextIOWrapper:
    """The decompressed text after a byte order mark.

    Bytes that are no text become halves of surrogate pairs, which their row is refused for.
    """
    raw: Any = file
    if packed == ".gz":
        raw = gzip.GzipFile(fileobj=file)
    elif packed == ".zst":
        import pyarrow as pa

        raw = pa.input_stream(file, compression="zstd")
    stream = io.BufferedReader(raw)
    # Without a mark, as JSON's first characters are ASCII; of CSV's names the first one is.
    encoding = json.detect_encoding(stream.peek(4)[:4])
    errors = "surrogateescape" if encoding.startswith("utf-8") else "surrogatepass"
    return io.TextIOWrapper(stream, encoding, errors=errors, newline=newline)


# JSON -------------------------------------------------------------------------------------------


_parse = functools.partial(json.loads, parse_constant=lambda _: None)


def _row(line: str) -> Any:
    try:
        return _parse(line)
    except (ValueError, RecursionError) as error:
        return RowError(f"the line is not JSON ({error})", line[: 4 * EXCERPT].strip())


def _json(lines: io.TextIOWrapper, name: str, *, array: bool) -> Rows:
    """JSON Lines, or one value of many lines; `array`: what the ending says of the ambiguous."""
    filled = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    head = list(itertools.islice(filled, 1))
    first = head[0][1].strip() if head else ""
    opens = first.startswith(("[", "{") if array else "[")
    likely = (array and first[:1] == "[") or first[-1:] in "[{,"
    whole = opens and likely and isinstance(_row(first), RowError)
    if array and opens and not whole:
        # One line may be all the file has; several are rows, though they be arrays.
        head += itertools.islice(filled, 1)
        whole = len(head) == 1
    if whole:
        text = "\n" * (head[0][0] - 1) + head[0][1] + lines.read()
        yield from enumerate(_whole(text, name), 1)
        return
    for number, line in itertools.chain(head, filled):
        yield number, _row(line)


def _whole(text: str, name: str) -> list[Any]:
    """The rows of a file that is one value: an array, or an object with the rows under one key."""
    try:
        value = _parse(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name}: not JSON ({error}); the file is cut off or damaged, fetch it again"
        ) from error
    if isinstance(value, list):
        return value
    wrapped = [value[key] for key in _WRAPPERS if isinstance(value.get(key), list)]
    objects = [rows for rows in wrapped if rows and all(isinstance(row, dict) for row in rows)]
    return objects[0] if objects else [value]


# CSV --------------------------------------------------------------------------------------------


def _delimited(text: io.TextIOWrapper, name: str, kind: str) -> Rows:
    first = text.readline()
    delimiter = "\t" if kind == ".tsv" else max(",;\t", key=first.count)
    csv.field_size_limit(_FIELD)
    reader = csv.reader(itertools.chain([first], text), delimiter=delimiter, strict=True)
    try:
        names = _distinct(next(reader, []))
        line = reader.line_num + 1
        for row in reader:
            if len(row) == len(names):
                yield line, dict(zip(names, row, strict=True))
            elif row:
                reason = f"it has {len(row)} fields where the first line names {len(names)}"
                yield line, RowError(reason, delimiter.join(row))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{name}, line {reader.line_num}: not CSV ({error}); a quote is open or out of place, "
            "correct it there"
        ) from error


def _distinct(names: list[str]) -> list[str]:
    """Names of columns; one that is there already gets its number behind it."""
    return [name if name not in names[:i] else f"{name}.{i + 1}" for i, name in enumerate(names)]


# Parquet ----------------------------------------------------------------------------------------


def _parquet(path: Path, name: str) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    with path.open("rb") as handle:
        try:
            for batch in pq.ParquetFile(handle).iter_batches(_BATCH):
                names = _distinct(batch.schema.names)
                for row in zip(*map(_values, batch.columns), strict=True):
                    number += 1
                    yield number, dict(zip(names, row, strict=True))
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{name}, after row {number}: not readable as Parquet "
                f"({' '.join(str(error).split())}); fetch it again"
            ) from error


def _values(column: Any) -> list[Any]:
    """A column's values; as text where Python has no such value, none where there is no text."""
    import pyarrow as pa

    for as_text in (False, True):
        with contextlib.suppress(ValueError, OverflowError, ImportError, pa.ArrowException):
            return list((column.cast(pa.string()) if as_text else column).to_pylist())
    return [None] * len(column)
