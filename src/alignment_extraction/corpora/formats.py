"""Published formats of post-training data: what a row of each is as conversations.

A row says by its keys how it is written; few shapes cover what is published: a list of turns, a
question and an answer under known names, a transcript in one text, a tree of messages, a bare text.
A row that cannot be used becomes a `RowError`, in its place in the file; it stops nothing.
"""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from alignment_extraction.corpora.rows import RowError
from alignment_extraction.corpora.transcript import ROLES, Turn, transcript

FileFormat = Literal["auto", "messages", "orz", "gsm8k", "alpaca", "text"]
TURN_KEYS = ("messages", "conversations", "conversation", "dialogue", "dialog", "data")
"""Keys that lists of turns are kept under: the chat format, ShareGPT, WildChat, UltraChat."""
QUESTION_KEYS = ("instruction", "prompt", "question", "problem", "query", "input")
CONTEXT_KEYS = ("input", "context", "instances.0.input")
"""What belongs to the question: Alpaca's input, Dolly's context, self-instruct's first instance."""
SYSTEM_KEYS = ("system_prompt", "system")
ANSWER_KEYS = (
    *("output", "response", "completion", "chosen", "answer", "final_answer", "solution"),
    *("reward_model.ground_truth", "ground_truth", "generated_solution", "expected_answer"),
    *("target", "instances.0.output"),
)
"""In order of preference: of a problem with `answer` and `solution`, the answer."""
_SPEAKER_KEYS = ("role", "from", "speaker")

Parsed = tuple[list[Turn], Mapping[str, Any]]
"""A row's turns and what else it holds."""


# Values -----------------------------------------------------------------------------------------


def _mapping(value: Any, what: str = "the row") -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RowError(f"{what} is {_kind(value)}, not an object with keys")
    return value


def _plain(value: Any, key: str, what: str = "the row") -> str:
    """A text, or a number as text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise RowError(f"`{key}` of {what} is {_kind(value)}, not text")
    return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "a boolean"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else "no JSON value")


def at(row: Any, path: str) -> Any:
    """The value under a dotted path of keys and list positions; None where there is none.

    A key that has dots itself comes first; capitals in keys do not matter.
    """
    head, _, rest = path.partition(".")
    if isinstance(row, Mapping):
        if path in row:
            return row[path]
        keys = {str(key).lower(): key for key in row}
        if path.lower() in keys:
            return row[keys[path.lower()]]
        return at(row[keys[head.lower()]], rest) if rest and head.lower() in keys else None
    if isinstance(row, list) and head.isdecimal() and int(head) < len(row):
        return at(row[int(head)], rest) if rest else row[int(head)]
    return None


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first name under which the row has a value."""
    keys = {str(key).lower() for key, value in row.items() if value is not None}
    return next(
        (n for n in names if n.lower() in keys or ("." in n and at(row, n) is not None)), None
    )


def _others(row: Mapping[str, Any], *used: str | None) -> dict[str, Any]:
    names = {name.lower() for name in used if name}
    return {str(key): value for key, value in row.items() if str(key).lower() not in names}


# Shapes -----------------------------------------------------------------------------------------


def _turn(value: Any, place: int) -> Turn:
    """A turn as the chat format, ShareGPT, OpenAI's content parts and ORZ have it."""
    what = f"message {place}"
    turn = _mapping(value, what)
    speaker = _first(turn, _SPEAKER_KEYS)
    if speaker is None:
        raise RowError(f"{what} has no `role`")
    role = at(turn, speaker)
    if not isinstance(role, str):
        raise RowError(f"`{speaker}` of {what} is {_kind(role)}, not text")
    role = role.strip().lower()
    role = ROLES.get(role, role)
    key = _first(turn, ("content", "value", "text", "ground_truth.value"))
    if key is None:
        if not {"content", "value", "tool_calls", "function_call"} & set(turn):
            raise RowError(f"{what} has no `content`")
        return Turn(role, None)
    content = at(turn, key)
    if isinstance(content, list) and all(isinstance(part, str | Mapping) for part in content):
        # As chat templates join parts; there may be no text among them.
        texts = [part if isinstance(part, str) else part.get("text") for part in content]
        joined = "".join(text for text in texts if isinstance(text, str))
        return Turn(role, joined or None)
    return Turn(role, _plain(content, key, what))


def _turns(value: Any, what: str) -> list[Turn]:
    """A list of turns, or of texts that user and assistant write by turns, or JSON of either."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, list) or not value:
        raise RowError(f"{what} is no list of messages")
    if all(isinstance(text, str) for text in value):
        return [Turn(("user", "assistant")[i % 2], text) for i, text in enumerate(value)]
    return [_turn(turn, place) for place, turn in enumerate(value, 1)]


def _turn_key(row: Mapping[str, Any]) -> str | None:
    """The key that holds turns: objects with a speaker, texts, or JSON of either."""
    for key in TURN_KEYS:
        value = at(row, key)
        if isinstance(value, str) and value.lstrip()[:1] == "[" and "{" in value:
            return key
        one = value[0] if isinstance(value, list) and value else None
        if isinstance(one, str) or (isinstance(one, Mapping) and _first(one, _SPEAKER_KEYS)):
            return key
    return None


def messages(row: Any) -> Parsed:
    """A list of turns: chat messages, ShareGPT, UltraChat's alternating texts."""
    row = _mapping(row)
    key = _turn_key(row) or _first(row, TURN_KEYS) or "messages"
    return _with_system(row, _turns(at(row, key), f"`{key}` of the row"), key)


