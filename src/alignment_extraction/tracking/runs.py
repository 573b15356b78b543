"""What the MLflow runs of a study hold: parameters, metrics, curves and data of each.

Metrics are named `quantity/source/level/field/metric`, such as
`attributable/sft/rows/question/verbatim`. The steps of curves are thresholds in thousandths,
numbers of samples, or training steps.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from alignment_extraction.files import InputError, md5, read_json, read_parquet, sha256
from alignment_extraction.provenance import git_revision
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.vocabulary import Condition

_ENDS = ("", "_low", "_high")
_COMPETITION = ["source", "level", "field", "metric"]


class DataFile(NamedTuple):
    """A file that results were made from."""

    path: str
    md5: str
    """In hex: the name under which DVC keeps the file."""


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
        """SHA-256 of all of it."""
        return digest(
            [self.name, self.kind, self.params, self.metrics.rows(), self.data, self.tables]
        )


def digest(values: Any) -> str:
    """SHA-256, in hex, of values that JSON can hold."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def study_runs(
    name: str,
    study: StudySettings,
    folder: Path,
    data: Mapping[str, Path],
    curves: Mapping[str, Path],
) -> list[RunContent]:
    """Give the runs of a study: itself, its conditions, its scored models and training stages.

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
    files = {key: _data_file(path) for key, path in data.items()}

    def files_of(condition: str = "") -> dict[str, DataFile]:
        return {
            key: file for key, file in files.items() if key.rpartition("/")[0] in ("", condition)
        }

    numbers = read_json(folder / "metrics.json")
    # Scores and rows are as large as the data: they stay with DVC.
    made = [path for path in sorted(folder.glob("*.parquet")) if path.stem not in _LARGE]
    hashes = {path.name: sha256(path) for path in (folder / "metrics.json", *made)}
    settings = flat(study.model_dump(mode="json"))
    runs = [RunContent(name, "study", settings, _numbers(numbers), files_of(), hashes)]
    attribution = read_parquet(folder / "attribution.parquet")
    for condition in study.all_conditions():
        own = attribution.filter(**condition._asdict())
        place = "/".join(map(str, (*condition[:2], f"seed-{condition.seed}")))
        params = _condition_params(study, condition)
        metrics = _condition_metrics(own)
        runs.append(
            RunContent(f"{name}/{place}", "condition", params, metrics, files_of(place), {})
        )
    if study.likelihood:
        risk, shift, membership = (
            read_parquet(folder / f"{table}.parquet") for table in ("risk", "shift", "membership")
        )
        params = flat(study.likelihood.model_dump(mode="json", exclude={"models"}))
        for model in study.likelihood.models:
            frames = (frame.filter(model=model) for frame in (risk, shift, membership))
            metrics = _model_metrics(*frames)
            of_model = {"model": model, **params}
            runs.append(
                RunContent(f"{name}/models/{model}", "model", of_model, metrics, files_of(), {})
            )
    for stage, path in curves.items():
        curve = _valid(read_parquet(path).rename({"metric": "key"}))
        stage_name = f"{name}/training/{stage}"
        runs.append(RunContent(stage_name, "training", {"stage": stage}, curve, files_of(), {}))
    return runs


_LARGE = ("scores", "rows")


def git_tags() -> dict[str, str]:
    """Tags with the revision of the working directory's git tree, and whether files were changed.

    None outside of a git tree, or without git.
    """
    described = git_revision()
    if described is None:
        return {}
    revision = described.removesuffix("-dirty")
    return {
        "mlflow.source.git.commit": revision,
        "git_changes": "none" if revision == described else "uncommitted",
    }


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


def _data_file(path: Path) -> DataFile:
    try:
        return DataFile(path.as_posix(), md5(path))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); run the step that makes it first"
        ) from None


def _condition_params(study: StudySettings, condition: Condition) -> dict[str, str]:
    shared = {"corpus", "embedder", "fields", "index", "thresholds"}
    sampling = study.sampling_of(condition).model_dump(mode="json")
    params = flat(
        {
            **condition._asdict(),
            **study.model_dump(mode="json", include=shared),
            "sampling": sampling,
        }
    )
    prefix = study.prefix_of(condition)
    return params if isinstance(prefix, str) else {**params, "prefix_text": prefix.text}


def _valid(metrics: pl.DataFrame) -> pl.DataFrame:
    """Keys that MLflow takes and finite values: it would store an infinite one as 1.8e308."""
    return metrics.select(
        pl.col("key").str.replace_all(r"[^\w.:/ -]", "_"),
        pl.col("step").cast(pl.Int64),
        pl.col("value").cast(pl.Float64),
    ).filter(pl.col("value").is_finite())


def _metrics(
    frame: pl.DataFrame,
    keys: Sequence[str],
    values: Mapping[str, str],
    step: pl.Expr | None = None,
) -> pl.DataFrame:
    """Metrics `quantity/key/key/...` of a table; `values` gives the column of each quantity."""
    step = pl.lit(0) if step is None else step
    return _valid(
        pl.concat(
            [
                frame.select(
                    key=pl.concat_str(pl.lit(quantity), *keys, separator="/"),
                    step=step,
                    value=pl.col(column).cast(pl.Float64),
                )
                for quantity, column in values.items()
            ]
        )
    )


def _condition_metrics(attribution: pl.DataFrame) -> pl.DataFrame:
    fixed = attribution.filter(at="fixed")
    names = ["n", "member_wins", "twin_wins", "attributable", "false_discovery_rate"]
    values = {name: name for name in names}
    values |= {"attributable_low": "low", "attributable_high": "high"}
    sweep = attribution.filter(at="sweep")
    curves = {"sweep_attributable": "attributable", "sweep_fdr": "false_discovery_rate"}
    # Not the point's number, so that sweeps over different ranges lie on one axis.
    thousandths = (pl.col("threshold") * 1000).round()
    return pl.concat(
        [_metrics(fixed, _COMPETITION, values), _metrics(sweep, _COMPETITION, curves, thousandths)]
    )


def _model_metrics(
    risk: pl.DataFrame, shift: pl.DataFrame, membership: pl.DataFrame
) -> pl.DataFrame:
    curves = {"rows_at_risk": "at_risk", "expected_distinct": "expected_distinct"}
    changes = {f"shift{end}": column for end, column in zip(_ENDS, _INTERVAL, strict=True)}
    attacks = {"auc": "auc", "auc_low": "low", "auc_high": "high"}
    attacks |= {f"tpr{end}": f"tpr{end}" for end in _ENDS}
    form = pl.when("template").then(pl.lit("with-template")).otherwise(pl.lit("without-template"))
    return pl.concat(
        [
            _metrics(risk, ["source", "role"], curves, pl.col("samples")),
            _metrics(
                shift.with_columns(form=form), ["base", "source", "target", "form", "per"], changes
            ),
            _metrics(
                membership.with_columns(form=form), ["source", "target", "form", "attack"], attacks
            ),
        ]
    )


_INTERVAL = ("difference", "low", "high")


def _numbers(values: Mapping[str, Any]) -> pl.DataFrame:
    """The numbers of metrics.json."""
    numbers = {
        "/".join(key): float(value)
        for key, value in _leaves(values)
        if isinstance(value, int | float)
    }
    return _valid(
        pl.DataFrame(
            {"key": list(numbers), "step": [0] * len(numbers), "value": list(numbers.values())},
            schema={"key": pl.String, "step": pl.Int64, "value": pl.Float64},
        )
    )
