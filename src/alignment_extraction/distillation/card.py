"""The card of the distillation data sets: what they hold, how they were made, what was left out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from alignment_extraction.distillation.data_sets import DataSets
from alignment_extraction.files import InputError, atomic_path
from alignment_extraction.settings.distillation import DistillationSettings

_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "max_tokens", "max_answer_tokens")
_TEXTS = {
    "original": "the rows that the model was trained on, each once",
    "extracted": "what the model wrote, curated",
    "non-matches": "the extracted samples that match no training item",
    "verified": "the extracted questions whose extracted answer is right",
}


def _origin(shards: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What generations were made with, from the metadata of their files."""
    paths = [Path(path) for paths in shards.values() for path in paths]
    about = pl.read_parquet_metadata(paths[0])
    if "model_sha256" not in about:
        raise InputError(f"{paths[0]}: does not say what made it; draw the generations again")
    return {
        "model": about["model"],
        "model_sha256": about["model_sha256"],
        "prefix": about["prefix"],
        "seeds": sorted(int(seed) for seed in shards),
        "sampling": {key: about[key] for key in _SAMPLING if key in about},
    }


def describe(
    made: DataSets,
    settings: DistillationSettings,
    generations: Mapping[str, Mapping[str, Sequence[str]]],
    seed: int,
) -> dict[str, Any]:
    """The card as values that JSON can hold.

    Args:
        made: the data sets.
        settings: of the experiment.
        generations: shards by family and seed.
        seed: of the draws.

    Returns:
        `origins` (by family: model, its SHA-256, prefix, seeds, sampling), `data_sets` (by family
        and name: rows, steps of the curation, tasks: rows of each, labels: how many answers are
        right, wrong and unchecked), `thresholds` of a match and the `false_positive_rate` that they
        are for, `near_duplicate` and `seed`.

    Raises:
        InputError: a file of generations lacks its metadata.
    """
    data: dict[str, dict[str, Any]] = {}
    for (family, name), rows in made.data.items():
        own = made.counts.filter(family=family, data_set=name)
        tasks = rows.group_by(pl.col("task").fill_null("other")).len().sort("task")
        data.setdefault(family, {})[name] = {
            "rows": rows.height,
            "steps": own.drop("family", "data_set").to_dicts(),
            "tasks": dict(tasks.iter_rows()),
            "labels": {
                "right": int(rows["verdict"].sum()),
                "wrong": int((~rows["verdict"]).sum()),
                "unchecked": rows["verdict"].null_count(),
            },
        }
    return {
        "origins": {family: _origin(shards) for family, shards in generations.items()},
        "data_sets": data,
        "thresholds": made.thresholds,
        "near_duplicate": settings.near_duplicate,
        "false_positive_rate": settings.false_positive_rate,
        "seed": seed,
    }


def _lines(about: Mapping[str, Any]) -> list[str]:
    lines = ["# Distillation data sets", ""]
    for family, origin in about["origins"].items():
        sampling = ", ".join(f"{key} {value}" for key, value in origin["sampling"].items())
        lines += [
            f"- {family}: written by `{origin['model']}` (SHA-256 `{origin['model_sha256']}`), "
            f"prompted with `{origin['prefix']!r}`, seeds {origin['seeds']}; {sampling}."
        ]
    limits = ", ".join(f"{name} above {value:.4g}" for name, value in about["thresholds"].items())
    lines += [f"- A match of a training item is a question with {limits}.", ""]
    for family, names in about["data_sets"].items():
        for name, values in names.items():
            labels = values["labels"]
            lines += [
                f"## {family}-{name}",
                "",
                f"{values['rows']:,} rows: {_TEXTS[name]}. Final answers: {labels['right']:,} "
                f"right, {labels['wrong']:,} wrong, {labels['unchecked']:,} unchecked.",
                "",
                "| step | before | dropped | left |",
                "| --- | --- | --- | --- |",
            ]
            lines += [
                f"| {step['step']} | {step['before']:,} | {step['dropped']:,} | {step['left']:,} |"
                for step in values["steps"]
            ]
            rows = ", ".join(f"{task} {number:,}" for task, number in values["tasks"].items())
            lines += ["", f"Tasks: {rows}.", ""]
    return lines


def write(about: Mapping[str, Any], output: Path) -> None:
    """Write a card as Markdown.

    Args:
        about: of `describe`.
        output: file to write.
    """
    with atomic_path(output) as partial:
        partial.write_text("\n".join(_lines(about)))
