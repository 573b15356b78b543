"""Every number in docs/results.md on the paper's claims is one of the shipped results."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.shipped import table, written

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "results.md").read_text()
USER = {"model": "sft-q8", "prefix": "user", "source": "sft", "field": "question", "level": "rows"}


def claims() -> dict[str, str]:
    """The lines of the table of claims, by claim."""
    lines = TEXT.split("| claim | the paper |")[1].split("\n\n")[0].splitlines()[2:]
    return {line.strip("| ").split(" | ")[0]: line for line in lines}


def only(found: pl.DataFrame, **keys: Any) -> dict[str, Any]:
    """The one row with these values."""
    return found.filter(**keys).row(0, named=True) if found.filter(**keys).height == 1 else {}


def rate(row: dict[str, Any], name: str, decimals: int, scale: float = 100) -> str:
    """An estimate in percent, as the documents write it."""
    return written(row, name, decimals, scale).replace(" (", " % (")


def attributed(metric: str = "verbatim", study: str = "controlled", **keys: str) -> dict[str, Any]:
    found = table("attribution", study).filter(at="fixed")
    return only(found, **(USER | keys), metric=metric)


def prefixes() -> Iterator[str]:
    for prefix, digits in (("user", 0), ("none", 1)):
        yield f"`{prefix}` {rate(attributed(prefix=prefix), 'attributable', digits)}"
    rows = [attributed(prefix=prefix) for prefix in ("user", "none")]
    yield "twins: " + " and ".join(f"{row['twin_wins']:.0f} of {row['n']:,}" for row in rows)


def fuller() -> Iterator[str]:
    found = table("comparisons").filter(
        **{key: USER[key] for key in ("model", "source", "field", "level")}
    )
    for metric in ("verbatim", "cosine"):
        full = only(found, prefix="full", metric=metric)
        yield f"`full` {written(full, 'difference', 1, 100)}"
        yield f"{100 * full['detectable']:.1f}"
    exact = {
        written(only(found, prefix=prefix, metric="verbatim"), "difference", 1, 100)
        for prefix in ("none", "bos")
    }
    assert len(exact) == 1
    yield f"`none` and `bos` {exact.pop()}".replace(" (", " points each (")
    for prefix in ("none", "bos"):
        row = only(found, prefix=prefix, metric="cosine")
        yield f"`{prefix}` {written(row, 'difference', 1, 100)}"
        yield f"{row['n']:,} each, `user` {row['reference_n']:,}"


def strings() -> Iterator[str]:
    found = table("ratios").filter(**USER, metric="levenshtein")
    ratios = {row["comparison"]: written(row, "ratio", 2) for row in found.iter_rows(named=True)}
    yield f"{ratios['fixed']} times what Levenshtein finds"
    yield f"{ratios['fdr-5']} at 5 %"
    yield f"{ratios['fdr-1']} at 1 %"
    yield rate(only(table("kinds"), **USER, kind="paraphrase"), "attributable", 2)
    tuned = only(
        table("ratios", "smollm2-tuned"),
        **{"model": "smollm2-tuned", "prefix": "user", "field": "question", "level": "rows"},
        **{"comparison": "fixed", "metric": "levenshtein"},
    )
    yield f"{written(tuned, 'ratio', 2)} times"


def coverage() -> Iterator[str]:
    risk = table("risk").filter(model="sft-q8", source="sft", role="member")
    rows = {row["samples"]: row for row in risk.iter_rows(named=True)}
    now, later = rows[10_000], rows[1_000_000]
    ends = [f"{later[f'distinct_{end}']:.0f}" for end in ("low", "high")]
    yield f"{now['observed_distinct']:.0f} rows in 10,000 samples"
    yield f"{later['expected_distinct']:.0f} ({' to '.join(ends)}) expected in a million"
    ends = [f"{now[f'distinct_{end}']:.0f}" for end in ("low", "high")]
    yield f"{now['expected_distinct']:.0f} ({' to '.join(ends)}) were predicted for 10,000"


def doses() -> pl.DataFrame:
    keys = {key: USER[key] for key in ("model", "prefix", "source", "field")}
    return table("repetitions").filter(**keys, metric="verbatim").sort("repetitions")


def repetition() -> Iterator[str]:
    most, once = only(doses(), repetitions=64), only(doses(), repetitions=1)
    total = attributed()["member_wins"]
    yield f"{most['members']} rows repeated 64 times: {most['member_hits']:,.0f} of {total:,.0f}"
    yield f"{once['members']} rows repeated once: {once['member_hits']:.0f}"
    yield f"twins {most['twin_hits']:.0f} and {once['twin_hits']:.0f}"


def reinforced() -> Iterator[str]:
    keys = {"model": "rl-q8", "source": "rl"}
    exact, near = (attributed(metric, **keys) for metric in ("verbatim", "cosine"))
    yield rate(exact, "attributable", 3)
    assert rate(near, "attributable", 3) == rate(exact, "attributable", 3)
    assert exact["member_wins"] == exact["twin_wins"] == 0
    yield f"0 of {exact['n']:,} for {exact['members']} questions and for {exact['twins']:,} twins"
    yield f"a rate above {100 * exact['high']:.3f} %"


def likelihood() -> Iterator[str]:
    keys = {"target": "question", "per": "question", "template": True}
    arms = {
        row["model"]: row for row in table("shift", "arms").filter(**keys).iter_rows(named=True)
    }
    own = only(table("shift"), model="rl-q8", source="rl", **keys)
    yield f"{written(own, 'difference', 2)} more than twins".replace(" (", " nats per question (")
    seeds = [written(arms[f"rl-seed{n}-q8"], "difference", 2) for n in (1, 2)]
    yield f"other seeds {' and '.join(seeds)}"
    yield f"{own['members']} and {own['twins']:,} questions"
    yield f"{own['detectable']:.2f} nats"
    for control in ("rl-prompt-loss-q8", "sft-on-prompts-q8"):
        yield written(arms[control], "difference", 1)
    yield written(only(table("shift"), model="sft-q8", source="sft", **keys), "difference", 1)


def students() -> Iterator[str]:
    found = table("distillation", "students")
    value = {
        (row["family"], row["arm"]): f"{100 * row['value']:.1f} %"
        for row in found.iter_rows(named=True)
    }
    sft, rl = (only(found, family=family, arm="extracted") for family in ("sft", "rl"))
    learnt = [value["sft", arm] for arm in ("extracted", "original")]
    yield "SFT {} right where the original gives {}".format(*learnt)
    yield f"RL {value['rl', 'extracted']} and {value['rl', 'original']}"
    yield f"untrained {value['sft', 'start']} and {value['rl', 'start']}"
    yield f"on other rows {value['sft', 'other']} and {value['rl', 'other']}"
    for row in (sft, rl):
        yield written(row, "difference", 1, 100)
        yield f"{row['items']:,} questions each"
    yield f"{100 * sft['detectable']:.1f} and {100 * rl['detectable']:.1f} points"


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("a template prefix steers to training data", prefixes),
        ("a fuller prefix steers more", fuller),
        ("strings undercount tenfold", strings),
        ("coverage grows with samples", coverage),
        ("some rows come far more often", repetition),
        ("RL data is extractable", reinforced),
        ("RL raises its questions' likelihood", likelihood),
        ("models of extracted data come close", students),
    ],
)
def test_numbers_of_a_claim_are_shipped(claim: str, said: Any) -> None:
    """Each is in the claim's line, and the line has no other number with a decimal point."""
    line, left = claims()[claim], claims()[claim]
    for text in said():
        assert text in line, f"the line on {claim!r} lacks {text!r}"
        left = left.replace(text, "")
    assert not re.findall(r"\d\.\d", left), left


