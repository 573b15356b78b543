"""The controlled study's data: conversations, questions and raw text whose membership is known.

Everything is drawn from reasoning-gym (PyPI, Apache-2.0): grade-school problems with a chain of
thought from the templates of `gsm_symbolic`, and short tasks within reach of a small model. Three
sources have templates of their own or instances of their own:

- `pretraining`: raw text for the base model, from templates that nothing else uses;
- `sft`: conversations, some of them repeated, with their two negative controls;
- `rl`: questions with a verifiable answer, of tasks whose format the SFT conversations teach on
  other instances, with the same two controls.

Each source has `member` rows (trained on), and `sft` and `rl` have `fresh-instance` rows (a member
template with other numbers) and `held-out-template` rows (a template that no model ever saw).
No question occurs twice in a corpus.
"""

import hashlib
import itertools
import json
import random
from typing import Any

import polars as pl

from alignment_extraction.corpora.corpus import SCHEMA
from alignment_extraction.files import InputError
from alignment_extraction.settings.controlled import ControlledSettings
from alignment_extraction.training.tasks import (
    GSM_TEMPLATES,
    PRETRAINING_TASKS,
    RL_HELD_OUT_TASKS,
    RL_TASKS,
    Task,
    gsm_entries,
    gsm_task,
    task_entries,
)

# Draws without a new question before a template counts as exhausted.
_PATIENCE = 2000


def stream(seed: int, name: str) -> int:
    """A 31-bit seed for the random stream `name`, from the study's seed alone."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _split_templates(settings: ControlledSettings, seed: int) -> dict[str, list[int]]:
    """Draw the gsm_symbolic templates of each part: "pretraining", "sft" and "held-out"."""
    short = []
    for template in range(GSM_TEMPLATES):
        sample = itertools.islice(gsm_entries(template, stream(0, "length")), 8)
        lengths = [len(e["question"]) + len(e["metadata"]["answer_cot"]) for e in sample]
        if sum(lengths) / len(lengths) <= settings.max_characters:
            short.append(template)
    sizes = {
        "pretraining": settings.pretraining_templates,
        "sft": settings.sft_templates,
        "held-out": settings.sft_held_out_templates,
    }
    if sum(sizes.values()) > len(short):
        raise InputError(
            f"pretraining_templates + sft_templates + sft_held_out_templates is "
            f"{sum(sizes.values())}, but only {len(short)} gsm_symbolic templates are at most "
            f"max_characters = {settings.max_characters} long; lower one of the former or raise "
            "the latter"
        )
    random.Random(stream(seed, "templates")).shuffle(short)
    remaining = iter(short)
    return {name: sorted(itertools.islice(remaining, size)) for name, size in sizes.items()}


class _Builder:
    """Collects rows, each with a question that no earlier row has."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rows: list[dict[str, Any]] = []
        self.seen: set[str] = set()

    def add(self, task: Task, source: str, split: str, repetitions: list[int]) -> None:
        """Add one row of `task` for each entry of `repetitions`."""
        seed = stream(self.seed, f"{source}/{split}/{task.template}")
        entries = task_entries(task, seed)
        for index, times in enumerate(repetitions):
            for entry in itertools.islice(entries, _PATIENCE):
                question = task.question(entry)
                if question not in self.seen:
                    break
            else:
                raise InputError(
                    f"template {task.template} has no {len(repetitions)} further instances for "
                    f"{source} ({split}): {_PATIENCE} draws gave no new question; lower the number "
                    "of instances"
                )
            self.seen.add(question)
            self.rows.append(_row(task, entry, source, split, index, times))


def _row(
    task: Task, entry: dict[str, Any], source: str, split: str, index: int, repetitions: int
) -> dict[str, Any]:
    question, answer = task.question(entry), task.answer(entry)
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {
        "id": f"{source}/{task.template}/{split}/{index:04d}",
        "source": source,
        "role": "member" if split == "member" else "held-out",
        "split": split,
        "template": task.template,
        "repetitions": repetitions,
        "question": question,
        "answer": answer,
        "messages": [] if source == "pretraining" else turns,
        "text": f"{question}\n{answer}",
        "metadata": json.dumps(
            {"dataset": task.dataset, "entry": entry}, sort_keys=True, default=str
        ),
    }


