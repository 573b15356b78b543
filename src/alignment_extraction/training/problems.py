"""Grade-school problems from a small grammar: their templates, draws, labelled edits and answers.

A template is a scene, a way to get a first number from two, a change that adds to it or takes from
it, and a default wording; its draws differ in names, items and numbers. Any draw can be written
with one thing edited. Short templates have one or two sentences and serve reinforcement learning.
Words, sentences and ranges of numbers are in problems.toml. Completions are scored by the metadata
of their question's row, JSON with `facts` and `result`.
"""

import functools
import itertools
import json
import random
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any, NamedTuple

from rapidfuzz import fuzz

WORDS: Mapping[str, Any] = tomllib.loads(
    resources.files(__package__).joinpath("problems.toml").read_text("utf-8")
)
NAMES: tuple[str, ...] = tuple(WORDS["names"].split())
SCENES: tuple[Mapping[str, Any], ...] = tuple(WORDS["scenes"])

EDITS = ("numbers", "names", "order", "wording", "distractor", "reversed", "operation")
"""What an edit changes: the numbers; the persons' names; the order of the sentences; their
wording; a sentence of no use is added; the question asks for a number that was given and gives the
one that was asked for; an operation is added."""

ANSWER_MARK = "####"
_ORDERS = ((0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0))


class Problem(NamedTuple):
    """One problem as it is written down: equations as steps, facts without what is asked for."""

    question: str
    steps: tuple[str, ...]
    result: int
    facts: str

    @property
    def answer(self) -> str:
        """The steps, one a line, then "#### " and the result."""
        return "\n".join([*self.steps, f"{ANSWER_MARK} {self.result}"])


class Draw(NamedTuple):
    """The values of a template's slots, and how the problem is written.

    `wording` says which sentence for the beginning, the change and the question, `order` which of
    the orders of these; 0 is as named.
    """

    name: str
    friend: str
    items: str
    boxes: str
    a: int
    b: int
    c: int
    wording: tuple[int, ...] = (0, 0, 0)
    order: int = 0

    def fill(self, sentence: str, **others: object) -> str:
        """Put the values, and `others`, into a sentence's slots."""
        return sentence.format(**self._asdict(), n=self.a * self.b, **others)


def _pairs(structure: Mapping[str, Any]) -> list[tuple[int, int]]:
    """All numbers a and b of a structure, in order."""
    (first_a, last_a), (first_b, last_b) = structure["a"], structure["b"]
    pairs = itertools.product(range(first_a, last_a + 1), range(first_b, last_b + 1))
    return [(a, b) for a, b in pairs if a - b >= structure.get("least", a - b)]


def _solve(operation: str, a: int, b: int) -> tuple[int, str]:
    """The result of an operation, and its equation."""
    left, sign, right, result = {
        "add": (a, "+", b, a + b),
        "subtract": (a, "-", b, a - b),
        "multiply": (a, "*", b, a * b),
        "divide": (a * b, "/", a, b),
        "double": (2, "*", a, 2 * a),
    }[operation]
    return result, f"{left} {sign} {right} = {result}"


class Template(NamedTuple):
    """A scene with a structure: `start` gives a first number, `change` adds or subtracts one."""

    scene: Mapping[str, Any]
    start: str
    change: str
    wording: tuple[int, ...]

    @property
    def name(self) -> str:
        """Such as "orchard/groups+"."""
        return f"{self.scene['name']}/{self.start}{'+' if self.change == 'add' else '-'}"

    def draw(self, source: random.Random) -> Draw:
        """Draw a problem; names, item and numbers are uniform and independent."""
        name, friend = source.sample(NAMES, 2)
        item = source.choice(self.scene["items"])
        numbers = source.choice(_numbers(self.start, self.change))
        return Draw(name, friend, item, self.scene["boxes"], *numbers, self.wording)

    def write(self, draw: Draw) -> Problem:
        """Write a problem."""
        sentences = self._sentences(draw, draw.c)
        first, step = _solve(WORDS["starts"][self.start]["operation"], draw.a, draw.b)
        result, last = _solve(self.change, first, draw.c)
        order = _ORDERS[draw.order]
        facts = " ".join(sentences[i] for i in order if i != 2)
        steps = (f"{step} {draw.items}", f"{last} {draw.items}")
        return Problem(" ".join(sentences[i] for i in order), steps, result, facts)

    def variants(self, draw: Draw, edit: str, source: random.Random) -> tuple[Problem, Problem]:
        """Write a problem with the same edit, one of `EDITS`, in two exchangeable ways."""
        original, found = self.write(draw).question, dict[str, Problem]()
        while len(found) < 2:
            problem = self._edited(draw, edit, source)
            if problem.question != original:
                found.setdefault(problem.question, problem)
        first, second = found.values()
        return first, second

    def _edited(self, draw: Draw, edit: str, source: random.Random) -> Problem:
        match edit:
            case "numbers":
                a, b, c = source.choice(_numbers(self.start, self.change))
                return self.write(draw._replace(a=a, b=b, c=c))
            case "names":
                name, friend = source.sample(NAMES, 2)
                return self.write(draw._replace(name=name, friend=friend))
            case "order":
                return self.write(draw._replace(order=source.randrange(1, len(_ORDERS))))
            case "wording":
                wording = tuple(source.randrange(4) for _ in draw.wording)
                return self.write(draw._replace(wording=wording))
        _, steps, result, _ = self.write(draw)
        *facts, question = self._sentences(draw, draw.c)
        if edit == "distractor":
            aside = self.scene["aside"].format(n=source.randrange(2, 100))
            facts.insert(source.randrange(3), aside)
        elif edit == "operation":
            change = source.choice(("add", "subtract")) if result > 2 else "add"
            size = source.randrange(2, 20 if change == "add" else min(20, result))
            result, step = _solve(change, result, size)
            said = self._change(change, size)
            facts.append(draw.fill(source.choice(WORDS["last_changes"]), change=said))
            steps = (*steps, f"{step} {draw.items}")
        else:
            end, question = (source.choice(WORDS[k]) for k in ("ends", "reversed_questions"))
            facts = [*self._sentences(draw, "some")[:2], draw.fill(end, total=result)]
            question = draw.fill(question)
            first, _ = _solve(WORDS["starts"][self.start]["operation"], draw.a, draw.b)
            larger, smaller = max(result, first), min(result, first)
            steps = (steps[0], f"{larger} - {smaller} = {draw.c} {draw.items}")
            result = draw.c
        return Problem(" ".join([*facts, question]), steps, result, " ".join(facts))

    def _change(self, change: str, size: int | str) -> str:
        return str(self.scene["gain" if change == "add" else "lose"].format(n=size))

    def _sentences(self, draw: Draw, size: int | str) -> list[str]:
        kinds = (WORDS["starts"][self.start]["wordings"], WORDS["changes"], WORDS["questions"])
        others = {"gathers": self.scene["gathers"], "change": self._change(self.change, size)}
        return [draw.fill(kind[i], **others) for kind, i in zip(kinds, draw.wording, strict=True)]


