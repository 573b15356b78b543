"""What the shipped default study has to show, its truth being known, and what the documents say."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist
from scipy.stats import binomtest
from scipy.stats import t as student_t

from alignment_extraction.distillation.results import results_table
from alignment_extraction.settings.distillation import ARMS as ARMS_OF_STUDENTS
from tests.shipped import shipped, table, written

ROOT = Path(__file__).resolve().parents[2]


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


ARMS = ("rl", "rl-random", "rl-answer-only", "rl-answer-only-random")
REPEATED = [*ARMS, *(f"{arm}-seed{n}" for n in (1, 2) for arm in ARMS)]
CONTROLS = ["rl-prompt-loss", "sft-on-prompts", "sft-on-prompts-seed1"]


def trained(stage: str) -> str:
    """The line of the documents on the training of an arm: first and last 50 steps, answers."""
    read = {
        kind: pl.read_parquet(io.BytesIO(shipped("data/models/trained", f"{stage}-{kind}.parquet")))
        for kind in ("curves", "accuracy")
    }
    spans = []
    for metric in ("rewards/right/mean", "rewards/restating/mean"):
        values = read["curves"].filter(metric=metric).sort("step")["value"]
        spans.append(f"{values[:5].mean():.2f} to {values[-5:].mean():.2f}")
    answers = read["accuracy"].group_by("moment", "role").agg(pl.col("right", "questions").sum())
    right = answers.rows_by_key(["moment", "role"], named=True, unique=True)
    for role in ("member", "twin"):
        before, after = (right[moment, role] for moment in ("before", "after"))
        spans.append(f"{before['right']} to {after['right']} of {after['questions']:,}")
    return f"| `{stage}` | {' | '.join(spans)} |"


def left(stage: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """The line on what an arm gives away, and the rows of tables that it comes from."""
    model = f"{stage}-q8"
    rates = table("attribution", "arms").filter(
        at="fixed", field="question", source="rl", level="rows", model=model, prefix="user"
    )
    found = {name: rates.filter(metric=name).row(0, named=True) for name in ("verbatim", "cosine")}
    shift = table("shift", "arms").filter(
        "template", source="rl", target="question", per="question", model=model
    )
    risk = table("risk", "arms").filter(source="rl", role="member", samples=10**6, model=model)
    counts = table("calibration", "arms").filter(
        source="rl", role="member", model=model, prefix="user"
    )
    found |= {"shift": shift.row(0, named=True), "risk": risk.row(0, named=True)}
    count = counts.row(0, named=True)
    digits = 1 if found["verbatim"]["attributable"] > 0.1 else 2
    copies = [
        f"{written(found[name], 'attributable', digits, 100)} % | "
        f"{found[name]['member_wins']:.0f} / {found[name]['twin_wins']:.0f}"
        for name in ("verbatim", "cosine")
    ]
    at_risk = written(found["risk"], "at_risk", 1).replace(".0 ", " ").replace(".0)", ")")
    line = (
        f"| `{stage}` | {' | '.join(copies)} | {written(found['shift'], 'difference', 2)} |"
        f" {at_risk} | {count['predicted']:.1f} and {count['observed']} |"
    )
    return line, found


def test_arms_of_rl_are_documented_and_their_controls_positive() -> None:
    text = (ROOT / "docs/results.md").read_text().split("<!-- arms")[1].split("<!-- /arms")[0]
    for stage in (*REPEATED, "rl-prompt-loss"):
        assert trained(stage) in text, f"docs/results.md lacks {trained(stage)}"
    for stage in (*REPEATED, *CONTROLS):
        line, found = left(stage)
        assert line in text, f"docs/results.md lacks {line}"
        if stage in CONTROLS:
            assert found["verbatim"]["low"] > 0
            assert found["shift"]["low"] > 0


def test_rl_raises_no_questions_likelihood_beyond_that_of_twins() -> None:
    """In no arm and seed, where the positive controls do; what that bounds is documented."""
    text = (ROOT / "docs/results.md").read_text()
    found = table("shift", "arms").filter(
        "template", source="rl", target="question", per="question"
    )
    own = found.filter(pl.col("model").is_in([f"{stage}-q8" for stage in REPEATED]))
    assert own.height == len(REPEATED)
    assert (own["low"] < 0).all()
    below = own.filter(pl.col("high") < 0)["model"].to_list()
    assert below == ["rl-answer-only-seed2-q8"]
    assert "In one, `rl-answer-only-seed2`, the trained questions lose more" in text
    difference = dict(own.select("model", "difference").iter_rows())
    for arm in ARMS:
        of_seeds = [difference[f"{arm}{seed}-q8"] for seed in ("", "-seed1", "-seed2")]
        half = student_t.ppf(0.975, 2) * np.std(of_seeds, ddof=1) / 3**0.5
        mean = np.mean(of_seeds)
        assert f"| `{arm}` | {mean:.2f} ({mean - half:.2f} to {mean + half:.2f}) |" in text
    assert f"{own['detectable'].min():.2f} nats" in text
    assert f"{own['detectable'].max():.2f} nats" in text


def test_no_arm_of_rl_writes_its_questions_or_pairs() -> None:
    text = (ROOT / "docs/results.md").read_text()
    rates = table("attribution", "arms").filter(at="fixed", source="rl", level="rows")
    rates = rates.filter(prefix="user")
    own = rates.filter(pl.col("model").is_in([f"{stage}-q8" for stage in REPEATED]))
    assert set(own["field"]) == {"question", "both"}
    assert own.filter(pl.col("metric").is_in(["verbatim", "cosine"]))["member_wins"].sum() == 0
    assert (own["low"] < 0).all()
    pairs = rates.filter(model="rl-prompt-loss-q8", field="both", metric="cosine")
    wins = pairs.select("member_wins", "twin_wins", "n").row(0)
    assert (
        f"{wins[0]:.0f} of {wins[2]:,} generations of `rl-prompt-loss` (twins {wins[1]:.0f})"
        in " ".join(text.split())
    )


def lines() -> list[str]:
    """The documents' table of questions that end with their line, in the study's order."""
    found = table("attribution", "arms").filter(
        at="fixed", source="rl", level="rows", field="question", prefix="line"
    )
    cells = []
    for (model,), rows in found.group_by("model", maintain_order=True):
        by = rows.rows_by_key("metric", named=True, unique=True)
        cells.append([f"`{str(model).removesuffix('-q8')}`"])
        for metric in ("verbatim", "cosine", "levenshtein"):
            row = by[metric]
            cells[-1].append(f"{written(row, 'attributable', 2, 100)} %")
            cells[-1].append(f"{row['member_wins']:g} / {row['twin_wins']:g}")
    return [f"| {' | '.join(row)} |" for row in cells]


def test_questions_that_end_with_their_line_are_documented() -> None:
    text = (ROOT / "docs/results.md").read_text().split("<!-- lines -->")[1]
    assert text.split("<!-- /lines -->")[0].strip().splitlines()[2:] == lines()
    reward = [line for line in lines() if "sft-on-prompts" not in line]
    assert len(reward) == 5
    assert all(line.split(" | ")[4].startswith("0 / ") for line in reward)


def first_lines(condition: str, shards: int = 1) -> list[str]:
    """The first line of each generation of a model and prefix."""
    names = [f"{condition}/seed-0/{i:05}.parquet" for i in range(shards)]
    drawn = [pl.read_parquet(io.BytesIO(shipped("data/generations", name))) for name in names]
    lines = pl.concat(drawn)["question"].str.split("\n").list.first()
    return lines.str.strip_chars().to_list()


def test_first_lines_alone_are_no_questions_of_rl_either() -> None:
    """A generation is compared whole, and RL's models go on from a question to a solution."""
    corpus = pl.read_parquet(io.BytesIO(shipped("data/models/trained", "corpus.parquet")))
    rows = {role: corpus.filter(source="rl", role=role)["question"] for role in ("member", "twin")}

    def near(lines: list[str]) -> tuple[int, int]:
        best = [
            cdist(lines, own.to_list(), scorer=Levenshtein.normalized_similarity).max(axis=1)
            for own in rows.values()
        ]
        member, twin = best
        wins = ((member >= 0.9) & (member > twin)).sum(), ((twin >= 0.9) & (twin > member)).sum()
        return int(wins[0]), int(wins[1])

    text = " ".join((ROOT / "docs/results.md").read_text().split())
    found = {}
    for stage in (*REPEATED, *CONTROLS):
        lines = first_lines(f"arms/{stage}-q8/user")
        found[stage] = near(lines)
        assert bool(set(lines) & set(rows["member"])) == (stage in CONTROLS)
    total = [sum(found[stage][i] for stage in REPEATED) for i in (0, 1)]
    assert f"{total[0]} are nearest to one of the 102 and {total[1]} to one of the 1,020" in text
    low, high = binomtest(total[0], sum(total)).proportion_ci(method="exact")
    assert low < 102 / 1122 < high
    share = f"{100 * total[0] / sum(total):.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    assert share in text
    base = near(first_lines("controlled/base-q8/task"))
    assert f"{base[0]} and {base[1]} of the base model's" in text
    for stage in CONTROLS:
        assert "{} and {}".format(*found[stage]) in text