def build(settings: ControlledSettings, seed: int) -> pl.DataFrame:
    """Draw the corpus of the controlled study.

    Args:
        settings: sizes of the parts.
        seed: of all random draws; the same settings and seed give the same frame.

    Returns:
        One row an item, columns as `corpus.SCHEMA`. `repetitions` is how often the item occurs in
        one epoch of its training set (1 to 64 by default; 1 for what is not trained on). `messages`
        is empty for raw text. `metadata` is JSON: {"dataset": reasoning-gym's name, "entry": the
        entry its verifier needs}; see `tasks.verify`. No two rows have the same question.

    Raises:
        InputError: the settings ask for more templates or instances than there are.
    """
    repeated = [n for n, count in sorted(settings.sft_repeated.items()) for _ in range(count)]
    if len(repeated) > settings.sft_instances:
        raise InputError(
            f"sft_repeated names {len(repeated)} conversations of each template, but "
            f"sft_instances is {settings.sft_instances}; lower the former or raise the latter"
        )
    member_repetitions = repeated[::-1] + [1] * (settings.sft_instances - len(repeated))
    templates = _split_templates(settings, seed)
    pretraining = [gsm_task(t) for t in templates["pretraining"]]
    sft = [gsm_task(t) for t in templates["sft"]]
    held_out = [gsm_task(t) for t in templates["held-out"]]

    builder = _Builder(seed)
    for task in pretraining:
        builder.add(task, "pretraining", "member", [1] * settings.pretraining_instances)
    for task in PRETRAINING_TASKS:
        builder.add(task, "pretraining", "member", [1] * settings.pretraining_task_instances)
    for task in sft:
        builder.add(task, "sft", "member", member_repetitions)
        builder.add(task, "sft", "fresh-instance", [1] * settings.sft_fresh_instances)
    for task in held_out:
        builder.add(task, "sft", "held-out-template", [1] * settings.sft_held_out_instances)
    for task in RL_TASKS:
        builder.add(task, "sft", "member", [1] * settings.sft_task_instances)
        builder.add(task, "rl", "member", [1] * settings.rl_instances)
        builder.add(task, "rl", "fresh-instance", [1] * settings.rl_fresh_instances)
    for task in RL_HELD_OUT_TASKS:
        builder.add(task, "rl", "held-out-template", [1] * settings.rl_held_out_instances)
    return pl.DataFrame(builder.rows, schema=SCHEMA)


def post_training(frame: pl.DataFrame) -> pl.DataFrame:
    """The corpus as it is searched: pretraining text has the role `control`.

    It was trained on, but is not what a template prefix is to bring out. It stays in the corpus so
    that rows which also occur in it can be tagged (`corpora.contamination`).
    """
    role = pl.when(source="pretraining").then(pl.lit("control")).otherwise(pl.col("role"))
    return frame.with_columns(role=role)


def statistics(frame: pl.DataFrame) -> dict[str, Any]:
    """Count the rows of a controlled corpus.

    Returns:
        What `corpus.build` counts (rows, usable, rejected, duplicates, questions_in_several_roles,
        roles; no row is unusable and no question occurs twice), and `sources`: for each source,
        the same counts, the rows of each split under `splits`, and under `repetitions` how many
        member rows are trained on how often.
    """

    def counts(rows: pl.DataFrame) -> dict[str, Any]:
        return {
            "rows": rows.height,
            "usable": rows.height,
            "rejected": 0,
            "duplicates": rows.height - rows["question"].n_unique(),
            "roles": dict(sorted(rows["role"].value_counts().iter_rows())),
        }

    def source_counts(rows: pl.DataFrame) -> dict[str, Any]:
        repetitions = rows.filter(pl.col("role") == "member")["repetitions"].value_counts()
        return {
            **counts(rows),
            "splits": dict(sorted(rows["split"].value_counts().iter_rows())),
            "repetitions": {str(times): n for times, n in sorted(repetitions.iter_rows())},
        }

    return {
        **counts(frame),
        "questions_in_several_roles": 0,
        "sources": {
            name: source_counts(rows) for (name,), rows in sorted(frame.group_by("source"))
        },
    }
