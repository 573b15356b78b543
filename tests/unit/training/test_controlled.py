"""The controlled study's data: membership, disjointness, repeatability, verifiers."""

import json

import polars as pl
import pytest

from alignment_extraction.vocabulary import CORPUS as SCHEMA
from alignment_extraction.files import InputError
from alignment_extraction.settings.controlled import ControlledSettings
from alignment_extraction.training.controlled import build, post_training, statistics, stream
from alignment_extraction.training.tasks import (
    PRETRAINING_TASKS,
    RL_HELD_OUT_TASKS,
    RL_TASKS,
    final_answer,
    verify,
)

TOY = ControlledSettings(
    pretraining_templates=3,
    pretraining_instances=4,
    pretraining_task_instances=4,
    sft_templates=4,
    sft_instances=8,
    sft_repeated={64: 1, 4: 2},
    sft_fresh_instances=3,
    sft_held_out_templates=2,
    sft_held_out_instances=3,
    sft_task_instances=5,
    rl_instances=3,
    rl_fresh_instances=3,
    rl_held_out_instances=3,
)


@pytest.fixture(scope="module")
def corpus() -> pl.DataFrame:
    return build(TOY, seed=1)


def test_it_has_the_corpus_schema_and_sizes(corpus: pl.DataFrame) -> None:
    assert corpus.schema == SCHEMA
    counts = {
        (source, split): n
        for source, split, n in corpus.group_by("source", "split").agg(pl.len()).iter_rows()
    }
    tasks = len(RL_TASKS)
    assert counts == {
        ("pretraining", "member"): 3 * 4 + len(PRETRAINING_TASKS) * 4,
        ("sft", "member"): 4 * 8 + tasks * 5,
        ("sft", "fresh-instance"): 4 * 3,
        ("sft", "held-out-template"): 2 * 3,
        ("rl", "member"): tasks * 3,
        ("rl", "fresh-instance"): tasks * 3,
        ("rl", "held-out-template"): len(RL_HELD_OUT_TASKS) * 3,
    }
    assert corpus["id"].is_unique().all()
    assert (corpus["role"] == "member").equals(corpus["split"] == "member")


def test_no_question_occurs_twice(corpus: pl.DataFrame) -> None:
    assert corpus["question"].is_unique().all()


def test_templates_are_disjoint_where_they_must_be(corpus: pl.DataFrame) -> None:
    def templates(source: str, split: str) -> set[str]:
        rows = corpus.filter(pl.col("source") == source, pl.col("split") == split)
        return set(rows["template"])

    parts = [
        templates("pretraining", "member"),
        templates("sft", "member"),
        templates("sft", "held-out-template"),
        templates("rl", "held-out-template"),
    ]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert templates("rl", "member") <= templates("sft", "member")
    assert templates("rl", "fresh-instance") == templates("rl", "member")
    gsm = {t for t in templates("sft", "member") if t.startswith("gsm_symbolic/")}
    assert templates("sft", "fresh-instance") == gsm


def test_repetitions_are_those_of_the_settings(corpus: pl.DataFrame) -> None:
    rows = corpus.filter(pl.col("source") == "sft", pl.col("split") == "member")
    gsm = rows.filter(pl.col("template").str.starts_with("gsm_symbolic/"))
    counts = dict(gsm.group_by("repetitions").agg(pl.len()).iter_rows())
    assert counts == {64: 4 * 1, 4: 4 * 2, 1: 4 * 5}
    assert corpus.filter(pl.col("role") != "member")["repetitions"].unique().to_list() == [1]


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another(corpus: pl.DataFrame) -> None:
    assert build(TOY, seed=1).equals(corpus)
    other = build(TOY, seed=2)
    assert not set(other["question"]) & set(corpus["question"]) >= set(corpus["question"])


def test_streams_are_independent_of_each_other() -> None:
    assert stream(1, "a") == stream(1, "a")
    assert len({stream(1, "a"), stream(1, "b"), stream(2, "a")}) == 3


def test_more_of_one_part_leaves_the_others_as_they_are(corpus: pl.DataFrame) -> None:
    more = build(TOY.model_copy(update={"rl_instances": 6}), seed=1)
    unchanged = corpus.filter(pl.col("source") != "rl")
    assert more.filter(pl.col("source") != "rl").equals(unchanged)


def test_statistics_count_each_part(corpus: pl.DataFrame) -> None:
    counts = statistics(corpus)
    assert counts["rows"] == counts["usable"] == corpus.height
    assert counts["duplicates"] == counts["rejected"] == counts["questions_in_several_roles"] == 0
    assert sum(counts["roles"].values()) == corpus.height
    sft = counts["sources"]["sft"]
    tasks = len(RL_TASKS)
    assert sft["splits"] == {
        "fresh-instance": 4 * 3,
        "held-out-template": 2 * 3,
        "member": 4 * 8 + tasks * 5,
    }
    assert sft["repetitions"] == {"1": 4 * 5 + tasks * 5, "4": 4 * 2, "64": 4}
    assert sum(part["rows"] for part in counts["sources"].values()) == corpus.height


def test_every_reference_answer_satisfies_its_verifier(corpus: pl.DataFrame) -> None:
    for answer, metadata in corpus.select("answer", "metadata").iter_rows():
        assert verify(answer, metadata) == 1.0, (answer, metadata)


def test_conversations_hold_the_question_and_the_answer(corpus: pl.DataFrame) -> None:
    for row in corpus.iter_rows(named=True):
        assert row["text"] == f"{row['question']}\n{row['answer']}"
        assert json.loads(row["metadata"])["dataset"] == row["template"].partition("/")[0]
        turns = [(turn["role"], turn["content"]) for turn in row["messages"]]
        expected = [("user", row["question"]), ("assistant", row["answer"])]
        assert turns == ([] if row["source"] == "pretraining" else expected)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("3 + 4 = 7\n#### 7", "7"),
        ("#### 1\nno:\n####  8 \nand more", "8"),
        ("the answer is 7", None),
        ("7 ####", ""),
    ],
)
def test_final_answer(completion: str, answer: str | None) -> None:
    assert final_answer(completion) == answer


def test_a_wrong_answer_and_no_answer_score_less(corpus: pl.DataFrame) -> None:
    row = corpus.filter(pl.col("template") == "leg_counting/1-animal").row(0, named=True)
    assert verify("#### 123456", row["metadata"]) < 0.5
    assert verify("no mark", row["metadata"]) == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sft_templates": 90}, "sft_templates"),
        ({"sft_instances": 2}, "sft_repeated"),
        ({"rl_instances": 600}, "leg_counting/1-animal"),
    ],
)
def test_impossible_sizes_are_refused_by_name(changes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(TOY.model_copy(update=changes), seed=1)


def test_pretraining_text_is_a_control_of_what_is_searched(corpus: pl.DataFrame) -> None:
    found = post_training(corpus)
    assert found.drop("role").equals(corpus.drop("role"))
    assert set(found.filter(source="pretraining")["role"]) == {"control"}
    others = pl.col("source") != "pretraining"
    assert found.filter(others).equals(corpus.filter(others))
