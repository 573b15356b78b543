"""Files at the edges: atomic writes, checksums and the package's own kind of error."""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl


class InputError(ValueError):
    """Bad input from a user: one sentence that says what, where, and what to do.

    The command line prints its message without a traceback and exits with status 1.
    """


def without_credentials(text: str) -> str:
    """The text with users, passwords and queries taken out of the addresses in it."""
    return re.sub(r"\?[^\s)]*", "", re.sub(r"://[^/\s]*@", "://", text))


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` only if the block succeeds.

    What is interrupted leaves nothing of the final name, so a half-written result can never be
    taken for a finished one. The block may make a file or a folder; what `path` was before is
    replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    remove(partial)
    try:
        yield partial
        # A file replaces a file in one step, but a folder with something in it cannot be replaced.
        if path.is_dir() or partial.is_dir():
            remove(path)
        partial.replace(path)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_parquet(frame: pl.DataFrame, path: Path, about: Mapping[str, str] | None = None) -> None:
    """Write `frame` to `path` atomically; the same frame gives the same bytes.

    What the rows were made with, `about`, is kept in the file's key-value metadata.
    """
    with atomic_path(path) as partial:
        frame.write_parquet(partial, compression="zstd", metadata=dict(about or {}))


@contextlib.contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the step that makes it first") from None
    except (pl.exceptions.PolarsError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]  # Polars goes on with a plan
        if isinstance(error, pl.exceptions.ColumnNotFoundError):
            raise InputError(f"{path}: another table is expected here ({reason})") from None
        raise InputError(
            f"{path}: not {kind} ({reason}); delete it and run the step that makes it again"
        ) from error


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read a Parquet file, all of its columns or some.

    Raises:
        InputError: the file is missing, truncated, not Parquet, or lacks a column.
    """
    with _readable(path, "a readable Parquet file"):
        return pl.read_parquet(path, columns=None if columns is None else list(columns))


def write_csv(frame: pl.DataFrame, path: Path) -> None:
    """Write `frame` as CSV, atomically."""
    with atomic_path(path) as partial:
        frame.write_csv(partial)


def write_json(value: Any, path: Path) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing, unreadable or not JSON.
    """
    with _readable(path, "valid JSON"):
        return json.loads(path.read_text())


def _digest(path: Path, algorithm: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); run the step that makes it first"
        ) from None


def md5(path: Path) -> str:
    """MD5 of a file in hex: the name under which DVC keeps it; raises as `sha256`."""
    return _digest(path, "md5")


def sha256(path: Path) -> str:
    """SHA-256 of a file in hex; of a folder, of its sorted listing `sha256  relative/path`.

    That is what `find * -type f | sort | xargs sha256sum | sha256sum` prints inside it with
    `LC_ALL=C`: without hidden files at its top, where tools keep notes.

    Raises:
        InputError: it cannot be read.
    """
    if not path.is_dir():
        return _digest(path, "sha256")
    top = (p for p in path.iterdir() if not p.name.startswith("."))
    files = (p for t in top for p in ([t] if t.is_file() else t.rglob("*")) if p.is_file())
    return listing_sha256(sorted((p.relative_to(path).as_posix(), p) for p in files))


def listing_sha256(files: Sequence[tuple[str, Path]]) -> str:
    """SHA-256 of the listing of named files, as `sha256` makes that of a folder."""
    lines = (f"{sha256(path)}  {name}\n" for name, path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@contextlib.contextmanager
def unchanged(path: Path, pinned: str | None = None) -> Iterator[str]:
    """Use a file in the block, the one that is pinned and the same to the end; yield its SHA-256.

    Raises:
        InputError: it is missing, another file than the pinned one, or was replaced in the block.
    """

    def state() -> tuple[int, ...]:
        about = path.stat() if path.exists() else None
        return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns) if about else ()

    begin, found = state(), sha256(path)
    if pinned is not None and found != pinned:
        raise InputError(
            f"{path}: its sha256 is {found} where params.yaml pins {pinned}; it was replaced since "
            "it was fetched: delete it and run again, which fetches it, or correct the key sha256"
        )
    yield found
    if state() != begin:
        raise InputError(
            f"{path}: was replaced while it was in use, so what came out is thrown away; run this "
            "step again"
        )