@functools.cache
def _numbers(start: str, change: str) -> list[tuple[int, int, int]]:
    """All numbers a, b, c of a template that give a positive result."""
    structure = WORDS["starts"][start]
    firsts = [(*pair, _solve(structure["operation"], *pair)[0]) for pair in _pairs(structure)]
    drawn = itertools.product(firsts, range(2, 30))
    return [(a, b, c) for (a, b, first), c in drawn if _solve(change, first, c)[0] > 0]


def templates() -> list[Template]:
    """All 80 templates: each scene with four of the structures, each structure in ten scenes."""
    starts = list(WORDS["starts"])
    found = []
    for place, scene in enumerate(SCENES):
        for k in range(4):
            start = starts[(2 * k + place) % len(starts)]
            change = ("add", "subtract")[(place // 2 + place // 8 + k) % 2]
            wording = ((place + k) % 4, (place // 4 + k) % 4, (place // 2 + k) % 4)
            found.append(Template(scene, start, change, wording))
    return found


class ShortTemplate(NamedTuple):
    """A short problem; its items and boxes are those of all scenes."""

    kind: str

    @property
    def name(self) -> str:
        """Such as "short/more"."""
        return f"short/{self.kind}"

    def draw(self, source: random.Random) -> Draw:
        """Draw a problem; names, item, boxes and numbers are uniform and independent."""
        name, friend = source.sample(NAMES, 2)
        item = source.choice(source.choice(SCENES)["items"])
        boxes = source.choice(SCENES)["boxes"]
        a, b = source.choice(_pairs(WORDS["short"][self.kind]))
        return Draw(name, friend, item, boxes, a, b, source.randint(1, a))

    def write(self, draw: Draw) -> Problem:
        """Write a problem; its first step restates the facts."""
        structure = WORDS["short"][self.kind]
        facts, question = draw.fill(structure["facts"]), draw.fill(structure["question"])
        result, step = _solve(structure["operation"], draw.a, draw.b)
        steps = [facts, step]
        if "then" in structure:
            result, step = _solve(structure["then"], result, draw.c)
            steps.append(step)
        return Problem(f"{facts} {question}", tuple(steps), result, facts)


SHORT_TEMPLATES = {template.name: template for template in map(ShortTemplate, WORDS["short"])}


def final_answer(completion: str) -> str | None:
    """What follows the last "####" of a completion, up to the line's end; None without one."""
    _, mark, rest = completion.rpartition(ANSWER_MARK)
    return rest.strip().partition("\n")[0].strip() if mark else None


def verify(completion: str, metadata: str) -> float:
    """Score a completion: 1.0 where its final answer is the problem's result, else 0.0."""
    return float(final_answer(completion) == str(json.loads(metadata)["result"]))


def restates(completion: str, metadata: str) -> float:
    """1.0 where a passage of a completion has an Indel similarity of 0.9 to the facts, else 0.0."""
    facts = json.loads(metadata)["facts"]
    # rapidfuzz would look for a shorter completion in the facts.
    return float(fuzz.partial_ratio(facts, completion.ljust(len(facts))) >= 90)
