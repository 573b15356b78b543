"""The tokens of a conversation in one model's chat template and vocabulary.

    with Model(path) as model:
        chat = ChatFormat.of(model)
        chat.turns.user                          # what generations continue
        chat.question("Which river?").target     # tokens of a question inside the conversation
        chat.shown(["\\nWhich river?"], "user")   # ["Which river?"] where the template trims

Everything is read off whole rendered conversations, tokenised as llama.cpp tokenises them: a model
that writes a row with certainty gives it a log-likelihood of 0 and writes its very text.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from alignment_extraction.files import InputError
from alignment_extraction.generations.chat_template import TemplateError, render_each
from alignment_extraction.generations.turns import (
    WORDS,
    Texts,
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


class ChatFormat:
    """How one model's conversations are written: fixed texts around what is said, their tokens."""

    def __init__(self, model: "Model", texts: Texts, *, rendered: bool = False) -> None:
        """Make the format of fixed `texts`; `rendered` where they are the model's template's."""
        self.model, self.texts, self.turns = model, texts, turns_of(model, texts)
        self._rendered = rendered
        _, _, self._before = self._cut(texts.before)
        self._middle = self._cut(texts.middle)
        self._after, close, _ = self._cut(texts.after)
        self._close = close[:1]
        self._head = model.conversation(texts.before[: len(texts.before) - len(self._before)])
        # Tokens behind a question and an answer of one word, and how many begin with the latter.
        questions = [self._conversation(word, WORDS[0]) for word in WORDS]
        answers = [self._conversation(WORDS[0], word) for word in WORDS]
        self._asked, self._answered = shared_end(questions), shared_end(answers)
        self._after_header = len(answers[0]) - len(shared_start(answers))

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

    def _cut(self, text: str) -> tuple[str, list[int], str]:
        """A fixed text before, the tokens from, and the text behind its first and last special."""
        tokens = self.model.tokenize(text)
        special = [i for i, token in enumerate(tokens) if self.model.control(token)]
        if not special:
            return text, [], text
        pieces = [self.model.piece(tokens[i]) for i in special]
        start = stop = text.index(pieces[0])
        for piece in pieces:
            stop = text.index(piece, stop) + len(piece)
        return text[:start], tokens[special[0] : special[-1] + 1], text[stop:]

    def _plain(self, text: str, before: Sequence[int], behind: Sequence[int]) -> list[int]:
        """Tokens of a text between special tokens; what people say stays plain text in it."""
        if before and self.model.swallows(before[-1])[1]:
            text = text.lstrip(_BLANKS)
        if behind and self.model.swallows(behind[0])[0]:
            text = text.rstrip(_BLANKS)
        return self.model.tokenize(text, special=False)

    def _conversation(self, question: str, answer: str) -> list[int]:
        """Tokens of a conversation up to the first special token behind the answer."""
        head, (left, middle, right), close = self._head, self._middle, self._close
        asked, answered = self._before + question + left, answer + self._after
        if not middle:
            return [*head, *self._plain(asked + answered, head, close), *close]
        return [
            *(*head, *self._plain(asked, head, middle), *middle),
            *(*self._plain(right + answered, middle, close), *close),
        ]

    @cached_property
    def ending(self) -> tuple[dict[str, Any], int]:
        """How a question ends: at the first special token behind it, whatever follows.

        As fields of `Request`, and how many of the header's tokens end it.
        """
        model, header = self.model, self.turns.header

        def text(tokens: Sequence[int]) -> str:
            return model.bytes_of(tokens).decode("utf-8", "replace")

        size = length = len(header)
        first = next((i for i, token in enumerate(header) if model.special(token)), size)
        end_text, tail, rest = text(header[:first]), "", size - first
        if first == size:
            end_text = self.texts.middle
        elif header[first] in model.eog or not end_text.strip():
            # Else the model writes the assistant's name before it comes to a special token.
            tail, rest, length = end_text, rest - 1, first + 1
            end_text = "" if header[first] in model.eog else model.piece(header[first])
        else:
            length = first
        while length and not text(header[length - 1 : length]).strip():
            length -= 1
        behind = text(self._answered[: -len(self._close)]) if self._close else ""
        return {"end_text": end_text, "tails": (tail, behind), "rest": rest}, length

    def question(self, text: str, prefix: Sequence[int] | None = None) -> Spoken:
        """A question as the template shows it (see `shown`), and what ends it.

        Special tokens in the text are plain text; `prefix` is the context, if not `full`.
        """
        tokens, full = self._conversation(text, WORDS[0]), self.turns.full
        context = list(full if prefix is None else prefix)
        asked = max(len(full), len(tokens) - _common_end(tokens, self._asked))
        header = len(tokens) - self._after_header
        end = tokens[asked : max(asked, header - len(self.turns.header) + self.ending[1])]
        if tokens[: len(full)] != full:
            # The text binds a token of the header: it cannot be written behind the prefix but so.
            return Spoken(context, self._alone(text), end)
        return Spoken(context, tokens[len(full) : asked], end)

    def answer(self, question: str, text: str, prefix: Sequence[int] | None = None) -> Spoken:
        """An answer inside the conversation; `end` holds nothing. Arguments as `question`'s."""
        asked, full = self._conversation(question, WORDS[0]), self.turns.full
        start = len(asked) - self._after_header
        context = list(full if prefix is None else prefix)
        if asked[: len(full)] == full:
            context += asked[len(full) : start]
        else:
            context += [*self._alone(question), *self.turns.header]
        tokens = self._conversation(question, text)
        if tokens[:start] != asked[:start]:
            return Spoken(context, self._alone(text), [])
        stop = max(start, len(tokens) - _common_end(tokens, self._answered))
        return Spoken(context, tokens[start:stop], [])

    def _alone(self, text: str) -> list[int]:
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
        word, fixed = WORDS[0], self.texts
        asks = role == "user"
        left = fixed.before if asks else fixed.before + word + fixed.middle
        right = fixed.middle + word + fixed.after if asks else fixed.after
        pairs = [(text, word) if asks else (word, text) for text in texts]
        conversations = [
            [message("user", ask, fixed.in_parts), message("assistant", answer, fixed.in_parts)]
            for ask, answer in pairs
        ]
        template, (bos, eos) = self.model.chat_template or "", _names(self.model)
        shown: list[str | None] = []
        try:
            for start in range(0, len(texts), _ROWS):
                some = conversations[start : start + _ROWS]
                found = render_each(template, some, bos=bos, eos=eos, tools=fixed.tools)
                shown += [_between(text, left, right) for text in found]
        except TemplateError as error:
            raise InputError(f"{self.model.path}: chat template: {error}") from error
        return [own if text is None else text for own, text in zip(texts, shown, strict=True)]


def _between(whole: str | TemplateError, left: str, right: str) -> str | None:
    """What stands between two texts that begin and end `whole`; None if they do not."""
    if isinstance(whole, TemplateError) or len(whole) < len(left) + len(right):
        return None
    fits = whole.startswith(left) and whole.endswith(right)
    return whole[len(left) : len(whole) - len(right)] if fits else None


def _names(model: "Model") -> tuple[str, str]:
    """The texts of the tokens that begin and end a sequence, as templates name them."""
    bos, eos = ("" if t is None else model.piece(t) for t in (model.bos, model.eos))
    return bos, eos


def _common_end(tokens: Sequence[int], end: Sequence[int]) -> int:
    """With how many of the tokens of `end` `tokens` end too."""
    return len(shared_end([tokens[-len(end) :], end])) if end else 0
