"""What a written question asks: its task, and its right answer worked out from the text alone.

A model writes questions without the metadata that reasoning-gym's verifiers need. For the tasks of
`tasks.RL_TASKS` the text holds all that the answer takes, so it is computed here as reasoning-gym
computes it; a test holds the two against each other. A question that has a task's form but no
answer (a relative who is not in the story, an animal unknown to the task) has a task alone.
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

from reasoning_gym.arithmetic.leg_counting import ANIMALS
from reasoning_gym.graphs.family_relationships import FamilyRelationshipsConfig

from alignment_extraction.training.tasks import final_answer


class Question(NamedTuple):
    """What was recognised of a question."""

    task: str | None
    """Name of reasoning-gym's data set; None for a form that is not known."""
    answer: str | None
    """The right answer; None where the text does not determine one."""


def _letter_count(match: re.Match[str]) -> str | None:
    return str(match["text"].lower().count(match["letter"].lower()))


def _leg_count(match: re.Match[str]) -> str | None:
    total = 0
    for item in match["animals"].split(", "):
        number, _, name = item.partition(" ")
        animal = name if name in ANIMALS else name.removesuffix("s")
        if not number.isdecimal() or animal not in ANIMALS:
            return None
        total += int(number) * ANIMALS[animal]
    return str(total)


def _sibling_count(match: re.Match[str]) -> str | None:
    return str(int(match["a"] or match["b"]) + 1)


def _bit_count(match: re.Match[str]) -> str | None:
    return str(int(match["number"]).bit_count())


@functools.cache
def _genders() -> dict[str, int]:
    """0 for a female name of the task, 1 for a male one."""
    config = FamilyRelationshipsConfig()
    return dict.fromkeys(config.female_names, 0) | dict.fromkeys(config.male_names, 1)


def _relationship(match: re.Match[str]) -> str | None:
    """What the first person is to the second, of a couple and their child."""
    couple, child = {match["one"], match["other"]}, match["child"]
    first = match["a"] or match["c"] or match["e"]
    second = match["b"] or match["d"] or match["f"]
    people = couple | {child}
    known = len(people) == 3 and first != second and {first, second} <= people <= set(_genders())
    if not known:
        return None
    if first == child:
        words = ("daughter", "son")
    else:
        words = ("mother", "father") if second == child else ("wife", "husband")
    return words[_genders()[first]]


_NAME = r"[A-Z]\w*"
_FORMS: dict[str, tuple[re.Pattern[str], Callable[[re.Match[str]], str | None]]] = {
    "letter_counting": (
        re.compile(
            r'How many times does the letter "(?P<letter>\w)" appear in the text: '
            r'"(?P<text>[^"]*)"\?'
        ),
        _letter_count,
    ),
    "leg_counting": (
        re.compile(r"How many legs are there in total if you have (?P<animals>[^?]+)\?", re.I),
        _leg_count,
    ),
    "family_relationships": (
        re.compile(
            rf"(?P<one>{_NAME}) is married to (?P<other>{_NAME})\. They have a child called "
            rf"(?P<child>{_NAME})\.\s+(?:What is (?P<a>{_NAME}) to (?P<b>{_NAME})|How is "
            rf"(?P<c>{_NAME}) related to (?P<d>{_NAME})|What relation is (?P<e>{_NAME}) to "
            rf"(?P<f>{_NAME}))\? [^?]*"
        ),
        _relationship,
    ),
    "aiw": (
        re.compile(
            rf"{_NAME} has (?:(?P<a>\d+) sisters and she also has \d+ brothers|"
            rf"\d+ brothers and she also has (?P<b>\d+) sisters)\. "
            rf"How many sisters does {_NAME}'s brother have\?"
        ),
        _sibling_count,
    ),
    "count_bits": (
        re.compile(
            r"How many 1 bits are there in the binary representation of the number "
            r"(?P<number>\d{1,30})\?"
        ),
        _bit_count,
    ),
}


def recognise(question: str) -> Question:
    """The task that a question is one of, and its right answer."""
    for task, (form, answer) in _FORMS.items():
        if match := form.fullmatch(question.strip()):
            return Question(task, answer(match))
    return Question(None, None)


def same_answer(answer: str, reference: str) -> bool:
    """Whether two final answers are equal, but for case, outer spaces and a full stop."""
    return _plain(answer) == _plain(reference)


def _plain(answer: str) -> str:
    return answer.strip().removesuffix(".").casefold()


def reward(completions: list[str], label: list[str], **_: object) -> list[float]:
    """Score completions by exact match, as GRPOTrainer wants it.

    Args:
        completions: what the model wrote, its final answer after "####".
        label: the answer that counts as right, of each.

    Returns:
        1.0 for each final answer that is the label (see `same_answer`), else 0.0.
    """
    answers = [final_answer(completion) for completion in completions]
    pairs = zip(answers, label, strict=True)
    return [float(answer is not None and same_answer(answer, right)) for answer, right in pairs]
