"""The README's results are those that are shipped."""

import io
import json
from typing import Any

import polars as pl
import pytest

from alignment_extraction.files import InputError
from alignment_extraction.report import distillation, summary
from tests.shipped import ROOT, shipped


def test_readme_has_the_shipped_results() -> None:
    metrics = json.loads(shipped("results", "controlled/metrics.json"))
    assert summary.markdown(metrics, "user") in (ROOT / "README.md").read_text(), (
        "README.md: the results are not those shipped; replace them with what "
        "`alignment-extraction summary results/controlled/metrics.json` prints"
    )


def test_docs_have_the_shipped_students() -> None:
    table = pl.read_parquet(io.BytesIO(shipped("results", "controlled/distillation.parquet")))
    assert distillation.markdown(table) in (ROOT / "docs/distillation.md").read_text(), (
        "docs/distillation.md: the students are not those shipped; replace them with what "
        "`alignment-extraction distillation-summary results/controlled/distillation.parquet` prints"
    )


def test_readme_shows_the_shipped_figure() -> None:
    drawn = shipped("results", "controlled/figures/populations.svg")
    assert (ROOT / "docs/populations.svg").read_bytes() == drawn, (
        "docs/populations.svg: copy results/controlled/figures/populations.svg there"
    )


def test_readme_shows_the_difference_of_two_thresholds() -> None:
    headline = json.loads(shipped("results", "controlled/headline.json"))
    sweep = pl.read_parquet(io.BytesIO(shipped("results", "controlled/sweep.parquet")))
    path = "results/controlled/headline.json"
    lines = [
        line.split()[1:]
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith(f"{path}  ")
    ]
    assert len(lines) == 12
    for key, before, after, change in lines:
        model, prefix, role, metric, number = key.split(".")
        assert float(before) == round(headline[model][prefix][role][metric][number], 5)
        assert float(change) == pytest.approx(float(after) - float(before), abs=2e-5)
        if number == "rate":
            (rate,) = sweep.filter(
                (pl.col("threshold") - 0.9).abs() < 1e-6,
                model=model,
                prefix=prefix,
                part="question",
                reference=f"role:{role}",
                metric=metric,
            )["rate"]
            assert float(after) == round(rate, 5)


def metrics() -> dict[str, Any]:
    def rates(hits: int, n: int = 10) -> dict[str, Any]:
        found = {"embedding": hits, "levenshtein": hits // 2, "indel": hits // 2, "verbatim": 0}
        return {
            metric: {"n": n, "hits": k, "rate": k / n, "low": k / n / 2, "high": k / n / 2 + 0.25}
            for metric, k in found.items()
        }

    def cell(*hits: int, n: int = 10) -> dict[str, Any]:
        groups = {name: rates(k, n) for name, k in zip("abc", hits, strict=True)}
        return {"user": {"seed-0": {"question": {**groups, "role:member": rates(max(hits), n)}}}}

    shift = {"n": 7, "before": -1.0, "after": -0.5, "shift": 0.5}
    shift |= {"shift_low": 0.25, "shift_high": 0.75}
    excess = {"excess": 0.25, "excess_low": -0.125, "excess_high": 0.625}
    return {
        "rates": {"base": cell(0, 0, 0), "sft-f16": cell(1, 1, 1), "sft-q8": cell(10, 0, 0, n=20)},
        "likelihood": {
            "sft_rl": {"question": {"with-template": {"a": shift | excess, "b": shift}}}
        },
    }


def test_tables() -> None:
    lines = summary.markdown(metrics(), "user").splitlines()
    assert lines[0] == "| model | n | group | cosine | Levenshtein | verbatim |"
    nothing = "0 (at most 25 %)"
    assert lines[2:5] == [
        f"| `base` | 10 | all groups | {nothing} | {nothing} | {nothing} |",
        f"| `sft-q8` | 20 | `a` | 50 % (25 to 50) | 25 % (12.5 to 37.5) | {nothing} |",
        f"| `sft-q8` | 20 | each other group | {nothing} | {nothing} | {nothing} |",
    ]
    start = "| `sft` → `rl` | question |"
    change = "-1.000 | -0.500 | +0.500 (+0.250 to +0.750)"
    assert lines[8:] == [
        f"{start} `a` | 7 | {change} | +0.250 (-0.125 to +0.625) |",
        f"{start} `b` | 7 | {change} | – |",  # noqa: RUF001
    ]


def test_without_comparisons() -> None:
    values = metrics()
    del values["likelihood"]
    assert "→" not in summary.markdown(values, "user")


def test_an_unknown_prefix_is_an_error() -> None:
    with pytest.raises(InputError, match="prefix 'full'"):
        summary.markdown(metrics(), "full")
    with pytest.raises(InputError, match="part 'answer'"):
        summary.markdown(metrics(), "user", "answer")
