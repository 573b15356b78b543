"""The grammar of problems: how many there are, right arithmetic, what each edit keeps."""

import random
import re
from typing import Any

import pytest

from alignment_extraction.training.problems import (
    EDITS,
    NAMES,
    SCENES,
    SHORT_TEMPLATES,
    WORDS,
    ShortTemplate,
    Template,
    _numbers,
    _pairs,
    final_answer,
    restates,
    templates,
    verify,
)

ALL: list[Template | ShortTemplate] = [*templates(), *SHORT_TEMPLATES.values()]


def possible(template: Template | ShortTemplate) -> int:
    """How many questions a template can give, at least: names, items and numbers count."""
    if isinstance(template, Template):
        numbers = _numbers(template.start, template.change)
        return len(NAMES) * len(template.scene["items"]) * len(numbers)
    structure = WORDS["short"][template.kind]
    friends = len(NAMES) - 1 if "{friend}" in structure["facts"] else 1
    boxes = len(SCENES) if "{boxes}" in structure["facts"] else 1
    items = len({item for scene in SCENES for item in scene["items"]})
    return len(NAMES) * friends * boxes * items * len(_pairs(structure))


def test_every_template_has_a_million_possible_questions() -> None:
    assert len(templates()) == len({t.name for t in templates()}) == 80
    assert len({(t.scene["name"], t.start, t.change) for t in templates()}) == 80
    for template in ALL:
        assert possible(template) >= 10**6, template.name


def test_different_draws_are_different_questions() -> None:
    """The count of `possible` is one of questions: names, items and numbers can be read off."""
    source = random.Random(0)
    for template in ALL:
        questions: dict[str, Any] = {}
        for _ in range(300):
            draw = template.draw(source)
            question = template.write(draw).question
            assert draw.name in question
            assert draw.items in question
            if isinstance(template, Template):
                key = (draw.name, draw.items, draw.a, draw.b, draw.c)
                assert questions.setdefault(question, key) == key
        assert len({template.write(template.draw(source)).question for _ in range(300)}) > 295


def test_words_are_distinct() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 128
    assert all(len(set(scene["items"])) == 8 for scene in SCENES)
    assert all(len(set(start["wordings"])) == 4 for start in WORDS["starts"].values())


@pytest.mark.parametrize("template", ALL, ids=lambda t: t.name)
def test_the_steps_are_right_and_end_in_the_result(template: Template | ShortTemplate) -> None:
    source = random.Random(1)
    for _ in range(40):
        draw = template.draw(source)
        problems = [template.write(draw)]
        if isinstance(template, Template):
            problems += [p for e in EDITS for p in template.variants(draw, e, source)]
        for problem in problems:
            equations = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", "\n".join(problem.steps))
            assert equations
            for a, sign, b, result in equations:
                assert eval(f"{a} {sign} {b}") == int(result)
            assert int(equations[-1][3]) == problem.result > 0
            assert final_answer(problem.answer) == str(problem.result)
            assert problem.question.count("?") == 1
            assert "{" not in problem.question
            assert all(fact in problem.question for fact in re.split(r"(?<=\.) ", problem.facts))


def test_the_first_equations_use_the_numbers_of_the_question() -> None:
    source = random.Random(2)
    for template in templates():
        problem = template.write(template.draw(source))
        said = set(re.findall(r"\d+", problem.question))
        first, last = (re.findall(r"\d+", step) for step in problem.steps)
        assert {first[0], first[1]} <= said
        assert last[0] == first[2]
        assert last[1] in said


def test_edits_change_what_they_say() -> None:
    source = random.Random(3)

    def words(text: str) -> list[str]:
        return sorted(re.findall(r"\w+", text))

    def letters(text: str) -> str:
        return re.sub(r"\d+", "0", text)

    for template in templates():
        draw = template.draw(source)
        original = template.write(draw)
        for edit in EDITS:
            first, second = template.variants(draw, edit, source)
            assert len({original.question, first.question, second.question}) == 3
            for version in (first, second):
                if edit == "numbers":
                    assert letters(version.question) == letters(original.question)
                elif edit == "names":
                    assert version.steps == original.steps
                elif edit == "order":
                    assert words(version.question) == words(original.question)
                elif edit == "wording":
                    assert version.result == original.result
                elif edit == "distractor":
                    extra = len(words(version.question)) - len(words(original.question))
                    assert extra == len(words(template.scene["aside"].format(n=1)))
                elif edit == "reversed":
                    assert version.result == draw.c
                    assert str(original.result) in version.question
                else:
                    assert version.steps[:2] == original.steps
                    assert len(version.steps) == 3


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
    assert verify(completion, '{"result": 7}') == float(answer == "7")


def test_restating_is_nearly_the_facts_somewhere() -> None:
    metadata = '{"facts": "Ann has 12 apples. Ben has 3."}'
    assert restates("Well: Ann has 12 apples. Ben has 3.\n12 - 3 = 9", metadata) == 1.0
    assert restates("Ann has 12 apples. Ben has 4.", metadata) == 1.0
    assert restates("Zoe has 12 plums. Tom has 3.", metadata) == 0.0
    assert restates("", metadata) == restates("Ann", metadata) == 0.0
