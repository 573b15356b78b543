"""Files of rows: endings, compression, encodings, columns; damaged ones, which are named."""

import csv
import datetime
import decimal
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignment_extraction.corpora.rows import EXCERPT, RowError, is_data_file, raw_rows
from alignment_extraction.files import InputError

ROWS = [
    {"question": "Où?", "answer": "Là\u2028bas."},
    {"question": 'Name, "a"\ntree', "answer": "🌳"},
]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(name: str, data: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return to_file


def values(path: Path) -> list[Any]:
    return [row for _, row in raw_rows(path)]


def lines(rows: list[Any] = ROWS) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(delimiter: str = ",", rows: list[dict[str, str]] = ROWS) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


TEXTS = {
    "rows.jsonl": lines(),
    "ROWS.JSONL": lines(),
    "rows.NDJson": lines(),
    "lines.json": lines(),
    "array.json": json.dumps(ROWS, indent=1),
    "one-line.json": json.dumps(ROWS),
    "array.jsonl": json.dumps(ROWS, indent=1),
    "wrapped.json": json.dumps({"version": 1, "data": ROWS}, indent=1),
    "rows.csv": table(),
    "semicolons.CSV": table(";"),
    "tabs.csv": table("\t"),
    "rows.Tsv": table("\t"),
}  # fmt: skip


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", TEXTS)
def test_every_kind_of_text(write: Write, name: str, packed: str, encoding: str) -> None:
    data = TEXTS[name].encode(encoding)
    if packed == ".gz":
        data = gzip.compress(data)
    elif packed == ".zst":
        data = pa.compress(data, codec="zstd", asbytes=True)
    path = write(name + (packed.upper() if name.isupper() else packed), data)
    assert values(path) == ROWS
    assert is_data_file(path.name)


def test_numbers_of_rows_are_lines_or_places(write: Write) -> None:
    def numbers(path: Path) -> list[int]:
        return [number for number, _ in raw_rows(path)]

    assert numbers(write("x.jsonl", "\n{}\n \n{}\r\n\n")) == [2, 4]
    assert numbers(write("x.json", "[{},\n\n{}]")) == [1, 2]
    # A row of CSV counts from its first line.
    assert numbers(write("x.csv", 'a,b\n"1\n2",3\n\n4,5\n')) == [2, 5]


def test_rows_that_are_arrays(write: Write) -> None:
    """Open-Reasoner-Zero's rows are lists, one a line or all in an array."""
    rows = [[{"from": "human"}], [{"from": "gpt"}]]
    text = "\n".join(map(json.dumps, rows))
    for name in ("x.jsonl", "x.json", "x.ndjson"):
        assert values(write(name, text)) == rows
    assert values(write("x.json", json.dumps(rows))) == rows
    assert values(write("x.jsonl", json.dumps(rows[0]))) == [rows[0]]


def test_an_object_over_many_lines_is_a_row(write: Write) -> None:
    row = {"messages": [{"role": "user", "content": "q"}], "data": []}
    assert values(write("x.json", json.dumps(row, indent=1))) == [row]
    assert values(write("x.json", json.dumps(row))) == [row]


def test_empty_files(write: Write) -> None:
    for name in ("x.jsonl", "x.json", "x.csv", "x.jsonl.gz"):
        data = gzip.compress(b"") if name.endswith("gz") else b""
        assert values(write(name, data)) == []
    assert values(write("x.csv", "question,answer\n")) == []
    assert values(write("x.json", "[]")) == []


def test_csv_rows_that_do_not_fit(write: Write) -> None:
    path = write("x.csv", b'question,answer\na,b\nc\nd,e,f\n"g\xff",h\n')
    (_, good), (_, short), (number, long), (_, bytes_) = raw_rows(path)
    assert good == {"question": "a", "answer": "b"}
    assert isinstance(short, RowError)
    assert str(long) == "it has 3 fields where the first line names 2"
    assert (number, long.excerpt) == (4, "d,e,f")
    assert bytes_["question"] == "g\udcff"  # refused as a conversation
    [row] = values(write("x.csv", "a,b,a\n1,2,3\n"))
    assert row == {"a": "1", "b": "2", "a.3": "3"}
    [row] = values(write("x.csv", f"a,b\n{'x' * 200_000},2\n"))
    assert len(row["a"]) == 200_000


def test_lines_that_are_not_json_are_numbered_and_shown(write: Write) -> None:
    bad = [b"{", b"\xff\xfe", b'{"question": "' + b"x" * 300, b"[" * 10**5, b"1" * 5000]
    found = list(raw_rows(write("x.jsonl", b"\n\n".join([*bad, b"{}"]))))
    assert [number for number, _ in found] == [1, 3, 5, 7, 9, 11]
    assert found.pop()[1] == {}
    for (_, error), line in zip(found, bad, strict=True):
        assert isinstance(error, RowError)
        assert str(error).startswith("the line is not JSON (")
        assert error.excerpt == line.decode("ascii", "replace").replace("\ufffd", "?")[:EXCERPT]
    # A damaged first line costs itself alone.
    assert values(write("x.jsonl", '[{"a": \n{}\n'))[1:] == [{}]
    assert values(write("x.json", '{"question": "a\n{}\n'))[1:] == [{}]


# Parquet ----------------------------------------------------------------------------------------


def test_columns_that_polars_cannot_hold(tmp_path: Path) -> None:
    """Wide decimals, names given twice, and what Python has no value for."""
    columns = {
        "question": pa.array(["q"]),
        "cost": pa.array([decimal.Decimal("1.5")], pa.decimal256(50, 2)),
        "when": pa.array([1], pa.timestamp("ns")),
        "far": pa.array([2**62], pa.timestamp("us")),
        "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        "kind": pa.array(["a"]).dictionary_encode(),
        "raw": pa.array([b"\xff"]),
    }
    arrays = [*columns.values(), pa.array([1]), pa.array([2])]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(arrays, names=[*columns, "x", "x"]), path)
    [row] = values(path)
    assert row["question"] == "q"
    assert str(row["cost"]) == "1.50"
    assert str(row["when"]).startswith("1970-01-01 00:00:00.000000001")
    assert (row["map"], row["kind"], row["raw"]) == ([("a", 1)], "a", b"\xff")
    assert (row["x"], row["x.9"]) == (1, 2)
    assert "far" in row


