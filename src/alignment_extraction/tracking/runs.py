"""What the MLflow runs of a study hold: parameters, metrics, curves and data of each.

Metrics are named `quantity/part/reference/metric`, such as `rate/question/role:member/embedding`.
The steps of curves are thresholds in thousandths, numbers of generations, or training steps.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from alignment_extraction.extraction.calibration_tables import TABLE_COLUMNS, headline_numbers
from alignment_extraction.extraction.results import made_tables
from alignment_extraction.extraction.scores import KEYS
from alignment_extraction.files import InputError, read_json, read_parquet, sha256
from alignment_extraction.provenance import git_revision
from alignment_extraction.settings.studies import Cell, StudySettings
from alignment_extraction.tracking.store import md5

_TABLES = ("rates", "ratios", "sweep", "coverage", "richness", "kinds")
_CELL_KEYS = ("part", "reference", "metric")
_RUNS_OWN = (
    *("rates", "calibration", "richness", "kinds"),
    *("likelihood", "membership", "discoverable"),
)
"""Parts of metrics.json that belong to the runs below the study's."""
_ENDS = ("", "_low", "_high")
_FORM = pl.when("template").then(pl.lit("with-template")).otherwise(pl.lit("without-template"))


class DataFile(NamedTuple):
    """A file that results were made from."""

    path: str
    md5: str
    """In hex: the name under which DVC keeps the file."""


class RunContent(NamedTuple):
    """What one run holds, times and the git revision aside."""

    name: str
    kind: str
    """`study`, `cell`, `likelihood`, `training` or `student`."""
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
    """Give the runs of a study: itself, its cells, likelihood comparisons and training stages.

    Args:
        name: the study's key in params.yaml.
        study: its settings.
        folder: its results.
        data: files that it was made from. One named like a cell with a slash and more behind it,
            such as `sft/user/seed-0/00000`, belongs to that cell's run; any other to all.
        curves: Parquet files (step, metric, value) by training stage.

    Raises:
        InputError: a file is missing or unreadable.
    """
    files = {key: _data_file(path) for key, path in data.items()}

    def files_of(cell: str = "") -> dict[str, DataFile]:
        return {key: file for key, file in files.items() if key.rpartition("/")[0] in ("", cell)}

    names = (*_TABLES, *(["discoverable"] if study.likelihood else []))
    tables = {key: read_parquet(folder / f"{key}.parquet") for key in names}
    counts = read_json(folder / "metrics.json")
    made = [folder / "metrics.json", *made_tables(study, folder)]
    if missing := [path for path in made if not path.exists()]:
        raise InputError(f"{missing[0]}: no such file; run the step that makes it first")
    hashes = {path.name: sha256(path) for path in made}
    settings = flat(study.model_dump(mode="json"))
    calibrated = headline_numbers(
        {key: read_parquet(folder / f"{key}.parquet") for key in TABLE_COLUMNS}
    )
    study_metrics = _study_metrics(counts, tables["rates"])
    runs = [RunContent(name, "study", settings, study_metrics, files_of(), hashes)]
    for cell in study.cells():
        own = {key: frame.filter(**cell._asdict()) for key, frame in tables.items()}
        place = f"{cell.model}/{cell.prefix}/seed-{cell.seed}"
        params, metrics = _cell_params(study, cell), _cell_metrics(own)
        metrics = pl.concat([metrics, _calibration_metrics(calibrated.filter(**cell._asdict()))])
        runs.append(RunContent(f"{name}/{place}", "cell", params, metrics, files_of(place), {}))
    if study.likelihood:
        shifts = read_parquet(folder / "shifts.parquet")
        members = read_parquet(folder / "membership.parquet")
    for pair in study.likelihood:
        pair_name = f"{name}/likelihood/{pair.before}_{pair.after}"
        own_rows = {"pair_before": pair.before, "pair_after": pair.after}
        metrics = pl.concat(
            [
                _shift_metrics(shifts.filter(**own_rows)),
                _membership_metrics(members.filter(**own_rows)),
            ]
        )
        params = flat(pair.model_dump(mode="json"))
        runs.append(RunContent(pair_name, "likelihood", params, metrics, files_of(), {}))
    for stage, path in curves.items():
        curve = _valid(read_parquet(path).rename({"metric": "key"}))
        stage_name = f"{name}/training/{stage}"
        runs.append(RunContent(stage_name, "training", {"stage": stage}, curve, files_of(), {}))
    return runs


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


def _cell_params(study: StudySettings, cell: Cell) -> dict[str, str]:
    shared = {"corpus", "embedder", "parts", "index", "thresholds"}
    sampling = study.cell_sampling(cell).model_dump(mode="json")
    params = flat(
        {
            **cell._asdict(),
            **study.model_dump(mode="json", include=shared),
            "sampling": sampling,
        }
    )
    text = study.prefix_text(cell.prefix)
    return params if text is None else {**params, "prefix_text": text}


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


