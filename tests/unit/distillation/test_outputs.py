"""Figures, the report's section and MLflow runs of students, from tables with known answers."""

from pathlib import Path

import matplotlib
import numpy as np
import polars as pl
import pytest

from alignment_extraction.distillation.results import (
    Student,
    count_table,
    curve_table,
    results_table,
)
from alignment_extraction.figures import distillation as figures
from alignment_extraction.figures.style import STYLE, svg
from alignment_extraction.files import write_parquet
from alignment_extraction.report import distillation as report
from alignment_extraction.settings.distillation import FAMILIES
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.tracking.students import student_runs

# Chance of a right answer, and mean loss, of each data set's students.
TRUTH = {
    "start": (0.0, 6.0),
    "original": (0.6, 1.0),
    "extracted": (0.6, 1.0),
    "non-matches": (0.2, 2.0),
    "verified": (0.9, 0.5),
}


def tables() -> dict[str, pl.DataFrame]:
    generator = np.random.default_rng(0)
    items = generator.normal(0, 0.1, 300)
    students, curves = {}, {}
    for family, arms in FAMILIES.items():
        for arm in arms:
            for seed in (0,) if arm == "start" else (0, 1, 2):
                right, loss = TRUTH[arm]
                student = Student(family, arm, seed)
                students[student] = pl.DataFrame(
                    {
                        "benchmark": ["sft.fresh-instance"] * 300,
                        "id": [str(i) for i in range(300)],
                        "right": (generator.random(300) < right).astype(float),
                        "loss": loss + items + generator.normal(0, 0.05, 300),
                    }
                )
                if arm != "start":
                    rows = [(step, name, 0.5) for step in (1, 2) for name in ("reward", "accuracy")]
                    curves[student] = pl.DataFrame(
                        rows, schema=["step", "metric", "value"], orient="row"
                    )
    curation = pl.DataFrame(
        [("sft", "extracted", "exact-duplicate", 5, 2, 3)],
        schema=["family", "data_set", "step", "before", "dropped", "left"],
        orient="row",
    )
    overlap = pl.DataFrame(
        {
            "benchmark": ["sft.fresh-instance"],
            "items": [301],
            "in_original": [0],
            "in_extracted": [1],
            "removed": [1],
            "left": [300],
        }
    )
    return {
        "distillation": results_table(students, 0),
        "distillation_curves": curve_table(curves),
        "distillation_counts": count_table(curation, overlap),
    }


@pytest.fixture(scope="module")
def made() -> dict[str, pl.DataFrame]:
    return tables()


def test_sentences_say_what_the_intervals_allow(made: dict[str, pl.DataFrame]) -> None:
    said = report.sentences(made["distillation"])
    by_student = {tuple(text.split(", ")[:2]): "" for text in said}
    for text in said:
        by_student[tuple(text.split(", ")[:2])] += text
    assert "better than" not in by_student["SFT students", "extracted data"]
    assert "worse than the original" in by_student["SFT students", "extracted"]
    assert "better than the original" in by_student["RL students", "extracted"]
    assert "of the original's gain" in by_student["SFT students", "extracted data"]


def test_limits_name_the_benchmarks_that_say_nothing(made: dict[str, pl.DataFrame]) -> None:
    assert len(report.limits(made["distillation"])) == 2
    table = made["distillation"]
    unmoved = pl.col("arm") == "start"
    flat = table.with_columns(
        difference_low=pl.when(unmoved).then(-0.1).otherwise("difference_low"),
        difference_high=pl.when(unmoved).then(0.1).otherwise("difference_high"),
    )
    assert "sft.fresh-instance (SFT students)" in report.limits(flat)[-1]


def test_the_section_has_every_student_and_count(made: dict[str, pl.DataFrame]) -> None:
    section = report.section(made)
    assert section is not None
    assert len(section["rows"]) == made["distillation"].height
    assert section["counts"][0]["step"] == "exact duplicate"
    assert report.section({}) is None
    original = next(row for row in section["rows"] if row["student"] == "original data")
    assert original["difference"] == "\u2013"


def test_markdown_has_the_same_numbers(made: dict[str, pl.DataFrame]) -> None:
    text = report.markdown(made["distillation"])
    assert len(text.splitlines()) == made["distillation"].height + 2
    assert report.rows(made["distillation"])[0]["value"] in text


@pytest.mark.parametrize("drawer", [figures.students, figures.curves])
def test_figures_are_drawn_where_there_are_students(drawer, made: dict[str, pl.DataFrame]) -> None:  # type: ignore[no-untyped-def]
    with matplotlib.rc_context(STYLE):
        figure = drawer(made, ThresholdSettings())
        text = svg(figure, "x")
    assert "original data" in text
    assert "extracted, answers verified" in text
    assert drawer({}, ThresholdSettings()) is None


def test_runs_hold_results_and_curves(made: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    assert student_runs("toy", tmp_path, {}) == []
    for name, table in made.items():
        write_parquet(table, tmp_path / f"{name}.parquet")
    runs = {run.name: run for run in student_runs("toy", tmp_path, {})}
    assert len(runs) == sum(1 + 3 * (arm != "start") for arms in FAMILIES.values() for arm in arms)
    whole = runs["toy/distillation/sft/original"].metrics
    key = "value/sft.fresh-instance/accuracy"
    value = made["distillation"].filter(family="sft", arm="original", measure="accuracy")["value"]
    assert whole.filter(key=key)["value"].to_list() == value.to_list()
    curves = runs["toy/distillation/rl/verified/seed-2"].metrics
    assert set(curves["key"]) == {"reward", "accuracy"}
    assert not any(run.metrics["value"].is_nan().any() for run in runs.values())