def test_parquet_rows_and_types(tmp_path: Path) -> None:
    rows = [{"a": [{"b": i}], "day": datetime.date(2020, 1, 2)} for i in range(2500)]
    for name in ("x.parquet", "X.PARQUET"):
        pl.DataFrame(rows).write_parquet(tmp_path / name, row_group_size=700)
        assert list(raw_rows(tmp_path / name)) == list(enumerate(rows, 1))


def test_a_damaged_parquet_file(write: Write, tmp_path: Path) -> None:
    frame = pl.DataFrame({"question": ["q" * 9, "r" * 9] * 999, "answer": ["a", "b"] * 999})
    frame.write_parquet(tmp_path / "whole.parquet")
    whole = bytearray((tmp_path / "whole.parquet").read_bytes())
    for damaged in (whole[:-9], b"PAR1", whole[:4] + b"\xff" * 60 + whole[64:]):
        with pytest.raises(InputError, match=r"after row 0: not readable as Parquet"):
            values(write("rows.parquet", bytes(damaged)))


# Files that are refused -------------------------------------------------------------------------


def test_a_value_that_is_cut_off(write: Write) -> None:
    whole = json.dumps([{"question": "q", "answer": "a"}] * 3, indent=1)
    with pytest.raises(InputError, match=r"rows.json: not JSON \(.* line 11 .*cut off or damaged"):
        values(write("rows.json", whole[: whole.rindex('"answer"')].rstrip()))
    # Refused as conversations.
    assert values(write("rows.json", b'["\xff"]')) == ["\udcff"]
    assert values(write("rows.jsonl", b'["\xff"]')) == [["\udcff"]]
    with pytest.raises(InputError, match=r"rows.json: not JSON \(maximum recursion"):
        values(write("rows.json", b"[" * 10**5))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("x.txt", b"", r"x.txt: ends in none of .jsonl, .ndjson, .json, .csv, .tsv, .parquet"),
        ("x", b"", r"ends in none of .*convert or rename it"),
        ("x.gz", b"", r"ends in none of"),
        ("x.parquet.gz", b"", r"ends in none of"),
        ("x.jsonl.gz", gzip.compress(b"{}", mtime=0)[:-9], "x.jsonl.gz: cut off or damaged"),
        ("x.jsonl.gz", b"not packed", r"x.jsonl.gz: cannot be read \(Not a gzipped file"),
        ("x.jsonl.zst", b"not packed", r"x.jsonl.zst: cannot be read \(ZSTD decompress failed"),
        ("x.csv", b'a,b\n"1,2\n', r"x.csv, line 2: not CSV \(unexpected end of data\); a quote"),
        ("x.csv", "a,b\n1,2\n".encode("utf-16")[:-1], "x.csv: cut off or damaged .*codec"),
        ("x.jsonl", "{}\n".encode("utf-16")[:-1], "x.jsonl: cut off or damaged .*codec"),
    ],
)  # fmt: skip
def test_files_that_are_refused(write: Write, name: str, data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        values(write(name, data))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for name in ("gone.jsonl", "gone.json", "gone.parquet", "gone.csv.gz"):
        with pytest.raises(InputError, match=f"{name}: cannot be read .No such file"):
            values(tmp_path / name)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InputError, match=r"my file: cannot be read \(Is a directory"):
        list(raw_rows(tmp_path / "folder.jsonl", "my file"))


NAMES = ["x.jsonl", "x.json", "x.csv", "x.tsv", "x.jsonl.gz", "x.json.zst", "x.parquet"]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=60), st.sampled_from(NAMES))
def test_any_bytes_are_read_or_refused(write: Write, data: bytes, name: str) -> None:
    try:
        found = list(raw_rows(write(name, data)))
    except InputError as error:
        assert name in str(error)
    else:
        assert all(number >= 1 for number, _ in found)


CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r"), max_size=6)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(CELLS, CELLS.filter(str.strip)), max_size=5), st.sampled_from(",;\t"))
def test_any_table_is_read_as_it_was_written(write: Write, rows: Any, delimiter: str) -> None:
    expected = [{"a b": one, "c": two} for one, two in rows]
    text = table(delimiter, [{"a b": "x", "c": "y"}, *expected])
    assert values(write("x.csv", text))[1:] == expected


def test_memory_does_not_grow_with_the_rows(write: Write) -> None:
    """Nothing is read ahead: a damaged end is met last."""
    good = lines([{"question": "q" * 500, "answer": "a"}] * 5000)
    path = write("x.jsonl.gz", gzip.compress(good.encode())[:-9])
    rows = raw_rows(path)
    assert [next(rows)[0] for _ in range(4000)] == list(range(1, 4001))