def _with_system(row: Mapping[str, Any], turns: list[Turn], *used: str | None) -> Parsed:
    key = _first(row, SYSTEM_KEYS)
    text = at(row, key) if key else None
    if isinstance(text, str) and text.strip() and turns[0].role != "system":
        return [Turn("system", text), *turns], _others(row, key, *used)
    return turns, _others(row, *used)


def turn_list(row: Any) -> Parsed:
    """A row that is the list of turns itself; Open-Reasoner-Zero: `[{from, value}, {from,
    ground_truth: {value, pass_at_n}}]`."""
    if not isinstance(row, list) or not row:
        raise RowError("the row is not a list of turns")
    rest: dict[str, Any] = {}
    for turn in row:
        truth = turn.get("ground_truth") if isinstance(turn, Mapping) else None
        rest |= truth if isinstance(truth, Mapping) else {}
    return _turns(row, "the row"), _others(rest, "value")


def pair(
    row: Any,
    questions: tuple[str, ...] = QUESTION_KEYS,
    answers: tuple[str, ...] = ANSWER_KEYS,
    contexts: tuple[str, ...] = CONTEXT_KEYS,
    *,
    alone: bool = False,
) -> Parsed:
    """A question and an answer under the first of these names that the row has.

    Either may be text, a number or a list of turns; the context follows the question on a line of
    its own. `alone`: a question will do.
    """
    row = _mapping(row)
    question, answer, context = _first(row, questions), _first(row, answers), None
    if question is None:
        raise RowError(f"the row has no `{questions[0]}`" if len(questions) == 1 else _unknown(row))
    asked, replied = at(row, question), at(row, answer) if answer else None
    if answer is None and not alone and isinstance(asked, str):
        raise RowError(f"the row has no `{answers[0]}`" if len(answers) < 3 else _unknown(row))
    if isinstance(asked, list):
        turns = _turns(asked, f"`{question}`")
    else:
        text = _plain(asked, question)
        context = _first(row, tuple(key for key in contexts if key != question))
        if context and _plain(at(row, context), context).strip():
            text = f"{text}\n{at(row, context)}" if text.strip() else ""
        turns = _asked(text)
    if isinstance(replied, list):
        reply = _turns(replied, f"`{answer}`")
        turns = reply if any(turn.role == "user" for turn in reply) else turns + reply
    elif answer:
        text = _plain(replied, answer)
        # Completions begin with the space between them and the prompt.
        turns.append(Turn("assistant", text.lstrip(" ") if answer == "completion" else text))
    return _with_system(row, turns, question, context, answer)


def _asked(text: str) -> list[Turn]:
    """The turns of a prompt that is a transcript ending where the assistant begins."""
    turns = transcript(text) or []
    ends = len(turns) > 1 and turns[-1].role == "assistant" and not turns[-1].content
    return turns[:-1] if ends else [Turn("user", text)]


def _unknown(row: Mapping[str, Any]) -> str:
    keys = ", ".join(f"`{key}`" for key in list(row)[:8])
    return (
        f"none of its keys ({keys or 'it has none'}) is known to hold a question and its answer; "
        "name them: --question-field KEY --answer-field KEY"
    )


def text(row: Any) -> Parsed:
    """A bare `text`, such as pretraining has: all of it is the question."""
    row = _mapping(row)
    if _first(row, ("text",)) is None:
        raise RowError("the row has no `text`")
    return [Turn("text", _plain(at(row, "text"), "text"))], _others(row, "text")


def tree(row: Mapping[str, Any]) -> Parsed:
    """OpenAssistant's tree of messages: the best ranked reply to each, from the root down."""

    def rank(message: Mapping[str, Any]) -> float:
        value = message.get("rank")
        return value if isinstance(value, int | float) else float("inf")

    turns: list[Turn] = []
    node = at(row, "prompt")
    while isinstance(node, Mapping):
        turns.append(_turn(node, len(turns) + 1))
        replies = [reply for reply in node.get("replies") or [] if isinstance(reply, Mapping)]
        node = min(replies, key=rank, default=None)
    return turns, _others(row, "prompt")


def auto(row: Any) -> Parsed:
    """The shape that the row's keys tell."""
    if isinstance(row, list):
        return turn_list(row)
    row = _mapping(row)
    if isinstance(at(row, "prompt"), Mapping) and "replies" in at(row, "prompt"):
        return tree(row)
    if _turn_key(row):
        return messages(row)
    if _first(row, QUESTION_KEYS) is not None:
        return pair(row)
    for key in ("chosen", "text"):
        value = at(row, key)
        if key == "chosen" and isinstance(value, list):
            return _turns(value, "`chosen`"), _others(row, key)
        if isinstance(value, str) and (turns := transcript(value)):
            return turns, _others(row, key)
    if at(row, "text") is not None:
        return text(row)
    return messages(row) if _first(row, TURN_KEYS[:3]) else pair(row)


ADAPTERS: dict[FileFormat, Callable[[Any], Parsed]] = {
    "auto": auto,
    "messages": messages,
    "orz": turn_list,
    "gsm8k": functools.partial(pair, questions=("question",), answers=("answer",), contexts=()),
    "alpaca": functools.partial(pair, questions=("instruction",), answers=("output", "response")),
    "text": text,
}
"""What `read_rows` can be told; "auto" takes all that the others do."""