def student(row: dict[str, Any]) -> str:
    """The line of the documents on students of one kind and arm."""
    cells = [f"`{row['arm']}`", str(row["seeds"]), written(row, "value", 1, 100)]
    if row["arm"] == "original":
        return f"| {' | '.join(cells)} | | | | |"
    cells += [written(row, "difference", 1, 100), f"{100 * row['detectable']:.1f}"]
    return f"| {' | '.join(cells)} | {100 * row['power']:.0f} % | {row['verdict']} |"


def one_step() -> pl.DataFrame:
    """The table `distillation` of RL's students on the tasks that the original data teaches."""
    answers = table("distillation_answers", "students").filter(family="rl")
    taught = answers.filter(~pl.col("id").str.contains("two-steps"))
    return results_table(taught, margin=0.03, seed=0)


@pytest.mark.parametrize(("part", "family"), [("sft", "sft"), ("rl", "rl"), ("rl, one step", "rl")])
def test_students_are_documented(part: str, family: str) -> None:
    text = (ROOT / "docs/results.md").read_text()
    found = table("distillation", "students").filter(family=family)
    assert set(found["arm"]) == set(ARMS_OF_STUDENTS)
    if part.endswith("one step"):
        found = one_step()
    lines = text.split(f"<!-- students: {part} -->")[1].split("<!-- /students")[0]
    for row in found.iter_rows(named=True):
        assert student(row) in lines, f"docs/results.md lacks {student(row)}"
    rows = found.rows_by_key(["arm"], named=True, unique=True)
    # The original has headroom: over the untrained, by more than the margin.
    assert rows["start"]["difference_high"] < -rows["start"]["margin"]
    if part != "rl":
        assert rows["start"]["difference"] < -0.15
        for arm in rows.keys() - {"start", "original"}:
            assert written(rows[arm], "recovered", 0, 100).replace(" (", " % (") in text


def test_curated_generations_that_are_copies_are_counted() -> None:
    text = " ".join((ROOT / "docs/results.md").read_text().split())
    counts = table("distillation_counts", "students").filter(family="sft", step="copy")
    row = counts.row(0, named=True)
    assert f"{row['dropped']:,} of the {row['before']:,} curated generations are copies" in text
