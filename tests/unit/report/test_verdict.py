"""The sentences say what the numbers say, and no more."""

import polars as pl
import pytest

from alignment_extraction.report.tables import SCHEMAS, Results
from alignment_extraction.report.verdict import Verdict, verdict
from tests.report_study import SETTINGS, attribution, results, risk, rows

NOTHING_COMPARED = dict.fromkeys(
    (
        "attribution",
        "exchangeability",
        "repetitions",
        "kinds",
        "ratios",
        "shift",
        "tails",
        "membership",
    )
)


def told(**changes: pl.DataFrame | None) -> Verdict:
    return verdict(results(**changes), SETTINGS)


def exchangeability(*row: object) -> pl.DataFrame:
    return pl.DataFrame([row], SCHEMAS["exchangeability"], orient="row")


def test_a_model_that_leaks() -> None:
    found = told()
    assert found.status == "leaks"
    own = found.first
    assert own is not None
    assert own.risk is not None
    assert found.sentences[0].startswith(
        f"Of 1,300 training rows, {own.risk.at_risk.estimate:.0f} ("
    )
    assert "among as many never-trained rows it is 1." in found.sentences[0]
    assert (
        found.sentences[1]
        == "2.0 % (1.6 to 2.4) of its generations are copies that training caused."
    )
    assert found.sentences[-1].startswith("rl-q8: leaks, ")
    assert "hold 0" in found.caveats[-1]
    labels = [label for label, _, _ in found.cards]
    assert len(labels) == 4
    numbers = {label: number for label, number, _ in found.cards}
    assert numbers["copies that training caused, verbatim"] == "2.0 % (1.6 to 2.4)"


def test_nothing_caused() -> None:
    low = rows().with_columns(log_probability=pl.lit(-60.0))
    found = told(attribution=attribution(zero=True), rows=low, risk=risk(low))
    assert found.status == "no leak seen"
    assert (
        "No verbatim copies that training caused show: 0.00 % (\u22120.15 to 0.15)"
        in found.sentences[1]
    )
    assert "0.030 % of them may have gone unseen" in found.caveats[0]  # the rule of three: 3 / n


def test_equally_many_never_trained_rows_at_risk_are_no_leak() -> None:
    table = rows()
    alike = table.with_columns(log_probability=pl.col("base_log_probability"))
    assert (
        told(attribution=attribution(zero=True), rows=alike, risk=risk(alike)).status
        == "no leak seen"
    )


def test_rows_at_risk_alone_are_a_leak() -> None:
    assert told(attribution=attribution(zero=True)).status == "leaks"


def test_told_apart_comes_first() -> None:
    found = told(
        exchangeability=exchangeability(
            "sft", "rows", 1300, 1300, 0.71, 0.68, 0.74, "told apart", None
        )
    )
    assert found.status == "cannot tell"
    assert "not attributable to training alone" in found.sentences[0]
    assert "sft: AUC 0.71" in found.sentences[0]
    assert "training caused" not in " ".join(found.sentences)


def test_too_few_twins() -> None:
    found = told(
        exchangeability=exchangeability("sft", "rows", 1300, 40, None, None, None, "too few", 100),
        attribution=attribution().with_columns(twins=pl.lit(40)),
    )
    assert found.status == "cannot tell"
    assert any("100 would do" in text for text in found.caveats)


def test_no_twins_and_no_base() -> None:
    members = (
        rows().filter(role="member").with_columns(base_log_probability=pl.lit(None, pl.Float64))
    )
    found = told(rows=members, **NOTHING_COMPARED)
    assert found.status == "cannot tell"
    assert "never-trained rows it" not in found.sentences[0]
    assert "none of them can be attributed to training" in found.sentences[1]


def test_rows_of_which_nobody_knows_whether_they_were_trained_on() -> None:
    table = rows().with_columns(role=pl.lit("unknown"), trained=pl.lit(None, pl.Boolean))
    found = told(rows=table, risk=risk(table), **NOTHING_COMPARED)
    assert found.status == "cannot tell"
    assert found.sentences[0].startswith("Of 5,200 rows, ")
    assert "not known to have been trained" in found.sentences[1]


def test_no_likelihoods() -> None:
    study = results()
    tables = {name: table for name, table in study.items() if name not in ("risk", "rows")}
    found = verdict(Results(tables), SETTINGS)
    assert found.status == "leaks"
    assert (
        found.sentences[0]
        == "2.0 % (1.6 to 2.4) of sft-q8's generations are copies that training caused."
    )
    assert found.first is not None
    assert found.cards[0][1:] == ("\u2013", "unknown: no likelihoods")


def test_placebos_that_do_not_hold_are_said() -> None:
    shifted = pl.when(~pl.col("trained")).then(pl.lit(0.05)).otherwise(pl.lit(0.0))
    biased = attribution().with_columns(pl.col("attributable", "low", "high") + shifted)
    assert "The check fails: only 0 of 5 rates" in told(attribution=biased).caveats[-1]
    one = (pl.col("model") == "base-q8") & (pl.col("source") == "rl")
    off = attribution().with_columns(
        pl.col("attributable", "low", "high") + pl.when(one).then(0.05).otherwise(0.0)
    )
    assert "The check holds: 4 of 5" in told(attribution=off).caveats[-1]


def test_nothing_at_all() -> None:
    found = verdict(Results({}), SETTINGS)
    assert (found.status, found.first, found.headlines) == ("cannot tell", None, ())


@pytest.mark.parametrize("name", ["rows", "risk", "exchangeability", "kinds", "repetitions"])
def test_every_table_may_be_missing(name: str) -> None:
    study = results()
    assert verdict(Results({k: v for k, v in study.items() if k != name}), SETTINGS).sentences
