"""Atomic writes, what damaged files say, checksums."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.files import (
    InputError,
    atomic_path,
    read_json,
    read_parquet,
    sha256,
    write_json,
    write_parquet,
)

FRAME = pl.DataFrame({"id": ["a", None], "x": [1.5, float("nan")], "tokens": [[1, 2], []]})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_path_makes_folders_and_leaves_only_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    with atomic_path(path) as partial:
        partial.write_text("done")
        assert not path.exists()
    assert path.read_text() == "done"
    assert names(path.parent) == ["c.txt"]


def test_a_failed_write_keeps_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("former")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "former"
    assert names(tmp_path) == ["c.txt"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "c.txt"):
        pass


@pytest.mark.parametrize("former", ["nothing", "folder", "file"])
def test_atomic_folder(tmp_path: Path, former: str) -> None:
    path = tmp_path / "model"
    if former == "folder":
        path.mkdir()
        (path / "old").write_text("old")
    elif former == "file":
        path.write_text("old")
    with atomic_path(path) as partial:
        partial.mkdir()
        (partial / "new").write_text("new")
    assert names(path) == ["new"]
    assert names(tmp_path) == ["model"]


def test_a_file_replaces_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir()
    (path / "old").write_text("old")
    write_json({}, path)
    assert read_json(path) == {}


def test_a_failed_folder_keeps_the_former_one(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as partial:
        partial.mkdir()
        (partial / "new").write_text("half")
        raise RuntimeError
    assert names(path) == ["old"]
    assert names(tmp_path) == ["model"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "model"
    left = tmp_path / f".model.{os.getpid()}.partial"
    left.mkdir()
    (left / "half").write_text("half")
    with atomic_path(path) as partial:
        partial.mkdir()
    assert names(path) == []


def test_parquet_round_trip_is_reproducible(tmp_path: Path) -> None:
    about = {"model": "tiny.gguf"}
    for name in ("a.parquet", "b.parquet"):
        write_parquet(FRAME, tmp_path / name, about)
    assert read_parquet(tmp_path / "a.parquet").equals(FRAME)
    assert pl.read_parquet_metadata(tmp_path / "a.parquet")["model"] == "tiny.gguf"
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_missing_parquet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.parquet: no such file; run the step that makes it"):
        read_parquet(tmp_path / "x.parquet")


def test_parquet_without_a_column(tmp_path: Path) -> None:
    write_parquet(FRAME, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: .*answer") as error:
        read_parquet(tmp_path / "a.parquet", ["id", "answer"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "folder", "header"])
def test_damaged_parquet(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(pl.DataFrame({"x": range(10_000)}), path)
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("id,x\n1,2\n")
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(b"\0" * 100 + data[100:])
    with pytest.raises(InputError, match=r"x\.parquet: not a readable Parquet file .*delete it"):
        read_parquet(path)


def test_json_is_sorted_and_finite(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json({"b": 1, "a": [0.5, "世"]}, path)
    assert read_json(path) == {"a": [0.5, "世"], "b": 1}
    assert path.read_text().index('"a"') < path.read_text().index('"b"')
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"a": float("nan")}, path)
    assert read_json(path) == {"a": [0.5, "世"], "b": 1}


def test_missing_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.json: no such file; run the step that makes it"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe\x00"])
def test_damaged_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json: not valid JSON .*delete it"):
        read_json(path)


def test_a_folder_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(tmp_path)


def test_sha256_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 100_000)
    assert sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_sha256_of_a_folder_is_what_the_shell_says(tmp_path: Path) -> None:
    if not shutil.which("sha256sum"):
        pytest.skip("needs sha256sum")
    for name in ("b/c.txt", "a.txt", "B.txt", "b-c.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    command = "find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    shell = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert sha256(tmp_path) == shell.stdout.split()[0]
    (tmp_path / ".timestamp").touch()
    assert sha256(tmp_path) == shell.stdout.split()[0]
    (tmp_path / "a.txt").write_text("altered")
    assert sha256(tmp_path) != shell.stdout.split()[0]


def test_input_error_is_a_value_error() -> None:
    # So that pydantic turns it into a message about the key.
    assert issubclass(InputError, ValueError)
