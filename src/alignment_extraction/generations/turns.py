"""The fixed texts of a chat template around what is said, and the tokens in which turns begin.

The texts come of rendering the template around sentinels. Where a prefix or a header begins and
ends in them is read off tokens, never off characters: those that whole conversations share before
their first words, and after their last ones.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any, Protocol, TypeVar

from alignment_extraction.files import InputError
from alignment_extraction.generations.chat_template import Message, TemplateError, render_each

T = TypeVar("T")

WORDS = ("the", "What", "how", "I", "Write", "a", "2", "17", "Zebra", "can", "Please", "you")
"""First and last words of what is said in the conversations that are compared. Common ones, so
that a vocabulary which binds a space to a word does so for one of them."""

_SAID = {
    "sentinelUserTurn": "user",
    "sentinelAssistantTurn": "assistant",
    "sentinelSecondTurn": "user",
    "sentinelSystemTurn": "system",
}
_USER, _ASSISTANT, _SECOND, _SYSTEM = _SAID
_LITERAL = "give the prefix as a literal {name, text}"


@dataclass(frozen=True)
class Texts:
    """The fixed texts around what is said: before + question + middle + answer + after.

    Attributes:
        before: text before the first user's words.
        middle: text between a user's words and the assistant's, in a conversation of one exchange.
        after: text after the assistant's words that end a conversation.
        between: text between an assistant's words and the next user's; None where the template
            shows one exchange alone.
        opening: text before the words of a system turn; None where the template shows none.
        in_parts: messages are lists of parts {type, text}, which some templates ask for.
        tools: what templates are given as tools; some ask for a list, even an empty one.
    """

    before: str
    middle: str
    after: str = ""
    between: str | None = None
    opening: str | None = None
    in_parts: bool = False
    tools: tuple[()] | None = None


class _Vocabulary(Protocol[T]):
    """What is asked of a tokenizer, as `Model` has it; tokens are whatever can be compared."""

    bos: T | None

    def conversation(self, text: str) -> list[T]: ...
    def bytes_of(self, tokens: Sequence[T]) -> bytes: ...
    def special(self, token: T) -> bool: ...


@dataclass(frozen=True)
class Turns:
    """The tokens of a chat template around what is said.

    Attributes:
        full: those before the first user's first word.
        user: those of a user's header alone, behind what begins every text.
        header: those between a user's last word and the assistant's first.
        lead: text between `full` and the first word, which its tokens leave to the word.
        answer_lead: the same between `header` and the answer.
    """

    full: list[Any]
    user: list[Any]
    header: list[Any]
    lead: str
    answer_lead: str


def shared_start(sequences: Sequence[Sequence[T]]) -> list[T]:
    """The tokens with which all `sequences` begin."""
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*sequences, strict=False))
    return [column[0] for column in alike]


def shared_end(sequences: Sequence[Sequence[T]]) -> list[T]:
    """The tokens with which all `sequences` end."""
    return shared_start([sequence[::-1] for sequence in sequences])[::-1]


def message(role: str, content: str, in_parts: bool) -> Message:
    """A message as templates take it."""
    return {"role": role, "content": [{"type": "text", "text": content}] if in_parts else content}


def _pieces(text: str | TemplateError, *sentinels: str) -> list[str] | None:
    """What stands around `sentinels`; None if they are not each there once and in order."""
    pattern = "|".join(sentinels)
    if isinstance(text, TemplateError) or re.findall(pattern, text) != list(sentinels):
        return None
    return re.split(pattern, text)


@lru_cache(maxsize=256)
def texts_of(template: str, bos: str = "", eos: str = "") -> Texts:
    """The fixed texts of a chat template, with its `bos_token` and `eos_token`.

    Raises:
        InputError: the template cannot be rendered, or does not show a message as it is.
    """
    reason: Exception | None = None
    for in_parts, tools in ((False, None), (True, None), (False, ())):
        user, assistant, second, system = (
            message(role, text, in_parts) for text, role in _SAID.items()
        )
        talks = [[user, assistant], [user, assistant, second], [system, user, assistant]]
        names: dict[str, Any] = {"bos": bos, "eos": eos, "tools": tools}
        try:
            one, two, opened = render_each(template, talks, **names)
            exchange = _pieces(one, _USER, _ASSISTANT)
            if exchange is None and (isinstance(one, TemplateError) or _ASSISTANT not in one):
                # Templates of models that answer once: what would stand before the answer.
                (asked,) = render_each(template, [[user]], prompt=True, **names)
                exchange = _pieces(asked, _USER)
                if isinstance(asked, TemplateError):
                    reason = reason or (one if isinstance(one, TemplateError) else asked)
        except TemplateError as error:
            reason = error
            break
        if exchange is not None:
            before, middle, after = (*exchange, "")[:3]
            turns = _pieces(two, _USER, _ASSISTANT, _SECOND)
            start = _pieces(opened, _SYSTEM, _USER, _ASSISTANT)
            between, opening = turns[2] if turns else None, start[0] if start else None
            return Texts(before, middle, after, between, opening, in_parts, tools)
    why = f"cannot be rendered ({reason})"
    if reason is None:
        why = "does not show each user and assistant message once and in order"
    raise InputError(f"chat template: {why}; {_LITERAL}") from reason


def turns_of(vocabulary: _Vocabulary[T], texts: Texts) -> Turns:
    """The tokens around what is said, in one vocabulary; see `Turns`.

    `user` is the tail of `full` that begins at a token and heads every later user's turn too, or
    their header where the first turn has another. Before it stands what begins every text: the
    beginning-of-sequence token, where there is one, or all that `full` has in front where it has no
    default system turn.
    """
    between = texts.between or ""

    def tokens(first: str, answer: str, second: str) -> list[T]:
        shown = texts.before + first + texts.middle + answer
        return vocabulary.conversation(
            shown + (texts.after if texts.between is None else between + second)
        )

    base, other = WORDS[0], WORDS[1:]
    whole = tokens(base, base, base)
    firsts = [whole, *(tokens(word, base, base) for word in other)]
    answers = [whole, *(tokens(base, word, base) for word in other)]
    full = shared_start(firsts)
    asked = len(whole) - len(shared_end(firsts))
    answering = max(asked, len(shared_start(answers)))
    header = whole[asked:answering]
    user = full
    if texts.between is not None:
        answered = len(whole) - len(shared_end(answers))
        seconds = [whole, *(tokens(base, base, word) for word in other)]
        later = whole[answered : max(answered, len(shared_start(seconds)))]
        end = vocabulary.conversation(texts.before + base + texts.middle + base + texts.after)
        opening = [] if texts.opening is None else [vocabulary.conversation(texts.opening)]
        user = _user(vocabulary, full, later, [header, end[answered:]], [full, *opening])
    lead = lead_of(vocabulary, whole[len(full) : asked], base)
    return Turns(full, user, header, lead, lead_of(vocabulary, whole[answering:], base))


def lead_of(vocabulary: _Vocabulary[T], tokens: Sequence[T], word: str) -> str:
    """The text that `tokens` have before their first word, `word`."""
    return vocabulary.bytes_of(tokens).decode("utf-8", "replace").partition(word)[0]


def _user(
    vocabulary: _Vocabulary[T],
    full: list[T],
    later: list[T],
    others: list[list[T]],
    starts: list[list[T]],
) -> list[T]:
    """The header of a user's turn, behind what begins every text.

    `full` is before the first user's words; `later` between an assistant's and the next user's: the
    end of a turn, and then the header. `others` follow words and so begin with the end of a turn
    too; `starts` begin conversations, and so with a header.
    """
    closing = max(_closing(vocabulary, later, other, starts) for other in others)
    text = vocabulary.bytes_of(full)
    tails = (later[start:] for start in range(closing, len(later)))
    header = next((tail for tail in tails if text.endswith(vocabulary.bytes_of(tail))), None)
    if header:
        front = full[: len(full) - len(header)]
        if full[len(front) :] == header and all(map(vocabulary.special, front)):
            return full
    else:
        header = later[closing:]
    # White space between two turns is of neither.
    while header and not vocabulary.bytes_of(header[:1]).strip():
        header = header[1:]
    if not header:
        return full
    begin = [*takewhile(lambda t: t != header[0] and vocabulary.special(t), full)]
    if full[len(begin)] != header[0]:
        # Plain text of a default system turn follows, so the last of these opens that turn.
        begin = begin[:-1] or [token for token in begin if token == vocabulary.bos]
    # A SentencePiece vocabulary marks the first word of a text with a space.
    rest = vocabulary.bytes_of(full[len(begin) :])
    if rest.lstrip(b" ") == vocabulary.bytes_of(header).lstrip(b" "):
        return full
    return [*begin, *header]


def _closing(
    vocabulary: _Vocabulary[T], later: list[T], other: list[T], starts: Sequence[list[T]]
) -> int:
    """How many tokens of `later` end a turn, as far as `other` tells, which ends one too.

    What both begin with may run on into the next header (`<|im_start|>`): such tokens begin a
    conversation too, and are left to the header.
    """
    common = shared_start([later, other])
    overlap = 0
    for start in starts:
        special = len([*takewhile(vocabulary.special, start)])
        for place in {0, *range(special), int(start[:1] == [vocabulary.bos])}:
            most = min(len(common), len(start) - place)
            sizes = (n for n in range(most, 0, -1) if common[-n:] == start[place : place + n])
            overlap = max(overlap, next(sizes, 0))
    closing = len(common) - overlap
    if not overlap and len(common) < len(other):
        # What ends a turn ends with a special token or white space.
        while (last := common[:closing][-1:]) and vocabulary.bytes_of(last).strip():
            if vocabulary.special(last[0]):
                break
            closing -= 1
    return closing