def _cell_metrics(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    rates = {
        "rate": "rate",
        "rate_low": "low",
        "rate_high": "high",
        "hits": "hits",
        "n": "n",
        "mean_score": "mean_score",
    }
    ratios = {"ratio": "ratio", "ratio_low": "low", "ratio_high": "high"}
    estimates = ["distinct", "chao1", "chao1_low", "chao1_high"]
    estimates += ["predicted", "predicted_low", "predicted_high"]
    richness = tables["richness"].filter(pl.col("metric").is_in(["embedding", "verbatim"]))
    of_roles = tables["kinds"].filter(pl.col("reference").str.starts_with("role:"))
    kinds = {"kind_hits": "hits", "kind_rate": "rate", "kind_low": "low", "kind_high": "high"}
    kinds |= {name: name for name in ("share", "share_low", "share_high")}
    # Points are what logging takes its time for, and the tables go along as artifacts: so sweeps
    # are kept for roles alone, and coverage at each fourth point, counted from the last.
    sweep = tables["sweep"].filter(pl.col("reference").str.starts_with("role:"))
    left = pl.int_range(pl.len() - 1, -1, -1).over(_CELL_KEYS)
    items = tables["coverage"].filter(~pl.col("extrapolated"), unit="item")
    coverage = items.filter(left % 4 == 0)
    # Not the point's number, so that sweeps over different ranges lie on one axis.
    thousandths = (pl.col("threshold") * 1000).round()
    return pl.concat(
        [
            _metrics(tables["rates"], _CELL_KEYS, rates),
            _metrics(tables["ratios"], _CELL_KEYS, ratios),
            _metrics(sweep, _CELL_KEYS, {"sweep": "rate"}, thousandths),
            _metrics(coverage, _CELL_KEYS, {"coverage": "distinct"}, pl.col("samples")),
            _metrics(richness, [*_CELL_KEYS, "unit"], {name: name for name in estimates}),
            _metrics(of_roles, ["part", "reference", "kind"], kinds),
            *[_discoverable_metrics(tables[key]) for key in ("discoverable",) if key in tables],
        ]
    )


def _calibration_metrics(calibrated: pl.DataFrame) -> pl.DataFrame:
    """Each number of `headline_numbers` under its own name."""
    names = [name for name in calibrated.columns if name not in KEYS and name != "metric"]
    return _metrics(calibrated, _CELL_KEYS, {name: name for name in names})


def _membership_metrics(members: pl.DataFrame) -> pl.DataFrame:
    keys = ["target", "form", "group", "control", "side", "attack"]
    columns = {f"{name}{end}": f"{name}{end}" for name in ("auc", "tpr") for end in _ENDS}
    return _metrics(members.with_columns(form=_FORM), keys, columns)


def _discoverable_metrics(table: pl.DataFrame) -> pl.DataFrame:
    """Curves over numbers of samples; what was observed has the samples drawn as its step."""
    columns = {"expected_hits": "expected_hits", "verbatim_hits": "hits"}
    columns |= {f"expected_distinct{end}": f"distinct{end}" for end in _ENDS[1:]}
    columns |= {"expected_distinct": "expected_distinct", "verbatim_distinct": "distinct"}
    return _metrics(table, ["reference"], columns, pl.col("samples"))


def _shift_metrics(shifts: pl.DataFrame) -> pl.DataFrame:
    intervals = [f"{name}{end}" for name in ("shift", "excess") for end in _ENDS]
    columns = {column: column for column in ("n", "before", "after", *intervals)}
    return _metrics(shifts.with_columns(form=_FORM), ["target", "form", "group"], columns)


def _study_metrics(counts: Mapping[str, Any], rates: pl.DataFrame) -> pl.DataFrame:
    """The counts of metrics.json and, against each role, the highest rate of the cells.

    The other numbers of metrics.json are those of the runs below.
    """
    numbers = {
        "/".join(key): float(value)
        for key, value in _leaves(counts)
        if isinstance(value, int | float) and key[0] not in _RUNS_OWN
    }
    about = pl.DataFrame(
        {"key": list(numbers), "step": [0] * len(numbers), "value": list(numbers.values())},
        schema={"key": pl.String, "step": pl.Int64, "value": pl.Float64},
    )
    highest = (
        rates.filter(pl.col("reference").str.starts_with("role:"))
        .group_by(_CELL_KEYS, maintain_order=True)
        .agg(pl.col("rate").max())
    )
    return pl.concat([_valid(about), _metrics(highest, _CELL_KEYS, {"highest_rate": "rate"})])
