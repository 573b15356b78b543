"""The tokens of a conversation in one model's chat template and vocabulary.

    with Model(path) as model:
        chat = ChatFormat.of(model)
        chat.prefix("user")                      # what generations continue
        chat.question("Which river?").target     # tokens of a question inside the conversation
        chat.shown(["\\nWhich river?"], "user")   # ["Which river?"] where the template trims

Everything is read off whole rendered conversations, tokenised as llama.cpp tokenises them: prefix,
header and a row's own tokens fit together, so that a model which writes a row with certainty gives
it a log-likelihood of 0 and writes the text that the row is compared by.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

from alignment_extraction.files import InputError
from alignment_extraction.generations.chat_template import Message, TemplateError, render_each
from alignment_extraction.generations.turns import (
    WORDS,
    Texts,
    Turns,
    message,
    shared_end,
    shared_start,
    texts_of,
    turns_of,
)

if TYPE_CHECKING:
    from alignment_extraction.engine.model import Model

_BLANKS = " \t\n\v\f\r"  # what C's isspace takes, and so llama.cpp's special tokens swallow
_ROWS = 1024  # rendered in one process


class Spoken(NamedTuple):
    """One turn of a conversation as token ids: what comes before, its own, what ends it."""

    context: list[int]
    target: list[int]
    end: list[int]


@dataclass(frozen=True)
class Ending:
    """How a question ends and the answer begins; the options of `sampling.sample`.

    Attributes:
        header: tokens fed after a question that an end token ended.
        end_text: a text that ends the question too; "" where an end token does.
        tail: text before the end that belongs neither to it nor to the question.
        rest: how many of the header's last tokens are fed after `end_text`.
        answer_lead: text that `header` leaves to the answer's first word.
        answer_tail: text between the answer and its end token.
    """

    header: list[int]
    end_text: str = ""
    tail: str = ""
    rest: int = 0
    answer_lead: str = ""
    answer_tail: str = ""


class _Fixed(NamedTuple):
    """A fixed text, cut at its special tokens: text, tokens from first to last, text."""

    left: str
    tokens: list[int]
    right: str


class ChatFormat:
    """How one model's conversations are written; see the module.

    Attributes:
        model: the model.
        texts: the fixed texts around what is said.
        turns: their tokens.
    """

    def __init__(self, model: "Model", texts: Texts, *, rendered: bool = False) -> None:
        """Make the format of fixed `texts`; `rendered` where they are the model's template's."""
        self.model = model
        self.texts = texts
        self.turns: Turns = turns_of(model, texts)
        self._rendered = rendered
        before, self._middle, after = (
            self._cut(text) for text in (texts.before, texts.middle, texts.after)
        )
        self._head = model.conversation(texts.before[: len(texts.before) - len(before.right)])
        self._before, self._after = before.right, after.left
        self._close = after.tokens[:1]

    @classmethod
    def of(cls, model: "Model") -> "ChatFormat":
        """The format of the model's own chat template.

        Raises:
            InputError: it has none, or one that cannot be rendered or shows no messages.
        """
        if model.chat_template is None:
            raise InputError(
                f"{model.path}: has no chat template in its metadata; "
                "give the prefix as a literal {name, text}"
            )
        try:
            texts = texts_of(model.chat_template, *_names(model))
        except InputError as error:
            raise InputError(f"{model.path}: {error}") from error
        return cls(model, texts, rendered=True)

    @classmethod
    def literal(cls, model: "Model", before: str, middle: str) -> "ChatFormat":
        """The format of conversations that are written before + question + middle + answer."""
        chat = cls(model, Texts(before, middle))
        if not before:
            # A document's first word keeps the mark that a SentencePiece vocabulary gives it.
            chat.turns = replace(chat.turns, full=model.conversation(""), lead="")
        return chat

    def _cut(self, text: str) -> _Fixed:
        """Cut a fixed text at the tokens that are read in it as special tokens alone."""
        tokens = self.model.tokenize(text)
        special = [i for i, token in enumerate(tokens) if self.model.control(token)]
        if not special:
            return _Fixed(text, [], text)
        pieces = [self.model.piece(tokens[i]) for i in special]
        start = stop = text.index(pieces[0])
        for piece in pieces:
            stop = text.index(piece, stop) + len(piece)
        return _Fixed(text[:start], tokens[special[0] : special[-1] + 1], text[stop:])

    def _plain(self, text: str, before: Sequence[int], behind: Sequence[int]) -> list[int]:
        """Tokens of a text between special tokens; what people say stays plain text in it."""
        if before and self.model.swallows(before[-1])[1]:
            text = text.lstrip(_BLANKS)
        if behind and self.model.swallows(behind[0])[0]:
            text = text.rstrip(_BLANKS)
        return self.model.tokenize(text, special=False)

    def _conversation(self, question: str, answer: str) -> list[int]:
        """Tokens of a conversation up to the first special token behind the answer."""
        head, middle, close = self._head, self._middle, self._close
        if not middle.tokens:
            said = self._before + question + middle.left + answer + self._after
            return [*head, *self._plain(said, head, close), *close]
        return [
            *head,
            *self._plain(self._before + question + middle.left, head, middle.tokens),
            *middle.tokens,
            *self._plain(middle.right + answer + self._after, middle.tokens, close),
            *close,
        ]

    @cached_property
    def _asked(self) -> list[int]:
        """Tokens behind a question: its end, the header, an answer of one word, and its end."""
        return shared_end([self._conversation(word, WORDS[0]) for word in WORDS])

    @cached_property
    def _answered(self) -> list[int]:
        """Tokens behind an answer."""
        return shared_end([self._conversation(WORDS[0], word) for word in WORDS])

    @cached_property
    def _after_header(self) -> int:
        """Number of tokens from an answer of one word on."""
        answers = [self._conversation(WORDS[0], word) for word in WORDS]
        return len(answers[0]) - len(shared_start(answers))

    @cached_property
    def ending(self) -> Ending:
        """How a question ends: at the first special token behind it, whatever follows."""
        model, header = self.model, self.turns.header
        closing = model.bytes_of(self._answered[: len(self._answered) - len(self._close)])
        behind = closing.decode("utf-8", "replace") if self._close else ""
        around = self.turns.answer_lead, behind
        first = self._first_special
        if first is None:
            return Ending(header, self.texts.middle, "", 0, *around)
        rest = len(header) - first - 1
        tail = model.bytes_of(header[:first]).decode("utf-8", "replace")
        if header[first] in model.eog:
            return Ending(header, "", tail, rest, *around)
        if tail.strip():
            # The model writes the assistant's name before it comes to a special token.
            return Ending(header, tail, "", rest + 1, *around)
        return Ending(header, model.piece(header[first]), tail, rest, *around)

    @cached_property
    def _first_special(self) -> int | None:
        special = (i for i, token in enumerate(self.turns.header) if self.model.special(token))
        return next(special, None)

    @cached_property
    def _end_length(self) -> int:
        """Number of the header's tokens that end a question: to the first special one, or all."""
        header, first = self.turns.header, self._first_special
        named = first is not None and (
            header[first] in self.model.eog or not self.model.bytes_of(header[:first]).strip()
        )
        if first is not None and named:
            return first + 1
        length = len(header) if first is None else first
        while length and not self.model.bytes_of(header[length - 1 : length]).strip():
            length -= 1
        return length

    def prefix(self, form: Literal["full", "user"]) -> list[int]:
        """Token ids before a question's first word; see `prefix.FORMS`."""
        return self.turns.full if form == "full" else self.turns.user

    def question(self, text: str, prefix: Sequence[int] | None = None) -> Spoken:
        """A question inside the conversation, and what ends it.

        Args:
            text: as the template shows it (see `shown`); special tokens in it are plain text.
            prefix: the context, if not `full`.
        """
        tokens = self._conversation(text, WORDS[0])
        full = self.turns.full
        context = list(full if prefix is None else prefix)
        asked = max(len(full), len(tokens) - _common_end(tokens, self._asked))
        header = len(tokens) - self._after_header
        end = tokens[asked : max(asked, header - len(self.turns.header) + self._end_length)]
        if tokens[: len(full)] != full:
            # The text binds a token of the header: it cannot be written behind the prefix but so.
            return Spoken(context, self.alone(text), end)
        return Spoken(context, tokens[len(full) : asked], end)

    def answer(self, question: str, text: str, prefix: Sequence[int] | None = None) -> Spoken:
        """An answer inside the conversation; `end` holds nothing. Arguments as `question`'s."""
        asked = self._conversation(question, WORDS[0])
        start = len(asked) - self._after_header
        full = self.turns.full
        context = list(full if prefix is None else prefix)
        if asked[: len(full)] == full:
            context += asked[len(full) : start]
        else:
            context += [*self.alone(question), *self.turns.header]
        tokens = self._conversation(question, text)
        if tokens[:start] != asked[:start]:
            return Spoken(context, self.alone(text), [])
        stop = max(start, len(tokens) - _common_end(tokens, self._answered))
        return Spoken(context, tokens[start:stop], [])

    def alone(self, text: str) -> list[int]:
        """Tokens of a text that goes on where another ended, without a SentencePiece mark."""
        marked = self.model.tokenize("\n" + text, special=False)
        start = shared_start([self.model.tokenize("\n" + word, special=False) for word in WORDS])
        if marked[: len(start)] == start:
            return marked[len(start) :]
        return self.model.tokenize(text, special=False)

    def shown(self, texts: Sequence[str], role: Literal["user", "assistant"]) -> list[str]:
        """Texts as the template shows them: trimmed, for one, where it trims.

        Each is rendered in a conversation of its own; a text that the template refuses or takes
        apart stays as it is.

        Raises:
            InputError: the template takes too long.
        """
        if not self._rendered:
            return list(texts)
        word, fixed, parts = WORDS[0], self.texts, self.texts.in_parts
        left, right = fixed.before, fixed.middle + word + fixed.after
        if role == "assistant":
            left, right = fixed.before + word + fixed.middle, fixed.after
        shown: list[str] = []
        for start in range(0, len(texts), _ROWS):
            some = texts[start : start + _ROWS]
            conversations = [
                [
                    message("user", text if role == "user" else word, parts),
                    message("assistant", word if role == "user" else text, parts),
                ]
                for text in some
            ]
            for text, found in zip(some, self._render(conversations), strict=True):
                whole = found if isinstance(found, str) else ""
                fits = len(whole) >= len(left) + len(right)
                if fits and whole.startswith(left) and whole.endswith(right):
                    shown.append(whole[len(left) : len(whole) - len(right)])
                else:
                    shown.append(text)
        return shown

    def _render(self, conversations: list[list[Message]]) -> list[str | TemplateError]:
        template, (bos, eos) = self.model.chat_template or "", _names(self.model)
        try:
            return render_each(template, conversations, bos=bos, eos=eos, tools=self.texts.tools)
        except TemplateError as error:
            raise InputError(f"{self.model.path}: chat template: {error}") from error


def _names(model: "Model") -> tuple[str, str]:
    """The texts of the tokens that begin and end a sequence, as templates name them."""
    return (
        "" if model.bos is None else model.piece(model.bos),
        "" if model.eos is None else model.piece(model.eos),
    )


def _common_end(tokens: Sequence[int], end: Sequence[int]) -> int:
    """With how many of the tokens of `end` `tokens` end too."""
    if list(tokens[-len(end) :]) == list(end):
        return len(end)
    return len(shared_end([tokens[-len(end) :], end])) if end else 0
