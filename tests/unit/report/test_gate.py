"""Every exit code of the gate, and what it says."""

import json
import math

import numpy as np
import polars as pl
import pytest

from alignment_extraction.files import InputError
from alignment_extraction.report.gate import (
    BAD_INPUT,
    CANNOT_TELL,
    EXCEEDED,
    OK,
    GateResult,
    check,
)
from alignment_extraction.report.tables import SCHEMAS, Results
from alignment_extraction.settings.base import checked
from alignment_extraction.settings.studies import GateSettings as Limits
from tests.report_study import SETTINGS, attribution, results


def gate(limits: Limits, *models: str, **changes: pl.DataFrame | None) -> GateResult:
    return check(results(**changes), limits, SETTINGS, models)


# The study's first model has 2.0 % (1.6 to 2.4) and 210 (165 to 255), the second one 2.8 % (2.4 to
# 3.2) and 188 (149 to 227).
@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(max_rows_at_risk=300), OK),
        (Limits(max_rows_at_risk=100), EXCEEDED),
        (Limits(max_rows_at_risk=240), CANNOT_TELL),
        (Limits(max_attributable=0.04), OK),
        (Limits(max_attributable=0.01), EXCEEDED),
        (Limits(max_attributable=0.03), CANNOT_TELL),
        (Limits(max_attributable_semantic=0.1), OK),
        (Limits(max_attributable_semantic=0.01), EXCEEDED),
        (Limits(max_rows_at_risk=240, max_attributable=0.01), EXCEEDED),
        (Limits(max_rows_at_risk=240, max_attributable=0.1), CANNOT_TELL),
        (Limits(max_rows_at_risk=150, samples=10**9), EXCEEDED),
        (Limits(max_rows_at_risk=150, samples=10**4), OK),
        (Limits(), BAD_INPUT),
        (Limits(max_rows_at_risk=1, samples=77), BAD_INPUT),
    ],
)
def test_exit_codes(limits: Limits, code: int) -> None:
    found = gate(limits)
    assert found.exit_code == code
    assert found.lines
    assert json.loads(json.dumps(found.as_dict()))["exit_code"] == code


def test_models_that_are_asked_for() -> None:
    assert gate(Limits(max_attributable=0.01), "base-q8").exit_code == OK
    unknown = gate(Limits(max_rows_at_risk=1), "nobody")
    assert unknown.exit_code == BAD_INPUT
    assert "no results of model nobody; there are base-q8, rl-q8" in unknown.lines[0]


def test_no_likelihoods_are_bad_input_for_rows_but_not_for_rates() -> None:
    study = results()
    tables = {name: table for name, table in study.items() if name not in ("risk", "rows")}
    assert check(Results(tables), Limits(max_rows_at_risk=1), SETTINGS).exit_code == BAD_INPUT
    assert check(Results(tables), Limits(max_attributable=0.1), SETTINGS).exit_code == OK
    assert check(Results({}), Limits(max_attributable=0.1), SETTINGS).exit_code == BAD_INPUT


def test_no_twins_cannot_tell() -> None:
    found = gate(Limits(max_attributable=0.1), attribution=None)
    assert found.exit_code == CANNOT_TELL
    assert "100 twins would do" in found.lines[0]


def test_too_few_twins_cannot_tell_unless_exceeded() -> None:
    few = attribution().with_columns(twins=pl.lit(40))
    assert gate(Limits(max_attributable=0.1), attribution=few).exit_code == CANNOT_TELL
    assert gate(Limits(max_attributable=0.001), attribution=few).exit_code == EXCEEDED


def test_rows_that_can_be_told_apart_pass_nothing() -> None:
    apart = pl.DataFrame(
        [("sft", "rows", 1300, 1300, 0.7, 0.68, 0.72, "told apart", None)],
        SCHEMAS["exchangeability"], orient="row",
    )  # fmt: skip
    found = gate(Limits(max_attributable=0.1), exchangeability=apart)
    assert found.exit_code == CANNOT_TELL
    assert "told from its training rows by text alone" in found.lines[0]
    assert gate(Limits(max_attributable=0.001), exchangeability=apart).exit_code == EXCEEDED


def test_the_samples_asked_for_would_do() -> None:
    """With as many times the generations, at the same rate, the interval ends at the limit."""
    n, rate, limit = 500, 0.01, 0.015

    def table(n: int) -> pl.DataFrame:
        half = 1.96 * math.sqrt(rate * (1 - rate) / n)
        return attribution().with_columns(
            n=pl.lit(n),
            attributable=pl.lit(rate),
            low=pl.lit(rate - half),
            high=pl.lit(rate + half),
        )

    found = gate(Limits(max_attributable=limit), "sft-q8", attribution=table(n))
    assert found.exit_code == CANNOT_TELL
    (line,) = found.lines
    needed = int(line.split("about ")[1].split(" samples")[0].replace(",", ""))
    for factor, code in ((1.02, OK), (0.98, CANNOT_TELL)):
        enough = table(int(needed * factor))
        assert gate(Limits(max_attributable=limit), "sft-q8", attribution=enough).exit_code == code


def test_an_estimate_at_the_limit_is_not_decided_by_more_samples() -> None:
    even = attribution().with_columns(attributable=pl.lit(0.03))
    found = gate(Limits(max_attributable=0.03), "sft-q8", attribution=even)
    assert "so no number of samples would decide it" in found.lines[0]


def test_where_rows_are_hit_often_more_of_them_are_asked_for() -> None:
    wide = attribution().with_columns(
        low=pl.col("attributable") - 0.2, high=pl.col("attributable") + 0.2
    )
    found = gate(Limits(max_attributable=0.1), "sft-q8", attribution=wide)
    assert "twins, with as many training rows, would do" in found.lines[0]


@pytest.mark.parametrize(
    ("text", "rate"), [("1%", 0.01), ("1 %", 0.01), ("0.01", 0.01), (0.5, 0.5), ("0", 0)]
)
def test_rates(text: str | float, rate: float) -> None:
    assert checked(Limits, {"max_attributable": text}, "gate").max_attributable == rate


@pytest.mark.parametrize(
    "settings",
    [
        {"max_attributable": "much"},
        {"max_attributable": "101%"},
        {"max_attributable": -1},
        {"max_rows_at_risk": "few"},
        {"max_rows_at_risk": -1},
        {"samples": 0},
        {"most": 1},
    ],
)
def test_bad_limits(settings: dict[str, object]) -> None:
    with pytest.raises(InputError):
        checked(Limits, settings, "gate")


def test_a_false_alarm_is_rare() -> None:
    """A rate at the limit itself is called exceeded in at most one of forty intervals."""
    rng = np.random.default_rng(1)
    exceeded = 0
    table = attribution().filter(model="sft-q8", source="sft", level="rows", metric="verbatim")
    for _ in range(60):
        rate = rng.binomial(10_000, 0.02) / 10_000
        half = 1.96 * math.sqrt(rate * (1 - rate) / 10_000)
        drawn = table.with_columns(
            attributable=pl.lit(rate), low=pl.lit(rate - half), high=pl.lit(rate + half)
        )
        study = Results({"attribution": drawn})
        exceeded += check(study, Limits(max_attributable=0.02), SETTINGS).exit_code == EXCEEDED
    assert exceeded <= 6
