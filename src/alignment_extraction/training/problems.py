"""Grade-school problems from a small grammar: their templates, draws, labelled edits and answers.

A template is a scene, a way to get a first number from two, a change that adds to it or takes from
it, and a default wording; its draws differ in names, items and numbers. Any draw can be written
with one thing edited. Short templates have one or two sentences and serve reinforcement learning.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from alignment_extraction.files import InputError
from alignment_extraction.training.scenarios import (
    CHANGES,
    ENDS,
    LAST_CHANGES,
    NAMES,
    QUESTIONS,
    REVERSED_QUESTIONS,
    SCENES,
    SHORT,
    STARTS,
    Scene,
)
from alignment_extraction.training.tasks import ANSWER_MARK

EDITS = ("numbers", "names", "order", "wording", "distractor", "reversed", "operation")
"""What an edit changes: the numbers; the persons' names; the order of the sentences; their
wording; a sentence of no use is added; the question asks for a number that was given and gives the
one that was asked for; an operation is added."""

_SIGN = {"+": 1, "-": -1}
_TIMES = ("groups", "days", "times")
_ORDERS = ((0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0))
_PATIENCE = 1000  # draws without a second variant after which a problem has none


class Problem(NamedTuple):
    """One problem as it is written down."""

    question: str
    steps: tuple[str, ...]
    """Equations, in order."""
    result: int
    facts: str
    """The question without what it asks for."""

    @property
    def answer(self) -> str:
        """The steps, one a line, then "#### " and the result."""
        return "\n".join([*self.steps, f"{ANSWER_MARK} {self.result}"])


@dataclass(frozen=True)
class Draw:
    """The values of a template's slots, and how the problem is written."""

    name: str
    friend: str
    item: str
    boxes: str
    a: int
    b: int
    c: int
    wording: tuple[int, int, int] = (0, 0, 0)
    """Which sentence for the beginning, the change and the question."""
    order: int = 0
    """Place in the list of orders; 0 is beginning, change, question."""


