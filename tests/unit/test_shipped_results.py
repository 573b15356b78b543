"""What the shipped default study has to show, its truth being known, and what the documents say."""

import io
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.shipped import shipped

ROOT = Path(__file__).resolve().parents[2]


def table(name: str, study: str = "controlled") -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(shipped("results", f"{study}/{name}.parquet")))


def written(row: dict[str, Any], name: str, decimals: int, scale: float = 1) -> str:
    """An estimate as the documents write it: value (low to high)."""
    ends = ("low", "high") if f"{name}_low" not in row else (f"{name}_low", f"{name}_high")
    value, low, high = (f"{row[key] * scale:.{decimals}f}" for key in (name, *ends))
    return f"{value} ({low} to {high})"


def fixed() -> pl.DataFrame:
    return table("attribution").filter(at="fixed", field="question")


def test_the_placebo_holds_zero() -> None:
    """The base model saw neither source: members and twins are alike to it, by every metric."""
    found = fixed().filter(model="base-q8", level="rows")
    assert found.height >= 2 * 4
    assert not found["trained"].any()
    outside = found.filter(~pl.lit(0).is_between("low", "high"))
    assert outside.is_empty(), outside


def test_what_training_repeated_most_is_attributed() -> None:
    row = fixed().row(
        by_predicate=(pl.col("model") == "sft-q8")
        & (pl.col("prefix") == "user")
        & (pl.col("source") == "sft")
        & (pl.col("level") == "rows")
        & (pl.col("metric") == "verbatim"),
        named=True,
    )
    assert row["n"] == 10_000
    assert row["low"] > 0
    doses = table("repetitions").filter(
        model="sft-q8", prefix="user", source="sft", field="question", metric="verbatim"
    )
    found = {row["repetitions"]: row for row in doses.iter_rows(named=True)}
    assert found[64]["low"] > 0
    assert found[64]["member_rows"] > 0.9 * found[64]["members"]
    assert found[1]["member_rows"] < 0.1 * found[1]["members"]


def test_likelihood_predicts_what_sampling_finds() -> None:
    found = table("calibration").filter(model="sft-q8", source="sft", role="member")
    row = found.filter(prefix="user").row(0, named=True)
    assert row["predicted"] == pytest.approx(row["observed"], rel=0.15)


def test_the_coin_was_fair() -> None:
    found = table("exchangeability").filter(level="rows")
    assert set(found["verdict"]) == {"exchangeable"}, found


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_numbers_of_the_documents_are_the_shipped_ones(page: str) -> None:
    text = (ROOT / page).read_text()
    card = shipped("results", "controlled/model_card.md").decode()
    lines = [line for line in card.splitlines() if line.startswith("| ")]
    assert len(lines) > 4
    assert re.search("<!-- results", text)
    for line in lines:
        assert line in text, f"{page} lacks this line of the shipped model card: {line}"


def test_differences_of_the_documents_are_the_shipped_ones() -> None:
    text = " ".join((ROOT / "docs/results.md").read_text().replace(" points", "").split())
    found = table("comparisons").filter(field="question", source="sft", level="rows")
    pairs = found.sort("metric").iter_rows(named=True)
    said = {
        (row["model"], row["prefix"], row["metric"]): written(row, "difference", 1, 100)
        for row in pairs
    }
    for model, prefix in (("sft-q8", "full"), ("sft-q8", "user-t0.7"), ("sft-q8", "user-t1.3")):
        assert said[model, prefix, "verbatim"] in text
    for model in ("sft-f16", "sft-q4"):
        assert said[model, "user", "verbatim"].split(" to ")[0] in text
    for prefix in ("bos", "none", "full"):
        assert said["sft-q8", prefix, "cosine"] in text
    seen = found.filter(metric="verbatim").rows_by_key(["model", "prefix"], named=True, unique=True)
    for key in (("sft-q8", "full"), ("sft-f16", "user"), ("sft-q4", "user")):
        assert f"{100 * seen[key]['detectable']:.1f}" in text


def test_the_positive_controls_of_rl_are_positive_and_documented() -> None:
    text = (ROOT / "docs/results.md").read_text().split("<!-- arms")[1].split("<!-- /arms")[0]
    rates = table("attribution", "arms").filter(
        at="fixed", field="question", source="rl", level="rows"
    )
    changes = table("shift", "arms").filter(
        "template", source="rl", target="question", per="question"
    )
    risks = table("risk", "arms").filter(source="rl", role="member", samples=1_000_000)
    counts = table("calibration", "arms").filter(source="rl", role="member")
    for stage, decimals in (("rl", 3), ("rl-prompt-loss", 2), ("sft-on-prompts", 1)):
        model = f"{stage}-q8"
        verbatim, cosine = (
            rates.filter(model=model, metric=metric).row(0, named=True)
            for metric in ("verbatim", "cosine")
        )
        change = changes.filter(model=model).row(0, named=True)
        risk = risks.filter(model=model).row(0, named=True)
        count = counts.filter(model=model).row(0, named=True)
        at_risk = written(risk, "at_risk", 0)
        if stage == "rl":
            at_risk = at_risk.replace("to 4", f"to {risk['at_risk_high']:.1f}")
            assert verbatim["low"] < 0 < verbatim["high"]
            assert change["low"] < 0 < change["high"]
        else:
            assert verbatim["low"] > 0
            assert change["low"] > 0
        line = (
            f"| `{stage}` | {written(verbatim, 'attributable', decimals, 100)}"
            f" | {written(cosine, 'attributable', decimals, 100)}"
            f" | {written(change, 'difference', 2)} | {at_risk} of {risk['rows']}"
            f" | {count['predicted']:.1f} and {count['observed']} |"
        )
        plain = text.replace(" %", "").replace(" nats", "")
        assert line in plain, f"docs/results.md lacks {line}"
