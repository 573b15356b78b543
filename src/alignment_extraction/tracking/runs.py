"""What the MLflow runs of a study hold; runs.toml names their metrics."""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from alignment_extraction.files import md5, read_json, read_parquet, sha256
from alignment_extraction.layout import condition_folder
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.vocabulary import Condition

_METRICS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
_LARGE = ("scores", "rows")
"""Tables as large as the data: they stay with DVC."""


class DataFile(NamedTuple):
    """A file that results were made from, and its MD5 in hex, DVC's name for it."""

    path: str
    md5: str


class RunContent(NamedTuple):
    """What one run holds, times and the git revision aside."""

    name: str
    kind: str
    """`study`, `condition`, `model`, `training` or `student`."""
    params: Mapping[str, str]
    metrics: pl.DataFrame
    """Columns key (String), step (Int64), value (Float64, finite)."""
    data: Mapping[str, DataFile]
    tables: Mapping[str, str]
    """SHA-256 of each file of results that goes with the run, by file name."""

    def fingerprint(self) -> str:
        """SHA-256, in hex, of all of it."""
        content = {**self._asdict(), "metrics": self.metrics.rows()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def study_runs(
    name: str,
    study: StudySettings,
    folder: Path,
    data: Mapping[str, Path],
    curves: Mapping[str, Path],
) -> list[RunContent]:
    """The runs of a study: itself, its conditions, scored models, training stages and students.

    Students of one data set have a run with the results over all seeds, and one for each seed with
    its curves, whose metrics are named alike in all so that MLflow lays them over each other.

    Args:
        name: the study's key in params.yaml.
        study: its settings.
        folder: its results.
        data: files that it was made from. One named like a condition with a slash and more behind
            it, such as `sft/user/seed-0/00000`, belongs to that condition's run; any other to all.
        curves: Parquet files (step, metric, value) by training stage.

    Raises:
        InputError: a file is missing or unreadable.
    """
    files = {key: DataFile(path.as_posix(), md5(path)) for key, path in data.items()}

    def run(
        place: str, kind: str, params: Any, metrics: pl.DataFrame, tables: Mapping[str, str] = {}
    ) -> RunContent:
        own = {key: file for key, file in files.items() if key.rpartition("/")[0] in ("", place)}
        return RunContent(f"{name}/{place}".rstrip("/"), kind, flat(params), metrics, own, tables)

    numbers = [
        ("/".join(key), 0, float(value))
        for key, value in _leaves(read_json(folder / "metrics.json"))
        if isinstance(value, int | float)
    ]
    metrics = pl.DataFrame(numbers, ["key", "step", "value"], orient="row")
    made = [path for path in sorted(folder.glob("*.parquet")) if path.stem not in _LARGE]
    hashes = {path.name: sha256(path) for path in (folder / "metrics.json", *made)}
    runs = [run("", "study", study.model_dump(mode="json"), _valid(metrics), hashes)]
    attribution = read_parquet(folder / "attribution.parquet")
    for condition in study.all_conditions():
        table = attribution.filter(**condition._asdict())
        own = pl.concat([_metrics(at, table.filter(at=at)) for at in ("fixed", "sweep")])
        params = _condition_params(study, condition)
        runs.append(run(condition_folder(condition), "condition", params, own))
    if about := study.likelihood:
        kinds = ("risk", "shift", "membership")
        tables = {kind: read_parquet(folder / f"{kind}.parquet") for kind in kinds}
        for model in about.models:
            own = pl.concat([_metrics(k, t.filter(model=model)) for k, t in tables.items()])
            params = {"model": model, **about.model_dump(mode="json", exclude={"models"})}
            runs.append(run(f"models/{model}", "model", params, own))
    for stage, path in curves.items():
        curve = _valid(read_parquet(path).rename({"metric": "key"}))
        runs.append(run(f"training/{stage}", "training", {"stage": stage}, curve))
    if (folder / "distillation.parquet").exists():
        found = read_parquet(folder / "distillation.parquet")
        drawn = read_parquet(folder / "distillation_curves.parquet").rename({"metric": "key"})
        for (family, arm), own in found.group_by("family", "arm", maintain_order=True):
            place, params = f"distillation/{family}/{arm}", {"family": family, "arm": arm}
            runs.append(run(place, "student", params, _metrics("distillation", own)))
            of_arm = drawn.filter(family=family, arm=arm)
            for (seed,), curve in of_arm.group_by("seed", maintain_order=True):
                own_params = {**params, "seed": seed}
                runs.append(run(f"{place}/seed-{seed}", "student", own_params, _valid(curve)))
    return runs


def flat(values: Any) -> dict[str, str]:
    """Nested settings as `a.b.0.c` keys; a list of plain values is one value."""
    return {
        ".".join(key): ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in _leaves(values)
    }


def _leaves(values: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(values, list) and any(isinstance(value, dict) for value in values):
        values = dict(enumerate(values))
    if isinstance(values, dict):
        for k, value in values.items():
            yield from _leaves(value, (*key, str(k)))
    else:
        yield key, values


def _condition_params(study: StudySettings, condition: Condition) -> dict[str, Any]:
    shared = {"corpus", "embedder", "fields", "index", "thresholds"}
    params = condition._asdict() | study.model_dump(mode="json", include=shared)
    params["sampling"] = study.sampling_of(condition).model_dump(mode="json")
    prefix = study.prefix_of(condition)
    return params if isinstance(prefix, str) else {**params, "prefix_text": prefix.text}


def _valid(metrics: pl.DataFrame) -> pl.DataFrame:
    """Keys that MLflow takes and finite values: it would store an infinite one as 1.8e308."""
    return metrics.select(
        pl.col("key").cast(pl.String).str.replace_all(r"[^\w.:/ -]", "_"),
        pl.col("step").cast(pl.Int64),
        pl.col("value").cast(pl.Float64),
    ).filter(pl.col("value").is_finite())


def _metrics(kind: str, table: pl.DataFrame) -> pl.DataFrame:
    """Metrics of a table of results, as runs.toml has them."""
    keys, columns = _METRICS[kind]["keys"], _METRICS[kind]["quantities"]
    step, scale = _METRICS[kind].get("step"), _METRICS[kind].get("scale", 1)
    steps = (pl.col(step) * scale).round() if step else pl.lit(0)
    if "form" in keys:
        forms = pl.when("template").then(pl.lit("with-template"))
        table = table.with_columns(form=forms.otherwise(pl.lit("without-template")))
    wide = table.select(*keys, step=steps, **columns)
    long = wide.unpivot(list(columns), index=[*keys, "step"], value_name="number")
    named = pl.concat_str("variable", *keys, separator="/")
    return _valid(long.select("step", key=named, value="number"))