@dataclass(frozen=True)
class Template:
    """A scene with a structure: `start` gives a first number, `sign` is "+" or "-"."""

    scene: Scene
    start: str
    sign: str
    wording: tuple[int, int, int]

    @property
    def name(self) -> str:
        """Such as "orchard/groups+"."""
        return f"{self.scene.name}/{self.start}{self.sign}"

    @cached_property
    def numbers(self) -> tuple[tuple[int, int, int], ...]:
        """All numbers a, b, c that give a positive result."""
        if self.start in ("sum", "both"):
            pairs = [(a, b) for a in range(2, 20) for b in range(2, 20)]
        elif self.start in ("fewer", "rest"):
            pairs = [(a, b) for a in range(8, 30) for b in range(2, 10) if a - b >= 3]
        elif self.start == "share":
            pairs = [(a, b) for a in range(2, 10) for b in range(4, 25)]
        else:
            pairs = [(a, b) for a in range(2, 10) for b in range(2, 10)]
        return tuple(
            (a, b, c)
            for a, b in pairs
            for c in range(2, 30)
            if self._first(a, b)[0] + _SIGN[self.sign] * c > 0
        )

    def possible(self) -> int:
        """How many questions the template can give, at least: names, items and numbers count."""
        return len(NAMES) * len(self.scene.items) * len(self.numbers)

    def draw(self, source: random.Random) -> Draw:
        """Draw a problem; names, item and numbers are uniform and independent."""
        name, friend = source.sample(NAMES, 2)
        item = source.choice(self.scene.items)
        a, b, c = source.choice(self.numbers)
        return Draw(name, friend, item, self.scene.boxes, a, b, c, self.wording)

    def write(self, draw: Draw) -> Problem:
        """Write a problem."""
        start, change, question = self._sentences(draw, draw.c)
        first, step = self._first(draw.a, draw.b)
        result, last = _changed(first, self.sign, draw.c, draw.item)
        return self._ordered(draw, [start, change, question], (f"{step} {draw.item}", last), result)

    def variants(self, draw: Draw, edit: str, source: random.Random) -> tuple[Problem, Problem]:
        """Write a problem with the same edit in two different ways, exchangeable ones.

        Raises:
            InputError: an unknown edit.
        """
        if edit not in EDITS:
            raise InputError(f"edit {edit!r} is unknown; use one of {', '.join(EDITS)}")
        original = self.write(draw)
        found: list[Problem] = []
        for _ in range(_PATIENCE):
            problem = self._edited(draw, edit, source)
            if problem.question not in {p.question for p in (original, *found)}:
                found.append(problem)
            if len(found) == 2:
                return found[0], found[1]
        raise InputError(f"template {self.name} has fewer than two variants with edit {edit!r}")

    def _edited(self, draw: Draw, edit: str, source: random.Random) -> Problem:
        if edit == "numbers":
            a, b, c = source.choice(self.numbers)
            return self.write(replace(draw, a=a, b=b, c=c))
        if edit == "names":
            name, friend = source.sample(NAMES, 2)
            return self.write(replace(draw, name=name, friend=friend))
        if edit == "order":
            return self.write(replace(draw, order=source.randrange(1, len(_ORDERS))))
        if edit == "wording":
            wording = (source.randrange(4), source.randrange(4), source.randrange(4))
            return self.write(replace(draw, wording=wording))
        if edit == "distractor":
            aside = self.scene.aside.format(n=source.randrange(2, 100))
            problem = self.write(draw)
            *facts, question = self._sentences(draw, draw.c)
            facts.insert(source.randrange(3), aside)
            return problem._replace(question=" ".join([*facts, question]), facts=" ".join(facts))
        if edit == "reversed":
            return self._reversed(draw, source.choice(ENDS), source.choice(REVERSED_QUESTIONS))
        return self._longer(draw, source)

    def _reversed(self, draw: Draw, end: str, question: str) -> Problem:
        start, change, _ = self._sentences(draw, "some")
        first, step = self._first(draw.a, draw.b)
        total, _ = _changed(first, self.sign, draw.c, draw.item)
        larger, smaller = max(total, first), min(total, first)
        slots = {"name": draw.name, "items": draw.item, "total": total}
        facts = f"{start} {change} {end.format(**slots)}"
        steps = (f"{step} {draw.item}", f"{larger} - {smaller} = {draw.c} {draw.item}")
        return Problem(f"{facts} {question.format(**slots)}", steps, draw.c, facts)

    def _longer(self, draw: Draw, source: random.Random) -> Problem:
        start, change, question = self._sentences(draw, draw.c)
        problem = self.write(draw)
        sign = source.choice("+-") if problem.result > 2 else "+"
        size = source.randrange(2, 20 if sign == "+" else min(20, problem.result))
        result, step = _changed(problem.result, sign, size, draw.item)
        more = source.choice(LAST_CHANGES).format(name=draw.name, change=self._change(sign, size))
        facts = f"{start} {change} {more}"
        return Problem(f"{facts} {question}", (*problem.steps, step), result, facts)

    def _first(self, a: int, b: int) -> tuple[int, str]:
        """The number that a problem begins with, and the equation that gives it."""
        if self.start in _TIMES:
            return a * b, f"{a} * {b} = {a * b}"
        if self.start == "share":
            return b, f"{a * b} / {a} = {b}"
        if self.start in ("sum", "both"):
            return a + b, f"{a} + {b} = {a + b}"
        return a - b, f"{a} - {b} = {a - b}"

    def _change(self, sign: str, size: int | str) -> str:
        return (self.scene.gain if sign == "+" else self.scene.lose).format(n=size)

    def _sentences(self, draw: Draw, size: int | str) -> list[str]:
        slots = {
            "name": draw.name,
            "friend": draw.friend,
            "items": draw.item,
            "boxes": draw.boxes,
            "gathers": self.scene.gathers,
            "a": draw.a,
            "b": draw.b,
            "n": draw.a * draw.b,
            "change": self._change(self.sign, size),
        }
        kinds = (STARTS[self.start], CHANGES, QUESTIONS)
        return [kind[i].format(**slots) for kind, i in zip(kinds, draw.wording, strict=True)]

    def _ordered(
        self, draw: Draw, sentences: list[str], steps: tuple[str, ...], result: int
    ) -> Problem:
        order = _ORDERS[draw.order]
        facts = " ".join(sentences[i] for i in order if i != 2)
        return Problem(" ".join(sentences[i] for i in order), steps, result, facts)


