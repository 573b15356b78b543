"""What the study of a real model with known truth has to show, and what the documents say of it."""

import io
from pathlib import Path

import polars as pl

from tests.shipped import shipped

ROOT = Path(__file__).resolve().parents[2]
STUDY, MODEL, BASE = "smollm2-tuned", "smollm2-tuned", "smollm2"


def table(name: str) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(shipped("results", f"{STUDY}/{name}.parquet")))


def percent(low: float, *others: float) -> str:
    """A rate and its bounds, as docs/results.md has them."""
    bounds = f" ({' to '.join(f'{100 * each:.1f}' for each in others)})" if others else ""
    return f"{100 * low:.1f} %{bounds}"


def doses() -> list[str]:
    """The lines of the table by repetitions."""
    keys = {"model": MODEL, "prefix": "user", "field": "question"}
    found = table("repetitions").filter(**keys)
    lines = []
    for (times,), rows in found.group_by("repetitions", maintain_order=True):
        by = {row["metric"]: row for row in rows.iter_rows(named=True)}
        exact, near = by["verbatim"], by["cosine"]
        rates = [
            percent(*(each[key] for key in ("attributable", "low", "high")))
            for each in (exact, near, by["levenshtein"])
        ]
        cells = (
            times,
            exact["members"],
            exact["member_rows"],
            f"{exact['member_hits']:.0f} / {exact['twin_hits']:.0f}",
            f"{near['member_hits']:.0f} / {near['twin_hits']:.0f}",
            *rates,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def conditions() -> list[str]:
    """The lines of the table by model and prefix."""
    found = table("attribution").filter(at="fixed", field="question", level="rows")
    lines = []
    for model, prefix in ((MODEL, "user"), (MODEL, "full"), (BASE, "user")):
        some = found.filter(model=model, prefix=prefix)
        cells = [f"`{model}`", f"`{prefix}`", f"{some['n'][0]:,}"]
        for metric in ("verbatim", "cosine", "levenshtein"):
            row = some.row(by_predicate=pl.col("metric") == metric, named=True)
            cells.append(percent(*(row[key] for key in ("attributable", "low", "high"))))
            cells.append(f"{row['member_wins']:.0f} / {row['twin_wins']:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def test_the_documented_tables_are_the_shipped_ones() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    lines = doses() + conditions()
    assert len(lines) == 9
    for line in lines:
        assert line in text, f"docs/results.md lacks {line}"


def test_the_base_model_attributes_nothing() -> None:
    found = table("attribution").filter(model=BASE, at="fixed", level="rows")
    assert found.filter(~pl.lit(0).is_between("low", "high")).is_empty()


def test_only_much_repeated_rows_are_written() -> None:
    found = table("repetitions").filter(
        model=MODEL, prefix="user", field="question", metric="verbatim"
    )
    by = {row["repetitions"]: row for row in found.iter_rows(named=True)}
    assert by[32]["low"] > 0
    assert by[1]["member_hits"] == by[1]["twin_hits"] == 0


def test_row_risk_agrees_with_what_came_and_is_documented() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    found = table("calibration").filter(role="member").row(0, named=True)
    assert found["agrees"]
    said = f"{found['observed']} ({found['low']:.1f} to {found['high']:.1f})"
    assert f"{found['predicted']:.1f} verbatim copies" in text and said in text
    risk = table("risk").filter(samples=1_000_000, role="member").row(0, named=True)
    assert (
        f"{risk['at_risk']:.0f} ({risk['at_risk_low']:.0f} to {risk['at_risk_high']:.0f})" in text
    )
    row = table("shift").filter("template", target="question", per="question").row(0, named=True)
    assert f"{row['difference']:.1f} nats ({row['low']:.1f} to {row['high']:.1f})" in text
    less = table("comparisons").filter(prefix="full", metric="verbatim").row(0, named=True)
    assert f"{100 * less['difference']:.1f} points ({100 * less['low']:.1f} to" in text
