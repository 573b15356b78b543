"""headline.json and metrics.json hold few numbers, all finite."""

import json
from typing import Any

import pytest

from alignment_extraction.report.numbers import (
    MOST_METRICS,
    headline_numbers,
    metrics_numbers,
)
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import verdict
from tests.report_study import SETTINGS, results


def leaves(value: Any) -> int:
    return sum(map(leaves, value.values())) if isinstance(value, dict) else 1


def test_the_headline() -> None:
    numbers = headline_numbers(verdict(results(), SETTINGS))
    json.dumps(numbers, allow_nan=False)
    assert len(numbers) <= 30
    assert numbers["attributable_verbatim"] == pytest.approx(0.02)
    assert numbers["attributable_verbatim_low"] < 0.02 < numbers["attributable_verbatim_high"]
    assert numbers["rows_at_risk_samples"] == 10**6
    assert numbers["status"] == "leaks"


def test_metrics_stay_below_their_limit_and_keep_whole_estimates() -> None:
    study = results()
    numbers = metrics_numbers(verdict(study, SETTINGS))
    json.dumps(numbers, allow_nan=False)
    assert MOST_METRICS - 3 <= leaves(numbers) <= MOST_METRICS
    rate = numbers["attribution"]["sft-q8"]["user"]["sft"]["rows"]["semantic"]
    assert set(rate) == {"attributable", "low", "high"}
    # The headline's prefix comes before the others.
    assert all("user" in prefixes for prefixes in numbers["attribution"].values())


def test_nothing_at_all() -> None:
    empty = Results({})
    assert headline_numbers(verdict(empty, SETTINGS)) == {"status": "cannot tell"}
    assert metrics_numbers(verdict(empty, SETTINGS)) == {}
