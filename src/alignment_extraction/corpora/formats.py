"""Published formats of post-training data: what a row of each is as conversations.

A row says by its keys how it is written; few shapes cover what is published: a list of turns, a
question and an answer under known names, a transcript in one text, a tree of messages, a bare text.
"""

import json
from collections.abc import Mapping
from typing import Any

from alignment_extraction.corpora.rows import RowError
from alignment_extraction.corpora.transcript import ROLES, Turn, transcript

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
SPEAKER_KEYS = ("role", "from", "speaker")
CONTENT_KEYS = ("content", "value", "text", "ground_truth.value")
"""Of a turn: the chat format, ShareGPT, OpenAssistant, Open-Reasoner-Zero."""

Parsed = tuple[list[Turn], Mapping[str, Any]]
"""A row's turns and what else it holds."""


def parse(row: Any, question: str | None = None, answer: str | None = None) -> Parsed:
    """The turns of a row, any value of JSON or Parquet, by the shape that its keys tell.

    `question` and `answer` are dotted paths of fields, in place of the known names.

    Raises:
        RowError: it has no known shape, or lacks a field.
    """
    if question or answer:
        return _pair(_mapping(row), question, answer)
    if isinstance(row, list):
        return _turn_list(row)
    row = _mapping(row)
    if isinstance(at(row, "prompt"), Mapping) and "replies" in at(row, "prompt"):
        return _tree(row)
    if key := _turn_key(row):
        return _messages(row, key)
    if _first(row, QUESTION_KEYS):
        return _pair(row)
    chosen, text = at(row, "chosen"), at(row, "text")
    if isinstance(chosen, list):
        return _messages(row, "chosen")
    for key, value in (("chosen", chosen), ("text", text)):
        if isinstance(value, str) and (turns := transcript(value)):
            return turns, _others(row, key)
    if text is not None:  # such as pretraining has: all of it is the question
        return [Turn("text", _plain(text, "text"))], _others(row, "text")
    key = _first(row, TURN_KEYS[:3])
    return _messages(row, key) if key else _pair(row)


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
    if isinstance(row, list):
        row = {str(place): value for place, value in enumerate(row)}
    if not isinstance(row, Mapping):
        return None
    if path in row:
        return row[path]
    keys = {str(key).lower(): key for key in row}
    if path.lower() in keys:
        return row[keys[path.lower()]]
    head, _, rest = path.lower().partition(".")
    return at(row[keys[head]], rest) if rest and head in keys else None


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first name under which the row has a value."""
    return next((name for name in names if at(row, name) is not None), None)


def _others(row: Mapping[str, Any], *used: str | None) -> dict[str, Any]:
    names = {name.lower() for name in used if name}
    return {str(key): value for key, value in row.items() if str(key).lower() not in names}


# Shapes -----------------------------------------------------------------------------------------


def _turn(value: Any, place: int) -> Turn:
    """A turn as the chat format, ShareGPT, OpenAI's content parts and ORZ have it."""
    what = f"message {place}"
    turn = _mapping(value, what)
    speaker, key = _first(turn, SPEAKER_KEYS), _first(turn, CONTENT_KEYS)
    if speaker is None:
        raise RowError(f"{what} has no `role`")
    role = at(turn, speaker)
    if not isinstance(role, str):
        raise RowError(f"`{speaker}` of {what} is {_kind(role)}, not text")
    role = role.strip().lower()
    role = ROLES.get(role, role)
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
        if isinstance(one, str) or (isinstance(one, Mapping) and _first(one, SPEAKER_KEYS)):
            return key
    return None


def _messages(row: Mapping[str, Any], key: str) -> Parsed:
    return _with_system(row, _turns(at(row, key), f"`{key}` of the row"), key)


def _with_system(row: Mapping[str, Any], turns: list[Turn], *used: str | None) -> Parsed:
    key = _first(row, SYSTEM_KEYS)
    text = at(row, key) if key else None
    if isinstance(text, str) and text.strip() and turns[0].role != "system":
        return [Turn("system", text), *turns], _others(row, key, *used)
    return turns, _others(row, *used)


def _turn_list(row: list[Any]) -> Parsed:
    """A row that is the list of turns itself; Open-Reasoner-Zero: `[{from, value}, {from,
    ground_truth: {value, pass_at_n}}]`."""
    if not row:
        raise RowError("the row is not a list of turns")
    truths = [turn.get("ground_truth") for turn in row if isinstance(turn, Mapping)]
    rest = {k: v for truth in truths if isinstance(truth, Mapping) for k, v in truth.items()}
    return _turns(row, "the row"), _others(rest, "value")


def _pair(
    row: Mapping[str, Any], question_field: str | None = None, answer_field: str | None = None
) -> Parsed:
    """A question and an answer under the names given, or the first known ones that the row has.

    Either may be text, a number or a list of turns; the context follows the question on a line of
    its own. Where the question alone is named it need not have an answer.
    """
    question = _first(row, (question_field,) if question_field else QUESTION_KEYS)
    answer = _first(row, (answer_field,) if answer_field else ANSWER_KEYS)
    if question is None:
        raise _lacking(row, question_field)
    asked, replied = at(row, question), at(row, answer) if answer else None
    if answer is None and isinstance(asked, str) and (answer_field or not question_field):
        raise _lacking(row, answer_field)
    context = None
    if isinstance(asked, list):
        turns = _turns(asked, f"`{question}`")
    else:
        text = _plain(asked, question)
        contexts = () if question_field else tuple(key for key in CONTEXT_KEYS if key != question)
        context = _first(row, contexts)
        if context and _plain(at(row, context), context).strip():
            text = f"{text}\n{at(row, context)}" if text.strip() else ""
        turns = transcript(text) or []
        # A prompt may be a transcript that ends where the assistant begins.
        ends = len(turns) > 1 and turns[-1].role == "assistant" and not turns[-1].content
        turns = turns[:-1] if ends else [Turn("user", text)]
    if isinstance(replied, list):
        reply = _turns(replied, f"`{answer}`")
        turns = reply if any(turn.role == "user" for turn in reply) else turns + reply
    elif answer:
        text = _plain(replied, answer)
        # Completions begin with the space between them and the prompt.
        turns.append(Turn("assistant", text.lstrip(" ") if answer == "completion" else text))
    return _with_system(row, turns, question, context, answer)


def _lacking(row: Mapping[str, Any], field: str | None) -> RowError:
    if field:
        return RowError(f"the row has no `{field}`")
    keys = ", ".join(f"`{key}`" for key in list(row)[:8])
    return RowError(
        f"none of its keys ({keys or 'it has none'}) is known to hold a question and its answer; "
        "name them: --question-field KEY --answer-field KEY"
    )


def _tree(row: Mapping[str, Any]) -> Parsed:
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