def _changed(number: int, sign: str, size: int, item: str) -> tuple[int, str]:
    result = number + _SIGN[sign] * size
    return result, f"{number} {sign} {size} = {result} {item}"


def templates() -> list[Template]:
    """All 80 templates: each scene with four of the structures, each structure in ten scenes."""
    starts = list(STARTS)
    found = []
    for place, scene in enumerate(SCENES):
        for k in range(4):
            start = starts[(2 * k + place) % len(starts)]
            sign = "+-"[(place // 2 + place // 8 + k) % 2]
            wording = ((place + k) % 4, (place // 4 + k) % 4, (place // 2 + k) % 4)
            found.append(Template(scene, start, sign, wording))
    return found


@dataclass(frozen=True)
class ShortTemplate:
    """A short problem; its items and boxes are those of all scenes."""

    kind: str
    pairs: tuple[tuple[int, int], ...]
    """The numbers a and b that it is drawn from."""
    solve: Callable[[int, int, int], tuple[tuple[str, ...], int]]
    """From a, b and c, the equations and the result."""

    @property
    def name(self) -> str:
        """Such as "short/more"."""
        return f"short/{self.kind}"

    def possible(self) -> int:
        """How many questions the template can give, at least."""
        facts = SHORT[self.kind][0]
        friends = len(NAMES) - 1 if "{friend}" in facts else 1
        boxes = len(SCENES) if "{boxes}" in facts else 1
        items = len({item for scene in SCENES for item in scene.items})
        return len(NAMES) * friends * boxes * items * len(set(self.pairs))

    def draw(self, source: random.Random) -> Draw:
        """Draw a problem; names, item, boxes and numbers are uniform and independent."""
        name, friend = source.sample(NAMES, 2)
        item = source.choice(source.choice(SCENES).items)
        boxes = source.choice(SCENES).boxes
        a, b = source.choice(self.pairs)
        return Draw(name, friend, item, boxes, a, b, source.randint(1, a))

    def write(self, draw: Draw) -> Problem:
        """Write a problem; its first step restates the facts."""
        facts, question = (
            sentence.format(
                name=draw.name,
                friend=draw.friend,
                items=draw.item,
                boxes=draw.boxes,
                a=draw.a,
                b=draw.b,
                c=draw.c,
                n=draw.a * draw.b,
            )
            for sentence in SHORT[self.kind]
        )
        steps, result = self.solve(draw.a, draw.b, draw.c)
        return Problem(f"{facts} {question}", (facts, *steps), result, facts)


_DIGITS = tuple((a, b) for a in range(2, 10) for b in range(2, 10))
_ORDERED = tuple((a, b) for a in range(3, 19) for b in range(2, a))
SHORT_TEMPLATES = {
    template.name: template
    for template in (
        ShortTemplate("more", _DIGITS, lambda a, b, _: ((f"{a} + {b} = {a + b}",), a + b)),
        ShortTemplate("less", _ORDERED, lambda a, b, _: ((f"{a} - {b} = {a - b}",), a - b)),
        ShortTemplate(
            "double",
            tuple((a, 0) for a in range(2, 20)),
            lambda a, _, __: ((f"2 * {a} = {2 * a}",), 2 * a),
        ),
        ShortTemplate("product", _DIGITS, lambda a, b, _: ((f"{a} * {b} = {a * b}",), a * b)),
        ShortTemplate("difference", _ORDERED, lambda a, b, _: ((f"{a} - {b} = {a - b}",), a - b)),
        ShortTemplate("quotient", _DIGITS, lambda a, b, _: ((f"{a * b} / {a} = {b}",), b)),
        ShortTemplate("total", _DIGITS, lambda a, b, _: ((f"{a} + {b} = {a + b}",), a + b)),
        ShortTemplate(
            "two-steps",
            _DIGITS,
            lambda a, b, c: (
                (f"{a} + {b} = {a + b}", f"{a + b} - {c} = {a + b - c}"),
                a + b - c,
            ),
        ),
    )
}
