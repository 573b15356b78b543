"""Quantisation and temperature: which cells stand together, and what each is compared with."""

from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.extraction.conditions import conditions, sampled_at
from alignment_extraction.files import write_parquet
from alignment_extraction.settings.studies import Cell
from alignment_extraction.statistics import subtract, wilson

CELLS = {  # temperature, n, hits
    Cell("sft-f16", "user", 0): (1.0, 100, 30),
    Cell("sft-q8", "user", 0): (1.0, 1000, 310),
    Cell("sft-q8", "user-t0.7", 0): (0.7, 100, 60),
    Cell("sft-q4", "user", 0): (1.0, 100, 20),
    Cell("sft-q8", "none", 0): (1.0, 100, 5),
    Cell("base-q8", "user", 0): (1.0, 100, 0),
}


def rates() -> pl.DataFrame:
    rows = []
    for cell, (_, n, hits) in CELLS.items():
        interval = wilson(hits, n)
        for reference in ("role:member", "a group"):
            rows.append(
                {
                    **cell._asdict(),
                    "part": "question",
                    "reference": reference,
                    "metric": "embedding",
                    "n": n,
                    "hits": hits,
                    "rate": float(interval.estimate),
                    "low": float(interval.low),
                    "high": float(interval.high),
                }
            )
    return pl.DataFrame(rows)


def sampled(folder: Path) -> pl.DataFrame:
    files = {}
    for cell, (temperature, _, _) in CELLS.items():
        files[cell] = folder / f"{cell.model}-{cell.prefix}.parquet"
        text = "none" if cell.prefix == "none" else "user"
        about = {"temperature": str(temperature), "prefix": text}
        write_parquet(pl.DataFrame({"index": [0]}), files[cell], about)
    return sampled_at(files)


def test_cells_of_one_family_and_prefix_stand_together(tmp_path: Path) -> None:
    table = conditions(rates(), sampled(tmp_path))
    assert set(table["reference"]) == {"role:member"}
    assert set(table.select("model", "prefix").rows()) == {
        ("sft-q8", "user"),
        ("sft-f16", "user"),
        ("sft-q4", "user"),
        ("sft-q8", "user-t0.7"),
    }
    first = table.filter("first").row(0, named=True)
    assert (first["model"], first["quantisation"], first["n"]) == ("sft-q8", "q8", 1000)
    assert first["difference"] is None
    assert set(table["first_prefix"]) == {"user"}
    cold = table.filter(prefix="user-t0.7").row(0, named=True)
    assert cold["temperature"] == 0.7
    wanted = subtract(wilson(60, 100), wilson(310, 1000))
    assert cold["difference"] == pytest.approx(0.29)
    assert (cold["difference_low"], cold["difference_high"]) == pytest.approx(
        (float(wanted.low), float(wanted.high))
    )


def test_shards_that_do_not_say(tmp_path: Path) -> None:
    path = tmp_path / "old.parquet"
    write_parquet(pl.DataFrame({"index": [0]}), path)
    cell = Cell("sft-q8", "user", 0)
    table = sampled_at({cell: path})
    assert table["temperature"].to_list() == [None]
    one = rates().filter(**cell._asdict())
    assert conditions(one, table).is_empty()
