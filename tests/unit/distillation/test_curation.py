"""Curation: what each step leaves out, that its counts add up, near-duplicates by brute force."""

import itertools
from collections.abc import Sequence

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_extraction.distillation.curation import (
    curate,
    final_answer,
    trl_columns,
    word_runs,
)
from alignment_extraction.training import problems

STEPS = ["truncated", "empty", "ill-formed", "repeated", "exact-duplicate", "near-duplicate"]
NUMBERS = {"q": "Count to {} please, slowly and aloud.", "a": "One, two, up to {}.\n#### {}"}


def generations(*rows: tuple[str, str | None, str, str]) -> pl.DataFrame:
    names = ["question", "answer", "question_finish", "answer_finish"]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return frame.with_row_index("index")


def sample(question: str, answer: str | None, asked: str = "stop", answered: str = "stop"):  # type: ignore[no-untyped-def]
    return question, answer, asked, answered


def test_every_step_drops_its_kind_and_no_other() -> None:
    rows = generations(
        sample("What is one and one?", "#### 2"),
        sample("What is one and", "#### 2", asked="length"),
        sample("What is two and two?", "#### 4 and", answered="length"),
        sample("What is three and three?", None, answered="stop"),
        sample(" \n", "#### 6"),
        sample("What is four and four?", "\t"),
        sample("What is a broken \ufffd sign?", "#### 8"),
        sample("What follows?<|im_start|>user", "#### 9"),
        sample("What do we hear?", "so so so so so so so so so so so so so"),
        sample("what is  ONE and one?", "#### 2 "),
        sample("A long question that is told word for word to the very end, is it?", "#### 1"),
        sample("A long question that is told word for word to the very end, was it?", "#### 1"),
    )
    curated = curate(rows, near_duplicate=0.4)
    assert curated.counts["step"].to_list() == STEPS
    assert curated.counts["dropped"].to_list() == [2, 3, 2, 1, 1, 1]
    assert curated.rows["index"].to_list() == [0, 10]


def test_a_missing_finish_of_a_missing_answer_is_not_truncation() -> None:
    rows = generations(("What?", None, "stop", None), ("What?", "#### 1", "stop", "stop"))  # type: ignore[arg-type]
    counts = curate(rows, 0.8).counts
    assert counts["dropped"].to_list() == [0, 1, 0, 0, 0, 0]


def test_nothing_at_all_can_be_curated() -> None:
    curated = curate(generations(), 0.8)
    assert curated.rows.is_empty()
    assert curated.counts["before"].to_list() == [0] * len(STEPS)


words = st.lists(st.sampled_from(["a", "b", "cat", "D", "\n"]), max_size=9).map(" ".join)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(words, words, st.sampled_from(["stop", "length"])), max_size=12))
def test_counts_add_up_and_a_second_curation_changes_nothing(
    drawn: Sequence[tuple[str, str, str]],
) -> None:
    rows = generations(*[(question, answer, "stop", end) for question, answer, end in drawn])
    curated = curate(rows, 0.7)
    counts = curated.counts
    assert (counts["before"] - counts["dropped"]).to_list() == counts["left"].to_list()
    assert counts["before"].to_list() == [rows.height, *counts["left"].to_list()[:-1]]
    assert counts["left"][-1] == curated.rows.height
    assert curated.rows["index"].is_sorted()
    again = curate(curated.rows, 0.7)
    assert again.counts["dropped"].sum() == 0


@settings(deadline=None, max_examples=30)
@given(st.lists(words, max_size=8), st.integers(1, 4))
def test_word_runs_against_a_loop(texts: list[str], length: int) -> None:
    expected = []
    for text in texts:
        own = text.lower().split()
        runs = [" ".join(own[i : i + length]) for i in range(max(1, len(own) - length + 1))]
        expected.append(runs if own else [])
    assert word_runs(pl.Series(texts, dtype=pl.String), length).to_list() == expected


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=8, unique=True))
def test_near_duplicates_against_all_pairs(drawn: list[tuple[str, str]]) -> None:
    """What is left has no near pair."""
    rows = generations(*[sample(f"x {question}", f"y {answer}") for question, answer in drawn])
    curated = curate(rows, 0.5)
    kept = curated.rows["index"].to_list()
    sets = []
    for question, answer, *_ in rows.select("question", "answer").iter_rows():
        own = f"{question}\n{answer}".lower().split()
        sets.append({" ".join(own[i : i + 5]) for i in range(max(1, len(own) - 4))})

    def near(i: int, j: int) -> bool:
        return len(sets[i] & sets[j]) >= 0.5 * len(sets[i] | sets[j])

    assert not any(near(i, j) for i, j in itertools.combinations(kept, 2))


def test_a_line_break_of_windows_is_well_formed() -> None:
    rows = generations(
        sample("One?\r\nTwo?", "#### 3"), sample("A lone\rreturn?", "#### 1"), sample("z", "a\r")
    )
    curated = curate(rows, 1.0)
    assert curated.rows["index"].to_list() == [0]
    assert curated.counts.filter(step="ill-formed")["dropped"].item() == 2


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(["####", "#", " ", "\n", "12", "so 3."]), max_size=8).map("".join))
def test_final_answers_are_those_of_the_verifier(text: str) -> None:
    found = pl.DataFrame({"text": [text]}).select(final_answer("text")).item()
    assert found == (problems.final_answer(text) or None)


def test_columns_for_trl() -> None:
    rows = generations(sample("Q?", "so\n#### 2"), sample("R?", "yes"))
    user, assistant = (
        {"role": role, "content": text}
        for role, text in (("user", "Q?"), ("assistant", "so\n#### 2"))
    )
    assert trl_columns(rows, "sft").row(0) == ([user, assistant],)
    assert trl_columns(rows, "rl").rows() == [
        ([user], "2"),
        ([{"role": "user", "content": "R?"}], "yes"),
    ]
