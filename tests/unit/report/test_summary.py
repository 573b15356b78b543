"""The README's results are those that are shipped."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_extraction.files import InputError
from alignment_extraction.report import summary

ROOT = Path(__file__).parents[3]


def shipped(folder: str, name: str) -> bytes:
    """A file of a folder that dvc.lock names, out of the shipped store."""
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"].values()
    outs = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}

    def stored(md5: str) -> bytes:
        return (ROOT / "store" / "files" / "md5" / md5[:2] / md5[2:]).read_bytes()

    files = {entry["relpath"]: entry["md5"] for entry in json.loads(stored(outs[folder]))}
    return stored(files[name])


def test_readme_has_the_shipped_results() -> None:
    metrics = json.loads(shipped("results", "controlled/metrics.json"))
    assert summary.markdown(metrics, "user") in (ROOT / "README.md").read_text(), (
        "README.md: the results are not those shipped; replace them with what "
        "`alignment-extraction summary results/controlled/metrics.json` prints"
    )


def metrics() -> dict[str, Any]:
    def rates(cosine: float, n: int = 10) -> dict[str, Any]:
        shares = {"embedding": cosine, "levenshtein": 0.1, "indel": 0.1, "verbatim": 0.0}
        return {metric: {"n": n, "rate": rate} for metric, rate in shares.items()}

    groups = {"a.member": rates(0.5), "b": rates(0.25), "role:member": rates(0.75)}
    shift = {"n": 7, "before": -1.0, "after": -0.5, "shift": 0.5}
    excess = {"excess": 0.25, "excess_low": -0.125, "excess_high": 0.625}
    return {
        "rates": {"sft": {"user": {"seed-0": {"question": groups}}}},
        "likelihood": {
            "sft_rl": {"question": {"with-template": {"a.member": shift | excess, "b": shift}}}
        },
    }


def test_tables() -> None:
    text = summary.markdown(metrics(), "user")
    assert "| model | n | `a.member` | `b` |\n" in text
    assert "| `sft` | 10 | 50 % / 10 % / 0 % | 25 % / 10 % / 0 % |\n" in text
    start = "| `sft` → `rl` | question |"
    assert (
        f"{start} `a.member` | 7 | -1.000 | -0.500 | +0.500 | +0.250 (-0.125 to +0.625) |" in text
    )
    assert f"{start} `b` | 7 | -1.000 | -0.500 | +0.500 | – |" in text  # noqa: RUF001


def test_without_comparisons() -> None:
    values = metrics()
    del values["likelihood"]
    assert "→" not in summary.markdown(values, "user")


def test_an_unknown_prefix_is_an_error() -> None:
    with pytest.raises(InputError, match="prefix 'full'"):
        summary.markdown(metrics(), "full")
    with pytest.raises(InputError, match="part 'answer'"):
        summary.markdown(metrics(), "user", "answer")
