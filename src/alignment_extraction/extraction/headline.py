"""What of a study is shown first, and how its parts are named for people."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import polars as pl

from alignment_extraction.statistics import wilson

CELL = ["model", "prefix"]
_CONTROLS = {"model": "model", "corpus": "unrelated corpus", "prefix": "prefix"}
_QUANTISED = re.compile(r"^(?P<family>.+)-(?P<kind>bf16|f(?:p)?(?:16|32)|i?q\d[a-z0-9_.-]*)$")


class Name(NamedTuple):
    """A model's name taken apart: `sft-q8` is the family `sft` quantised as `q8`."""

    family: str
    quantisation: str | None


def name_parts(model: str) -> Name:
    """Split a model's name by the suffix that names its quantisation, where it has one."""
    match = _QUANTISED.match(model)
    return Name(match["family"], match["kind"]) if match else Name(model, None)


def precision_order(quantisation: str) -> tuple[int, str]:
    """Sort key that puts the finest quantisation first: F32, F16, Q8, Q4, ..."""
    digits = re.search(r"\d+", quantisation)
    return -int(digits[0]) if digits else 0, quantisation


def headline_part(rates: pl.DataFrame) -> str:
    """The part shown first: the question, where it was matched."""
    parts = rates["part"].unique(maintain_order=True).to_list()
    return "question" if "question" in parts else str(parts[0])


def headline_reference(rates: pl.DataFrame) -> str:
    """What rates are first read against: members where the truth is known."""
    known = set(rates["reference"])
    for role in ("member", "unknown", "control", "held-out"):
        if f"role:{role}" in known:
            return f"role:{role}"
    return str(rates["reference"][0])


def headline_cells(rates: pl.DataFrame, count: int = 4) -> pl.DataFrame:
    """The cells with the most generations; among equals, the other models at the same prefix.

    Args:
        rates: from `pool_seeds`.
        count: how many at most.

    Returns:
        Columns model, prefix, n.
    """
    cells = (
        rates.group_by(CELL, maintain_order=True)
        .agg(pl.col("n").max())
        .sort("n", descending=True, maintain_order=True)
    )
    families = [name_parts(model).family for model in cells["model"]]
    most, prefix = cells["n"][0], cells["prefix"][0]
    return (
        cells.with_columns(family=pl.Series(families))
        .with_columns(
            fewer=pl.col("n") < most,
            other_prefix=pl.col("prefix") != prefix,
            # One model of each family first, so that bases stand beside what came of them.
            place=pl.int_range(pl.len()).over("prefix", "family"),
        )
        .sort("fewer", "other_prefix", "place", maintain_order=True)
        .head(count)
        .select(*CELL, "n")
    )


def one_of_each_family(rates: pl.DataFrame, prefix: str) -> list[str]:
    """Of each family of models the one with the most generations at `prefix`, in order."""
    chosen: dict[str, tuple[int, str]] = {}
    for row in rates.filter(prefix=prefix).iter_rows(named=True):
        family = name_parts(row["model"]).family
        if family not in chosen or row["n"] > chosen[family][0]:
            chosen[family] = (row["n"], row["model"])
    return [model for _, model in chosen.values()]


def pool_seeds(rates: pl.DataFrame) -> pl.DataFrame:
    """Rates of all seeds of a model and prefix together, with Wilson intervals at 95 %.

    Returns:
        The columns of the rates table without `seed`; `mean_score` is weighted by n.
    """
    keys = [*CELL, "part", "reference", "metric", "threshold"]
    pooled = rates.group_by(keys, maintain_order=True).agg(
        pl.col("n", "hits").sum(),
        mean_score=(pl.col("mean_score") * pl.col("n")).sum() / pl.col("n").sum(),
    )
    interval = wilson(pooled["hits"], pooled["n"])
    return pooled.with_columns(
        rate=pl.Series(interval.estimate),
        low=pl.Series(interval.low),
        high=pl.Series(interval.high),
    )


def ordered(rates: pl.DataFrame, names: Iterable[str], column: str) -> pl.DataFrame:
    """Rows sorted as `names` lists the values of `column`; the others come after."""
    places = {name: place for place, name in enumerate(names)}
    return rates.sort(
        pl.col(column).replace_strict(places, default=len(places), return_dtype=pl.Int64),
        maintain_order=True,
    )


def readable(reference: str) -> str:
    """A reference as people say it: `role:held-out` is `all held-out items`."""
    role = reference.removeprefix("role:")
    if role == reference:
        return reference
    return "the whole corpus" if role == "unknown" else f"all {role} items"


def cell_label(cell: Mapping[str, Any]) -> str:
    """How a cell is named."""
    return f"{cell['model']}, prefix {cell['prefix']}"


def of_headline_cells(tables: Mapping[str, pl.DataFrame], name: str) -> pl.DataFrame:
    """A calibration table's rows of the headline's cells, part and reference, of the first seed.

    Args:
        tables: the study's; `rates` is read beside the table `name`.
        name: of the table.

    Returns:
        Its rows in the order of the headline cells, with the column cell (their labels).
    """
    rates, table = tables["rates"], tables[name]
    cells = headline_cells(pool_seeds(rates))
    labels = [cell_label(cell) for cell in cells.iter_rows(named=True)]
    chosen = table.filter(part=headline_part(rates), reference=headline_reference(rates)).filter(
        pl.col("seed") == pl.col("seed").min()
    )
    return cells.select(*CELL, cell=pl.Series(labels, dtype=pl.String)).join(
        chosen, on=CELL, how="inner", maintain_order="left_right"
    )


def control_name(row: Mapping[str, Any]) -> str:
    """What a control is called."""
    if row["kind"] == "held-out rows":
        return "held-out corpus rows of like lengths"
    return f"{_CONTROLS[row['kind']]} {row['control']}"
