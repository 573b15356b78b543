"""Published formats of post-training data, read row by row into conversations.

A row that cannot be used becomes a `RowError`, in its place in the file; it stops nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from alignment_extraction.files import InputError

FileFormat = Literal["messages", "orz", "gsm8k", "alpaca"]
EXCERPT = 200
"""Characters of a malformed row that are shown."""
_BATCH = 1000  # rows of a Parquet file that are Python objects at one time


class Conversation(NamedTuple):
    """One usable row."""

    messages: list[dict[str, str]]
    """Turns, each with `role` and `content`; the first user turn is not blank."""
    question: str
    """The first user turn."""
    answer: str | None
    """The first assistant turn after it; None where there is none or it is blank."""
    metadata: str | None
    """What else the row held, as a JSON object."""


class RowError(ValueError):
    """A row that cannot be used: why, and how it begins."""

    def __init__(self, reason: str, excerpt: str = "") -> None:
        super().__init__(reason)
        self.excerpt = excerpt.encode("utf-8", "replace").decode()[:EXCERPT]


class NumberedRow(NamedTuple):
    """A row of a file: its line, or its number in an array, both from 1."""

    number: int
    row: Conversation | RowError


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RowError(f"{what} is {_kind(value)}, not an object with keys")
    return value


def _text(values: Mapping[str, Any], key: str, what: str = "the row") -> str:
    if values.get(key) is None:
        raise RowError(f"{what} has no `{key}`")
    if not isinstance(values[key], str):
        raise RowError(f"`{key}` of {what} is {_kind(values[key])}, not text")
    return str(values[key])


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "a boolean"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else "no JSON value")


def _conversation(messages: list[dict[str, str]], rest: Mapping[str, Any]) -> Conversation:
    roles = [message["role"] for message in messages]
    if "user" not in roles:
        raise RowError("it has no user message")
    first = roles.index("user")
    question = messages[first]["content"]
    if not question.strip():
        raise RowError("its question is blank")
    replies = (m["content"] for m in messages[first:] if m["role"] == "assistant")
    answer = next(replies, "")
    try:
        "".join(text for message in messages for text in message.values()).encode()
    except UnicodeEncodeError:
        raise RowError("it holds half of a surrogate pair, which is not Unicode") from None
    return Conversation(messages, question, answer if answer.strip() else None, _metadata(rest))


def _metadata(rest: Mapping[str, Any]) -> str | None:
    rest = {key: value for key, value in rest.items() if value is not None}
    if not rest:
        return None
    try:
        return json.dumps(rest, sort_keys=True, default=str, allow_nan=False)
    except ValueError:
        # JSON has no NaN and no infinity, a Parquet column and Python's parser (1e999) do.
        finite = json.loads(json.dumps(rest, default=str), parse_constant=lambda _: None)
        return json.dumps(finite, sort_keys=True)


def pair(question: str, answer: str, rest: Mapping[str, Any]) -> Conversation:
    """A conversation of one question and one answer.

    Args:
        question: the user turn.
        answer: the assistant turn.
        rest: what else is known of it, kept as metadata.

    Raises:
        RowError: the question is blank, or a text is not Unicode.
    """
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return _conversation(turns, rest)


def _others(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def messages(row: Any) -> Conversation:
    """Chat messages, as in SmolTalk and Tulu 3: `messages`, a list of `role` and `content`."""
    row = _mapping(row, "the row")
    turns = row.get("messages")
    if not isinstance(turns, list) or not turns:
        raise RowError("`messages` of the row is no list of messages")
    clean = []
    for i, turn in enumerate(turns, 1):
        turn = _mapping(turn, f"message {i}")
        clean.append({key: _text(turn, key, f"message {i}") for key in ("role", "content")})
    return _conversation(clean, _others(row, "messages"))


def orz(row: Any) -> Conversation:
    """Open-Reasoner-Zero: `[{from, value}, {from, ground_truth: {value, pass_at_n}}]`."""
    if not isinstance(row, list) or len(row) != 2:
        raise RowError("the row is not a list of two turns")
    human, assistant = _mapping(row[0], "turn 1"), _mapping(row[1], "turn 2")
    if human.get("from") != "human" or assistant.get("from") != "assistant":
        raise RowError("its turns are not `from` a human and then an assistant")
    truth = _mapping(assistant.get("ground_truth"), "`ground_truth`")
    return pair(
        _text(human, "value", "turn 1"),
        _text(truth, "value", "`ground_truth`"),
        _others(truth, "value"),
    )


def gsm8k(row: Any) -> Conversation:
    """GSM8K: `question` and `answer`, the latter with its `<<48/2=24>>` marks as it is."""
    row = _mapping(row, "the row")
    return pair(_text(row, "question"), _text(row, "answer"), _others(row, "question", "answer"))


def alpaca(row: Any) -> Conversation:
    """Alpaca: `instruction`, perhaps `input`, and `output` or `response`.

    The question is the instruction, followed on a line of its own by the input if there is one.
    """
    row = _mapping(row, "the row")
    answer = "response" if row.get("output") is None and "response" in row else "output"
    question = _text(row, "instruction")
    if row.get("input") is not None and _text(row, "input").strip():
        question = f"{question}\n{row['input']}" if question.strip() else ""
    return pair(question, _text(row, answer), _others(row, "instruction", "input", answer))


ADAPTERS: dict[FileFormat, Callable[[Any], Conversation]] = {
    "messages": messages,
    "orz": orz,
    "gsm8k": gsm8k,
    "alpaca": alpaca,
}


def read_rows(path: Path, form: FileFormat, name: str | None = None) -> Iterator[NumberedRow]:
    """Read a file of rows without holding all of it, a JSON array aside.

    Args:
        path: JSON Lines (.jsonl), an array of rows or JSON Lines (.json), or Parquet (.parquet).
        form: the format of each row.
        name: how messages call the file; its path by default.

    Yields:
        Every row in file order, usable or not. A blank line is no row.

    Raises:
        InputError: the file cannot be read, has another ending, is no Parquet, or is an array that
            is not JSON.
    """
    name = name or str(path)
    readers = {".jsonl": _read_lines, ".json": _read_json, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise InputError(f"{name}: ends in none of {', '.join(readers)}; convert or rename it")
    adapter = ADAPTERS[form]
    try:
        for number, value in readers[path.suffix](path, name):
            yield NumberedRow(number, _adapt(adapter, value))
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error})") from error


def _adapt(adapter: Callable[[Any], Conversation], value: Any) -> Conversation | RowError:
    if isinstance(value, RowError):
        return value
    try:
        return adapter(value)
    except RowError as error:
        text = json.dumps(value, ensure_ascii=False, default=str)
        return RowError(str(error), text)
    except RecursionError:
        return RowError("it is nested too deeply")


def _parse(text: bytes) -> Any:
    return json.loads(text, parse_constant=lambda _: None)


def _read_lines(path: Path, name: str) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield number, _parse(line)
            except (ValueError, RecursionError) as error:
                start = line[: 4 * EXCERPT].decode("utf-8", "replace").strip()
                yield number, RowError(f"the line is not JSON ({error})", start)


def _read_json(path: Path, name: str) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        start = file.read(1 << 12).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start != b"[":
        yield from _read_lines(path, name)
        return
    try:
        rows = _parse(path.read_bytes())
    except json.JSONDecodeError as error:
        raise InputError(
            f"{name}, line {error.lineno}: not JSON ({error.msg}); the file is cut off or damaged, "
            "fetch it again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not JSON ({error}); fetch it again") from error
    yield from enumerate(rows, 1)


def _read_parquet(path: Path, name: str) -> Iterator[tuple[int, Any]]:
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    with path.open("rb") as handle:
        try:
            for batch in pq.ParquetFile(handle).iter_batches(_BATCH):
                for row in pl.DataFrame(batch).iter_rows(named=True):
                    number += 1
                    yield number, row
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{name}, after row {number}: not readable as Parquet "
                f"({' '.join(str(error).split())}); fetch it again"
            ) from error


def generate_rows(
    dataset: str, size: int, options: Mapping[str, Any], seed: int
) -> Iterator[NumberedRow]:
    """Draw problems of a reasoning-gym data set.

    Args:
        dataset: its name in reasoning-gym.
        size: number of problems.
        options: its settings.
        seed: of the draws.

    Yields:
        `size` rows; their metadata is what `tasks.verify` takes.

    Raises:
        InputError: reasoning-gym has no such data set, or refuses an option.
    """
    import reasoning_gym

    try:
        problems = reasoning_gym.create_dataset(dataset, seed=seed, size=size, **options)
    except (ValueError, TypeError, AssertionError) as error:
        raise InputError(
            f"reasoning-gym cannot make the data set {dataset!r} ({error}); correct its name or "
            "options"
        ) from error
    for index in range(size):
        row: Conversation | RowError
        try:
            entry = problems[index]
            about = {"dataset": dataset, "entry": entry}
            row = pair(str(entry["question"]), str(entry["answer"]), about)
        except Exception as error:
            # A few generators divide by a zero that they drew themselves.
            row = RowError(f"the generator failed ({error})")
        yield NumberedRow(index + 1, row)
