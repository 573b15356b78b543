"""Questions whose answers the text holds, against reasoning-gym's own answers."""

import polars as pl
import pytest

from alignment_extraction.distillation.questions import recognise, reward, same_answer
from alignment_extraction.training.tasks import RL_TASKS, final_answer, task_entries
from tests.toy_training import toy_corpus


@pytest.mark.parametrize("task", RL_TASKS, ids=lambda task: str(task.template))
def test_right_answers_are_reasoning_gyms(task) -> None:  # type: ignore[no-untyped-def]
    entries = task_entries(task, seed=7)
    for _ in range(200):
        entry = next(entries)
        question = recognise(task.question(entry))
        assert question.task == task.dataset
        assert question.answer == entry["answer"]


def test_other_questions_have_no_task() -> None:
    others = toy_corpus().filter(pl.col("template").str.starts_with("gsm_symbolic"))
    assert {recognise(text).task for text in others["question"]} == {None}
    for text in ("", "?", "How many 1 bits are there in the binary representation of the number"):
        assert recognise(text) == (None, None)


@pytest.mark.parametrize(
    ("task", "question"),
    [
        ("leg_counting", "How many legs are there in total if you have 3 unicorns?"),
        ("leg_counting", "How many legs are there in total if you have some cows?"),
        (
            "family_relationships",
            "Jack is married to Lucy. They have a child called Sage.\n\nWhat is George to Lucy? "
            "Respond only with the word that describes their relationship.",
        ),
        (
            "family_relationships",
            "Jack is married to Lucy. They have a child called Sage.\n\nHow is Lucy related to "
            "Lucy? Provide the relationship in one word.",
        ),
        (
            "family_relationships",
            "Jack is married to Jack. They have a child called Sage.\n\nHow is Sage related to "
            "Jack? Provide the relationship in one word.",
        ),
    ],
)
def test_a_form_without_an_answer(task: str, question: str) -> None:
    assert recognise(question) == (task, None)


def test_the_reward_is_equality_with_the_label() -> None:
    rows = toy_corpus().filter(source="rl")
    labels = [final_answer(answer) for answer in rows["answer"]]
    assert reward(rows["answer"].to_list(), labels) == [1.0] * rows.height  # type: ignore[arg-type]
    assert reward(["#### 4", "4", "", "#### ", "#### 40"], ["4"] * 5) == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert same_answer(" Son. ", "son")
    assert not same_answer("1", "-1")
