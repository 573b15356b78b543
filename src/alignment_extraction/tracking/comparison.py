"""Comparison of two runs in MLflow: is the difference of their rates more than noise?"""

from typing import NamedTuple

import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.statistics import Interval, subtract, wilson
from alignment_extraction.tracking.record import find_run


class Comparison(NamedTuple):
    """Two runs side by side."""

    run_a: str
    run_b: str
    parameters: pl.DataFrame
    """Parameters in which they differ: columns parameter, a, b (String; null where it has none)."""
    rates: pl.DataFrame
    """One row for each part x reference x metric that both have: part, reference, metric, n_a,
    hits_a, rate_a, n_b, hits_b, rate_b, difference (b minus a), low, high (its interval at 95 %),
    verdict (`higher` or `lower` where the interval leaves 0 out, else `noise`)."""


def difference(hits_a: int, n_a: int, hits_b: int, n_b: int, level: float = 0.95) -> Interval:
    """Difference of two independent proportions, b minus a, with Newcombe's hybrid score interval.

    Newcombe 1998, method 10: made of the Wilson intervals of the two, without continuity
    correction. It stays honest where one or both have no hits.

    Args:
        hits_a: successes of the first.
        n_a: its trials, at least 1.
        hits_b: successes of the second.
        n_b: its trials, at least 1.
        level: coverage of the interval.
    """
    change = subtract(wilson(hits_b, n_b, level), wilson(hits_a, n_a, level))
    return Interval(*map(float, change))


def compare(run_a: str, run_b: str, uri: str | None = None) -> Comparison:
    """Compare the extraction rates of two runs of a model x prefix x seed.

    Args:
        run_a: the first run's name, which means the current run of it, or its id.
        run_b: the second's.
        uri: of MLflow, as for `tracking.track`.

    Raises:
        InputError: a run is not found, has no rates, or the two share no part, reference and
            metric; or MLflow cannot be reached.
    """
    runs = [find_run(run, uri) for run in (run_a, run_b)]
    params_a, params_b = (run.data.params for run in runs)
    parameters = [
        (key, params_a.get(key), params_b.get(key))
        for key in sorted(params_a.keys() | params_b.keys())
        if params_a.get(key) != params_b.get(key)
    ]
    columns = [("parameter", pl.String), ("a", pl.String), ("b", pl.String)]
    counts_a, counts_b = (_counts(run.info.run_name, run.data.metrics) for run in runs)
    shared = sorted(counts_a.keys() & counts_b.keys())
    if not shared:
        raise InputError(
            f"runs {run_a} and {run_b} have no part, reference and metric in common; compare runs "
            "of one corpus"
        )
    rows = []
    for key in shared:
        (hits_a, n_a), (hits_b, n_b) = counts_a[key], counts_b[key]
        part, reference, metric = key.split("/")
        change = difference(hits_a, n_a, hits_b, n_b)
        rows.append(
            {
                "part": part,
                "reference": reference,
                "metric": metric,
                "n_a": n_a,
                "hits_a": hits_a,
                "rate_a": hits_a / n_a,
                "n_b": n_b,
                "hits_b": hits_b,
                "rate_b": hits_b / n_b,
                "difference": change.estimate,
                "low": change.low,
                "high": change.high,
                "verdict": "higher" if change.low > 0 else "lower" if change.high < 0 else "noise",
            }
        )
    name_a, name_b = (f"{run.info.run_name} ({run.info.run_id})" for run in runs)
    differing = pl.DataFrame(parameters, schema=columns, orient="row")
    return Comparison(name_a, name_b, differing, pl.DataFrame(rows))


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
            f"Extraction rates, b minus a, with intervals at 95 %:\n{rates}\n\n"
            f"{beyond} of {rates.height} differences are more than noise; "
            f"about {rates.height / 20:.1f} would seem so by chance if nothing differed."
        )


def _counts(name: str, metrics: dict[str, float]) -> dict[str, tuple[int, int]]:
    """Hits and generations by `part/reference/metric`."""
    counts = {
        key.removeprefix("hits/"): (round(hits), round(metrics["n" + key.removeprefix("hits")]))
        for key, hits in metrics.items()
        if key.startswith("hits/")
    }
    if not counts:
        raise InputError(
            f"run {name} has no extraction rates; name a run of a model, a prefix and a seed, "
            "such as study/model/prefix/seed-0"
        )
    return counts
