"""The tasks of the controlled study: reasoning-gym data sets, how they are written, and verifiers.

A task is one reasoning-gym data set with one setting; the study calls it a template. Its answer is
the steps of a chain of thought, one a line, and then "#### " and the final answer.
"""

import functools
import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import reasoning_gym
from reasoning_gym.arithmetic.leg_counting import ANIMALS

GSM = "gsm_symbolic"
GSM_TEMPLATES = 100
ANSWER_MARK = "####"


def _as_given(entry: Mapping[str, Any]) -> str:
    return str(entry["question"]).strip()


def _no_steps(entry: Mapping[str, Any]) -> list[str]:
    return []


def _sum_steps(entry: Mapping[str, Any]) -> list[str]:
    """Write one line a term: "4 - 1 = 3", then "3 - 7 = -4"."""
    first, *rest = entry["metadata"]["expression"].split()
    steps, total = [], int(first)
    for operator, term in zip(rest[::2], rest[1::2], strict=True):
        result = total + int(term) if operator == "+" else total - int(term)
        steps.append(f"{total} {operator} {term} = {result}")
        total = result
    return steps


def _spelling_steps(entry: Mapping[str, Any]) -> list[str]:
    word = entry["metadata"]["word"]
    return [" ".join(word), " ".join(reversed(word))]


def _leg_steps(entry: Mapping[str, Any]) -> list[str]:
    animals = entry["metadata"]["animals"]
    products = [count * ANIMALS[animal] for animal, count in animals.items()]
    steps = [
        f"{count} * {ANIMALS[animal]} = {product}"
        for (animal, count), product in zip(animals.items(), products, strict=True)
    ]
    if len(products) > 1:
        steps.append(f"{' + '.join(map(str, products))} = {sum(products)}")
    return steps


def _last_sentence(entry: Mapping[str, Any]) -> str:
    return str(entry["question"]).rpartition("Now, ")[2].strip().capitalize()


def _bare_word(entry: Mapping[str, Any]) -> str:
    """Leave out the question, which is longer than the word and always the same."""
    return str(entry["metadata"]["word"])


@dataclass(frozen=True)
class Task:
    """One template: a reasoning-gym data set with one setting, and how it is written down."""

    template: str
    options: Mapping[str, Any] = field(default_factory=dict)
    question: Callable[[Mapping[str, Any]], str] = _as_given
    steps: Callable[[Mapping[str, Any]], list[str]] = _no_steps

    @property
    def dataset(self) -> str:
        """The name of the data set in reasoning-gym."""
        return self.template.partition("/")[0]

    def answer(self, entry: Mapping[str, Any]) -> str:
        """The steps, one a line, then "#### " and the final answer, as gsm_symbolic writes it."""
        return "\n".join([*self.steps(entry), f"{ANSWER_MARK} {entry['answer']}"])


_SHORT_SUM = {"operators": ("+", "-"), "allow_parentheses": False, "allow_negation": False}
PRETRAINING_TASKS = (
    Task(
        "basic_arithmetic/2-terms",
        {"max_terms": 2, "min_digits": 2, "max_digits": 2} | _SHORT_SUM,
        steps=_sum_steps,
    ),
    Task(
        "basic_arithmetic/3-terms",
        {"min_terms": 3, "max_terms": 3, "max_digits": 1} | _SHORT_SUM,
        steps=_sum_steps,
    ),
    Task(
        "spell_backward/5-letters",
        {"min_word_len": 5, "max_word_len": 5},
        _bare_word,
        _spelling_steps,
    ),
    Task("number_filtering/short", {"max_numbers": 5, "max_decimals": 0}),
)
RL_TASKS = (
    Task("letter_counting/5-words", {"min_words": 5, "max_words": 5}),
    Task("leg_counting/1-animal", {"min_animals": 1, "max_animals": 1}, _last_sentence, _leg_steps),
    Task("family_relationships/3-people", {"min_family_size": 3, "max_family_size": 3}),
    Task("aiw/siblings", {"task_type_weights": [1, 0, 0]}),
    Task("count_bits/3-digits", {"min_n": 100, "max_n": 999}),
)
RL_HELD_OUT_TASKS = (
    Task("products/2-digits", {"max_digits": 2}),
    Task("gcd/2-digits", {"max_value": 99}),
)


@functools.cache
def _dataset(name: str, seed: int, options: str = "{}") -> Any:
    # Entries are made when asked for; only gsm_symbolic draws something for all of them at once.
    size = 1 if name == GSM else 2**30
    return reasoning_gym.create_dataset(name, seed=seed, size=size, **json.loads(options))


def gsm_entries(template: int, seed: int) -> Iterator[dict[str, Any]]:
    """Instances of one gsm_symbolic template, those that its own verifier rejects left out."""
    generate = _dataset(GSM, 0).generators[template]
    for draw in itertools.count():
        try:
            entry: dict[str, Any] = generate(random.Random(seed + draw), 1.0)
        except Exception:
            # A few generators divide by a zero that they drew themselves; the next draw is as good.
            continue
        if _dataset(GSM, 0).score_answer(entry["answer"], entry) == 1.0:
            yield entry


def task_entries(task: Task, seed: int) -> Iterator[dict[str, Any]]:
    """Instances of a task, without end."""
    if task.dataset == GSM:
        return gsm_entries(int(task.template.partition("/")[2]), seed)
    dataset = _dataset(task.dataset, seed, json.dumps(task.options))
    return (dataset[index] for index in itertools.count())


def gsm_task(template: int) -> Task:
    """The task of one gsm_symbolic template, 0 to 99."""
    return Task(f"{GSM}/{template}", steps=_gsm_steps)


def _gsm_steps(entry: Mapping[str, Any]) -> list[str]:
    thought, mark, _ = str(entry["metadata"]["answer_cot"]).rpartition(f"\n{ANSWER_MARK}")
    return [thought] if mark else []


def final_answer(completion: str) -> str | None:
    """What follows the last "####" of a completion, up to the line's end; None without one."""
    _, mark, rest = completion.rpartition(ANSWER_MARK)
    return rest.strip().partition("\n")[0].strip() if mark else None


def verify(completion: str, metadata: str) -> float:
    """Score a completion with reasoning-gym's own verifier of the question's task.

    Args:
        completion: what the model wrote, its final answer after "####".
        metadata: the question's `metadata` column.

    Returns:
        0.0 to 1.0; 1.0 means that the final answer is right, and some verifiers give a part of it
        to an answer that is nearly right. 0.0 for a completion without "####".
    """
    answer = final_answer(completion)
    if not answer:
        return 0.0
    item = json.loads(metadata)
    return float(_dataset(item["dataset"], 0).score_answer(answer, item["entry"]))
