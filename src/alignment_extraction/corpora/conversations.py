"""Rows as conversations: files of published formats read row by row.

A row that cannot be used becomes a `RowError`, in its place in the file; it stops nothing.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from alignment_extraction.corpora.formats import Parsed, parse
from alignment_extraction.corpora.rows import RowError, Rows, raw_rows

Turns = Literal["first", "all"]
"""Which user turns of a conversation are rows: the first, or each with the reply to it."""


class Conversation(NamedTuple):
    """One usable row."""

    messages: list[dict[str, str]]
    """Turns, each with `role` and `content`; none of a bare text."""
    question: str
    """The user turn, or the bare text; not blank."""
    answer: str | None
    """The first assistant text after it; None where there is none or it is blank."""
    metadata: str | None
    """What else the row held, as a JSON object."""


class NumberedRow(NamedTuple):
    """A row of a file: its line, or its number in an array, both from 1."""

    number: int
    row: Conversation | RowError
    turn: int = 1
    """Which of the row's user turns it is, from 1."""


def _metadata(rest: Mapping[str, Any]) -> str | None:
    rest = {key: value for key, value in rest.items() if value is not None}
    # JSON has no NaN and no infinity, a Parquet column and Python's parser (1e999) do.
    finite = json.loads(json.dumps(rest, default=str), parse_constant=lambda _: None)
    return json.dumps(finite, sort_keys=True) if rest else None


def conversations(parsed: Parsed, turns: Turns = "first") -> list[Conversation]:
    """The conversations of a row: one, or with "all" one for each user turn and its reply.

    Raises:
        RowError: there is no user turn, it is blank or not Unicode, or none that replies to it has
            a text (they call tools).
    """
    said, rest = parsed
    metadata = _metadata(rest)
    try:
        "".join(turn.role + (turn.content or "") for turn in said).encode()
    except UnicodeEncodeError:
        raise RowError(
            "it holds bytes or half of a surrogate pair that are not Unicode; save it as UTF-8"
        ) from None
    users = [place for place, turn in enumerate(said) if turn.role in ("user", "text")]
    if not users:
        raise RowError("it has no user message")
    ends = [*users[1:], len(said)] if turns == "all" else [len(said)]
    found, refused = [], []
    for start, end in zip(users, ends, strict=False):
        question = said[start].content or ""
        replies = [turn.content for turn in said[start:end] if turn.role == "assistant"]
        if not question.strip():
            refused.append("its question is blank")
        elif replies and all(reply is None for reply in replies):
            refused.append("no assistant message after the question has text")
        else:
            answer = next((reply for reply in replies if reply and reply.strip()), None)
            own = said[0 if start == users[0] else start : end]
            clean = [{"role": one.role, "content": one.content or ""} for one in own]
            bare = said[start].role == "text"
            found.append(Conversation([] if bare else clean, question, answer, metadata))
    if not found:
        raise RowError(refused[0])
    return found


def read_rows(
    path: Path,
    name: str | None = None,
    *,
    question_field: str | None = None,
    answer_field: str | None = None,
    turns: Turns = "first",
) -> Iterator[NumberedRow]:
    """Read a file of rows as conversations, every row in file order, usable or not.

    Args:
        path, name: see `rows.raw_rows`, and there what it raises.
        question_field, answer_field: see `formats.parse`.
        turns: which user turns are rows.
    """
    rows = raw_rows(path, name)
    for number, value in rows if question_field else _trees(rows):
        found: Sequence[Conversation | RowError] = [value]
        try:
            if not isinstance(value, RowError):
                found = conversations(parse(value, question_field, answer_field), turns)
        except RowError as error:
            excerpt = json.dumps(value, ensure_ascii=False, default=str)
            found = [RowError(str(error), excerpt)]
        except RecursionError:
            found = [RowError("it is nested too deeply")]
        for turn, row in enumerate(found, 1):
            yield NumberedRow(number, row, turn)


def _trees(rows: Rows) -> Rows:
    """OpenAssistant's single messages as trees, each numbered as its first; other rows as is."""

    def tree(numbered: tuple[int, Any]) -> Any:
        number, row = numbered
        single = isinstance(row, Mapping) and {"message_tree_id", "parent_id", "text"} <= set(row)
        return (row["message_tree_id"],) if single else number

    for name, group in itertools.groupby(rows, tree):
        if isinstance(name, int):
            yield from group
            continue
        nodes: dict[str, dict[str, Any]] = {}
        numbered = list(group)
        for _, message in numbered:  # a reply follows what it replies to
            node = {**message, "replies": []}
            if parent := nodes.get(str(message["parent_id"])):
                parent["replies"].append(node)
            nodes[str(message.get("message_id"))] = node
        root = next(iter(nodes.values()))
        yield numbered[0][0], {"prompt": root, "message_tree_id": name[0]}
