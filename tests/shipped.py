"""Files of the shipped results, out of the store and not from the working tree."""

import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import yaml

ROOT = Path(__file__).resolve().parents[1]


def shipped(folder: str, name: str) -> bytes:
    """A file of a folder that dvc.lock names, out of the shipped store."""
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"].values()
    outs = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}

    def stored(md5: str) -> bytes:
        return (ROOT / "store" / "files" / "md5" / md5[:2] / md5[2:]).read_bytes()

    files = {entry["relpath"]: entry["md5"] for entry in json.loads(stored(outs[folder]))}
    return stored(files[name])


def table(name: str, study: str = "controlled") -> pl.DataFrame:
    """A table of a study's results."""
    return pl.read_parquet(io.BytesIO(shipped("results", f"{study}/{name}.parquet")))


def written(row: dict[str, Any], name: str, decimals: int, scale: float = 1) -> str:
    """An estimate as the documents write it: value (low to high)."""
    ends = ("low", "high") if f"{name}_low" not in row else (f"{name}_low", f"{name}_high")
    value, low, high = (f"{row[key] * scale:.{decimals}f}" for key in (name, *ends))
    return f"{value} ({low} to {high})"
