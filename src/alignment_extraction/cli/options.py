"""What the verbs share: options, settings from YAML or JSON, shards of generations."""

import sys
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
import yaml
from pydantic import TypeAdapter, ValidationError

from alignment_extraction.files import InputError, read_parquet

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
    """All shards as one frame."""
    return pl.concat([read_parquet(path) for path in paths])
