"""What the verbs share: options, settings from YAML or JSON, shards of generations."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
import yaml
from pydantic import TypeAdapter, ValidationError

from alignment_extraction.files import InputError, read_parquet, sha256
from alignment_extraction.provenance import model_sha256

Output = Annotated[Path, typer.Option(help="file to write")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default")]
GpuLayers = Annotated[int, typer.Option(min=-1, help="layers offloaded to a GPU; -1 is all")]
Gpu = Annotated[bool, typer.Option(help="a GPU is expected: warn where there is none")]
SettingsFile = Annotated[str, typer.Option(help="YAML or JSON file, or - for standard input")]
Shards = Annotated[list[Path], typer.Argument(help="shards of generations")]
CorpusFile = Annotated[Path, typer.Option(help="a corpus")]


def read_settings(source: str) -> Any:
    """Values of a YAML or JSON file, or of standard input for `-`.

    Raises:
        InputError: it cannot be read, or is not YAML.
    """
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
        return yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not valid YAML ({' '.join(str(error).split())})") from None


def parse_settings(model: Any, values: Any, origin: str) -> Any:
    """Check `values` against a pydantic `model` or type.

    Raises:
        InputError: one line that names the first offending key.
    """
    try:
        return TypeAdapter(model).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in (origin, *first["loc"]))
        raise InputError(f"{key}: {first['msg'].removeprefix('Value error, ')}") from None


def read_shards(paths: list[Path]) -> pl.DataFrame:
    """All shards as one frame.

    Raises:
        InputError: a shard cannot be read, or two were written by different models.
    """
    frame = pl.concat([read_parquet(path) for path in paths])
    writers = {path: model_sha256(path) for path in paths}
    first = paths[0]
    for path, writer in writers.items():
        if writer != writers[first]:
            raise InputError(
                f"{path}: written by a model with sha256 {writer}, but {first} by one with "
                f"{writers[first]}; the model was replaced in between: delete the shards of the "
                "wrong one and run the sampling again"
            )
    return frame


@contextlib.contextmanager
def same_model(path: Path, pinned: str | None = None) -> Iterator[None]:
    """Use a model in the block: the one that is pinned, and the same file to the end.

    Args:
        path: the GGUF.
        pinned: its SHA-256 as params.yaml says it; None takes any.

    Raises:
        InputError: it is another file than the pinned one, or was replaced during the block.
    """
    begin = _state(path)
    if pinned is not None and begin is not None and (found := sha256(path)) != pinned:
        raise InputError(
            f"{path}: its sha256 is {found} where params.yaml pins {pinned}; it was replaced since "
            "it was fetched: delete it and run again, which fetches it, or correct the key sha256"
        )
    yield
    if _state(path) != begin:
        raise InputError(
            f"{path}: was replaced while it was in use, so what came out is thrown away; run this "
            "step again"
        )


def _state(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is replaced or written to; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
