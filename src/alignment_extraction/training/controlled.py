"""The controlled study's data: who was trained on what is decided by coins, and known.

Problems are independent draws from the templates of `problems`. Three sources:

- `pretraining`: raw text for the base model, of templates that SFT has none of, and of the short
  templates that RL asks problems of;
- `sft`: conversations. A coin holds half of the templates out. In the others the draws come in
  pairs, and a coin says which one is trained on (`member`) and which one is not (`twin`);
- `rl`, and many more in `rl-wide`: questions of short templates; lots decide which are trained on.

A row that equals another one stays: chance hits are counted by the twins, not removed.
"""

import json
import random
from collections.abc import Collection, Iterator
from typing import Any

import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.settings.controlled import ControlledSettings
from alignment_extraction.statistics import named_seed
from alignment_extraction.training import problems
from alignment_extraction.training.problems import Problem, ShortTemplate, Template
from alignment_extraction.vocabulary import CORPUS as SCHEMA

Row = dict[str, Any]


def _stream(seed: int, name: str) -> random.Random:
    return random.Random(named_seed(seed, f"controlled/{name}"))


def _row(source: str, role: str, template: str, name: str, problem: Problem, **others: Any) -> Row:
    return {
        "id": f"{source}/{template}/{name}",
        "source": source,
        "role": role,
        "template": template,
        "repetitions": 1,
        "question": problem.question,
        "answer": problem.answer,
        "messages": [
            {"role": "user", "content": problem.question},
            {"role": "assistant", "content": problem.answer},
        ],
        "text": f"{problem.question}\n{problem.answer}",
        "metadata": json.dumps({"facts": problem.facts, "result": problem.result}),
        **others,
    }


def _pretraining(template: Template | ShortTemplate, size: int, seed: int) -> Iterator[Row]:
    """Problems and their solutions as documents, half of the longer ones with an edit."""
    source = _stream(seed, f"pretraining/{template.name}")
    for k in range(size):
        draw = template.draw(source)
        problem = template.write(draw)
        if isinstance(template, Template) and source.random() < 0.5:
            problem = template.variants(draw, source.choice(problems.EDITS), source)[0]
        text = source.choice(problems.WORDS["documents"]).format(
            question=problem.question,
            solution=problem.answer,
            short=f"{problems.ANSWER_MARK} {problem.result}",
        )
        name = f"{k:04d}"
        yield _row("pretraining", "member", template.name, name, problem, messages=[], text=text)


def _sft(
    template: Template, settings: ControlledSettings, seed: int, *, held_out: bool
) -> Iterator[Row]:
    """The rows of a template: of each pair a member and its twin, or one held-out row.

    First come the originals, then the edited versions of some of them.
    """
    source = _stream(seed, f"sft/{template.name}")
    times = [n for n, count in sorted(settings.sft_repetitions.items()) for _ in range(count)]
    draws = [(template.draw(source), template.draw(source)) for _ in times]
    # The coin: which of two draws comes first, and is trained on if its template is.
    ordered = [source.sample(pair, 2) for pair in draws]
    pairs = [
        ([template.write(draw) for draw in pair], n, "original", k)
        for k, (pair, n) in enumerate(zip(ordered, times, strict=True))
    ]
    seeds = [k for k, n in enumerate(times) if n == settings.sft_edit_repetitions]
    for k in seeds[: settings.sft_seed_problems]:
        for edit in problems.EDITS:
            first, second = template.variants(ordered[k][0], edit, source)
            versions = [first, second] if source.random() < 0.5 else [second, first]
            pairs.append((versions, settings.sft_edit_repetitions, edit, k))
    stem, roles = f"sft/{template.name}", ("held-out",) if held_out else ("member", "twin")
    for k, (versions, repetitions, edit, seed_pair) in enumerate(pairs):
        about = {"repetitions": repetitions, "edit": edit}
        about |= {} if held_out else {"pair": f"{stem}/{k:03d}"}
        for role, problem in zip(roles, versions, strict=False):
            # A twin of an original is a problem of its own; edited versions have the member's.
            seed_role = role if edit == "original" else roles[0]
            about["seed_problem"] = f"{stem}/{seed_pair:03d}/{seed_role}"
            yield _row("sft", role, template.name, f"{k:03d}/{role}", problem, **about)


def _rl(source: str, name: str, size: int, twins: int, seed: int) -> Iterator[Row]:
    """The rows of an RL template: lots decide which draws are trained on.

    Each of these is paired with one of the others; the rest are twins without a pair.
    """
    template, stream = problems.SHORT_TEMPLATES[name], _stream(seed, f"{source}/{name}")
    drawn = [template.write(template.draw(stream)) for _ in range(size + twins)]
    stream.shuffle(drawn)
    for k, problem in enumerate(drawn):
        role = "member" if k < size else "twin"
        pair = f"{source}/{name}/{k % size:03d}" if k < 2 * size else None
        yield _row(source, role, name, f"{k:04d}/{role}", problem, pair=pair)


def build(settings: ControlledSettings, seed: int) -> pl.DataFrame:
    """Draw the corpus of the controlled study; the same settings and seed give the same frame.

    One row a problem, columns as `vocabulary.CORPUS`. `edit` of a conversation is one of `EDITS` or
    "original", `seed_problem` the id of the original. `metadata` is JSON: facts (the question
    without what it asks for) and result (the right number).

    Raises:
        InputError: the settings ask for more templates than there are, or for unknown ones.
    """
    available = problems.templates()
    raw, wanted = settings.pretraining_templates, settings.sft_templates
    if raw + wanted > len(available):
        raise InputError(
            f"controlled: pretraining_templates + sft_templates is {raw + wanted}, but there are "
            f"only {len(available)} templates; lower one of them"
        )
    unknown = set(settings.rl_templates) - set(problems.SHORT_TEMPLATES)
    if unknown:
        raise InputError(
            f"controlled.rl_templates: {sorted(unknown)[0]!r} is unknown; "
            f"use some of {', '.join(problems.SHORT_TEMPLATES)}"
        )
    _stream(seed, "templates").shuffle(available)
    rows: list[Row] = []
    for template in available[:raw]:
        rows += _pretraining(template, settings.pretraining_instances, seed)
    for short in problems.SHORT_TEMPLATES.values():
        rows += _pretraining(short, settings.pretraining_short_instances, seed)
    for k, template in enumerate(available[raw : raw + wanted]):
        rows += _sft(template, settings, seed, held_out=k >= wanted // 2)
    for name in settings.rl_templates:
        rows += _rl("rl", name, settings.rl_instances, settings.rl_twins, seed)
    for name in settings.rl_templates:
        rows += _rl("rl-wide", name, settings.rl_wide_instances, settings.rl_wide_instances, seed)
    return pl.DataFrame(rows, schema=SCHEMA)


def post_training(frame: pl.DataFrame, searched: Collection[str]) -> pl.DataFrame:
    """The corpus as it is searched: rows of other sources than these are of role `control`."""
    role = pl.when(pl.col("source").is_in(searched)).then("role").otherwise(pl.lit("control"))
    return frame.with_columns(role=role)


def statistics(frame: pl.DataFrame) -> dict[str, Any]:
    """Count the rows of a corpus, all of them usable; see docs/files.md for the names."""
    groups = frame.group_by(pl.format("{}.{}", "source", "role")).agg(rows=pl.len())
    return {
        "rows": frame.height,
        "usable": frame.height,
        "rejected": 0,
        "duplicates": frame.height - frame.select("question", "answer").n_unique(),
        "sources": {name: {"rows": rows} for name, rows in groups.iter_rows()},
    }