def test_all_claims_are_tested() -> None:
    assert len(claims()) == 8


def test_doses_are_shipped() -> None:
    for row in doses().iter_rows(named=True):
        cells = (row["repetitions"], row["members"], row["member_rows"], row["member_hits"])
        assert f"| {' | '.join(f'{cell:,.0f}' for cell in cells)} |" in TEXT
    assert doses().filter(pl.col("twin_rows") > 0)["repetitions"].to_list() == [4]


def test_prose_on_the_default_study_is_shipped() -> None:
    """Calibration, risk, kinds, membership, edits and the blind baselines."""
    text = " ".join(TEXT.split())
    counts = table("calibration").filter(model="sft-q8")
    member, twin = (only(counts, role=role) for role in ("member", "twin"))
    said = [
        f"predict {member['predicted']:,.1f} verbatim copies",
        "{:,.0f} ({:,.0f} to {:,.0f}) came".format(
            *(member[key] for key in ("observed", "low", "high"))
        ),
        f"Of twins {twin['predicted']:.2f} were predicted and {twin['observed']} came",
    ]
    risk = only(table("risk"), model="sft-q8", source="sft", role="member", samples=10**9)
    said.append(
        f"{risk['at_risk']:,.0f} ({risk['at_risk_low']:,.0f} to {risk['at_risk_high']:,.0f})"
        " rows are at risk"
    )
    said.append(
        f"{rate(attributed('cosine', level='templates'), 'attributable', 0)} of generations"
    )
    for kind in ("near-verbatim", "same-template"):
        said.append(rate(only(table("kinds"), **USER, kind=kind), "attributable", 1))
    attack = table("membership").filter(attack="min_k_plus_plus", target="question", template=True)
    sft, rl = (only(attack, model=f"{name}-q8") for name in ("sft", "rl"))
    said += [written(sft, "auc", 3), rate(sft, "tpr", 0), written(rl, "auc", 3)]
    blind = table("exchangeability").filter(level="rows")
    for source, digits in (("sft", 3), ("rl", 2)):
        said.append(written(only(blind, source=source), "auc", digits))
    for sentence in said:
        assert sentence in text, sentence


def edits() -> Iterator[str]:
    """The lines of the table of edits: pairs, then versions shown and unseen."""
    pairs = {row["edit"]: row for row in table("edits").iter_rows(named=True)}
    versions = table("variants").filter(model="sft-q8", prefix="user")
    for edit, pair in sorted(pairs.items(), key=lambda item: -item[1]["cosine_reached"]):
        own = versions.filter(edit=edit)
        exact = {role: only(own, role=role, metric="verbatim") for role in ("member", "twin")}
        near = only(own, role="twin", metric="cosine")
        cells = [
            edit,
            *(f"{100 * pair[f'{name}_reached']:.0f} %" for name in ("cosine", "levenshtein")),
        ]
        cells += [f"{row['written']} of {row['rows']}" for row in exact.values()]
        yield f"| {' | '.join([*cells, str(near['hits']), format(near['wins'], '.0f')])} |"


def test_edits_are_shipped() -> None:
    part = TEXT.split("<!-- edits -->")[1].split("<!-- /edits -->")[0].strip().splitlines()
    assert part[2:] == list(edits())
    assert set(table("edits")["pairs"]) == {192}
