"""Comparison of two runs in MLflow: is the difference of their rates more than noise?"""

from typing import NamedTuple

import numpy as np
import polars as pl
from mlflow.entities import Run

from alignment_extraction.files import InputError
from alignment_extraction.statistics import Interval, subtract
from alignment_extraction.tracking.record import find_run


class Comparison(NamedTuple):
    """Two runs side by side."""

    run_a: str
    run_b: str
    parameters: pl.DataFrame
    """Parameters in which they differ: columns parameter, a, b (String; null where it has none)."""
    rates: pl.DataFrame
    """One row for each source x level x field x metric that both have: those, then attributable_a
    and attributable_b (rates of generations), difference (b minus a), low, high (its interval at
    95 %), verdict (`higher` or `lower` where the interval leaves 0 out, else `noise`)."""


def compare(run_a: str, run_b: str, uri: str | None = None) -> Comparison:
    """Compare the attributable rates of two conditions at the fixed thresholds.

    The two are taken as independent and their intervals joined by the method of variance estimates
    recovery (`statistics.subtract`). Conditions that are held against the same rows share the
    noise of these rows, so that the interval is, if anything, too wide.

    Args:
        run_a, run_b: names, which mean the current runs of these, or ids; see `record.find_run`.
        uri: of MLflow, as for `record.track`.

    Raises:
        InputError: a run is not found, has no rates, or the two share no source, level, field and
            metric; or MLflow cannot be reached.
    """
    runs = [find_run(run, uri) for run in (run_a, run_b)]
    rates_a, rates_b = map(_rates, runs)
    shared = sorted(rates_a.keys() & rates_b.keys())
    if not shared:
        raise InputError(
            f"runs {run_a} and {run_b} have no source, level, field and metric in common; compare "
            "runs of one corpus"
        )
    a, b = (Interval(*np.array([r[key] for key in shared]).T) for r in (rates_a, rates_b))
    keys = [key.split("/") for key in shared]
    rates = pl.DataFrame(keys, schema=["source", "level", "field", "metric"], orient="row")
    rates = rates.with_columns(
        attributable_a=a.estimate,
        attributable_b=b.estimate,
        **dict(zip(("difference", "low", "high"), subtract(b, a), strict=True)),
    )
    higher = pl.when(pl.col("low") > 0).then(pl.lit("higher"))
    verdict = higher.when(pl.col("high") < 0).then(pl.lit("lower")).otherwise(pl.lit("noise"))
    params_a, params_b = (run.data.params for run in runs)
    values = [
        (key, params_a.get(key), params_b.get(key))
        for key in sorted(params_a.keys() | params_b.keys())
    ]
    schema = {name: pl.String() for name in ("parameter", "a", "b")}
    parameters = pl.DataFrame(values, schema, orient="row").filter(
        pl.col("a").ne_missing(pl.col("b"))
    )
    name_a, name_b = (f"{run.info.run_name} ({run.info.run_id})" for run in runs)
    return Comparison(name_a, name_b, parameters, rates.with_columns(verdict=verdict))


def describe(comparison: Comparison) -> str:
    """Give a comparison as text: what differs, the table of rates, how many are more than noise."""
    rates = comparison.rates
    beyond = rates.filter(pl.col("verdict") != "noise").height
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=1000,
        fmt_str_lengths=200,
        tbl_formatting="ASCII_MARKDOWN",
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        float_precision=4,
    ):
        settings = f"Settings that differ:\n{comparison.parameters}"
        if comparison.parameters.is_empty():
            settings = "No setting differs."
        return (
            f"a: {comparison.run_a}\nb: {comparison.run_b}\n\n{settings}\n\n"
            f"Attributable rates, b minus a, with intervals at 95 %:\n{rates}\n\n"
            f"{beyond} of {rates.height} differences are more than noise; "
            f"about {rates.height / 20:.1f} would seem so by chance if nothing differed."
        )


def _rates(run: Run) -> dict[str, list[float]]:
    """Attributable rates and their bounds by `source/level/field/metric`."""
    metrics = run.data.metrics
    names = [key.partition("/")[2] for key in metrics if key.startswith("attributable/")]
    if not names:
        raise InputError(
            f"run {run.info.run_name} has no attributable rates; name a run of a model, a prefix "
            "and a seed, such as study/model/prefix/seed-0"
        )
    ends = ("", "_low", "_high")
    return {name: [metrics[f"attributable{end}/{name}"] for end in ends] for name in names}
