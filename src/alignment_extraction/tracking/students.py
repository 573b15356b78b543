"""What the MLflow runs of distillation students hold."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from alignment_extraction.files import read_parquet
from alignment_extraction.tracking.runs import DataFile, RunContent

_RESULTS = [
    f"{name}{end}" for name in ("value", "difference", "recovered") for end in ("", "_low", "_high")
]
_METRICS = [pl.col("key"), pl.col("step").cast(pl.Int64), pl.col("value").cast(pl.Float64)]


def student_runs(study: str, folder: Path, data: Mapping[str, DataFile]) -> list[RunContent]:
    """Give the runs of a study's students; none where none were trained.

    Those of one data set have a run for each seed with its curves, whose metrics (loss, reward,
    accuracy) are named alike in all runs so that MLflow lays them over each other; and a run
    `STUDY/distillation/FAMILY/DATA SET` with the results over all seeds, as
    `quantity/benchmark/measure`.

    Args:
        study: the study's key in params.yaml.
        folder: its results.
        data: the files that the study was made from.

    Raises:
        InputError: a table is missing or unreadable.
    """
    if not (folder / "distillation.parquet").exists():
        return []
    table = read_parquet(folder / "distillation.parquet")
    curves = read_parquet(folder / "distillation_curves.parquet")
    runs = []
    for (family, arm), own in table.group_by("family", "arm", maintain_order=True):
        name, params = f"{study}/distillation/{family}/{arm}", {"family": family, "arm": arm}
        results = own.unpivot(
            _RESULTS,
            index=["benchmark", "measure"],
            variable_name="quantity",
            value_name="number",
        )
        metrics = results.select(
            key=pl.concat_str("quantity", "benchmark", "measure", separator="/"),
            step=pl.lit(0, pl.Int64),
            value="number",
        )
        runs.append(_run(name, params, metrics, data))
        of_arm = curves.filter(pl.col("family") == family, pl.col("arm") == arm)
        for (seed,), drawn in of_arm.group_by("seed", maintain_order=True):
            metrics = drawn.select("step", "value", key="metric")
            own_params = {**params, "seed": seed}
            runs.append(_run(f"{name}/seed-{seed}", own_params, metrics, data))
    return runs


def _run(
    name: str, params: Mapping[str, object], metrics: pl.DataFrame, data: Mapping[str, DataFile]
) -> RunContent:
    finite = metrics.filter(pl.col("value").is_finite()).select(_METRICS)
    texts = {key: str(value) for key, value in params.items()}
    return RunContent(name, "student", texts, finite, data, {})
