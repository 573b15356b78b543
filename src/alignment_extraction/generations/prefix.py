"""Template prefixes: what a model is prompted with, derived from its own chat template.

A prefix is what stands before the first word of the user: the paper (arXiv 2510.18554, section 3)
prompts with it alone, and the model writes the user's turn. It is the tokens that conversations
with different first words share, never typed from memory.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.generations.conversation import ChatFormat
from alignment_extraction.generations.turns import WORDS, shared_start, texts_of, turns_of

if TYPE_CHECKING:
    from alignment_extraction.engine.model import Model

_logger = logging.getLogger(__name__)

FORMS = ("full", "user", "bos", "none")
"""Named prefixes, from the fullest to none of the template:

- `full`: all that the template writes before the user's words, its default system turn included;
- `user`: the header of the user's turn alone (behind what begins every text, if something does);
- `bos`: the first special token of `full`;
- `none`: no template, only the token with which documents begin.
"""


@dataclass(frozen=True)
class TurnTexts:
    """The fixed texts of a chat template around what user and assistant say."""

    full: str
    """Text before the first user's words."""
    user: str
    """Header of a user's turn."""
    answer_header: str
    """Text between a user's words and the assistant's: end of turn and assistant header."""

    @property
    def end(self) -> str:
        """What ends a question: the first special token behind it, or the text before that."""
        words = Words()
        tokens = words.conversation(self.answer_header)
        first = next((i for i, token in enumerate(tokens) if words.special(token)), len(tokens))
        return "".join(tokens[:first]).strip() or "".join(tokens[first : first + 1])


class Words:
    """A vocabulary made up for a template without one.

    Its tokens are what is written like a special token (`<|user|>`, `[INST]`, `</s>`), runs of
    letters and digits, and single other characters.
    """

    _SPECIAL = (
        r"[<〈][|\uff5c][^<>|\uff5c\s]+[|\uff5c][>〉]|</?[A-Za-z_][\w.:-]*>|<\|\w+>|<\w+\|>|<<\w+>>"
        r"|\[/?[A-Za-z_]*[A-Z][A-Z_]+\]|\]~!?b[\[\]]|\[e~\["
    )

    def __init__(self, bos: str = "", eos: str = "") -> None:
        """Make the vocabulary; `bos` and `eos` are special tokens of it, if not empty."""
        self.bos = bos
        names = [re.escape(name) for name in (bos, eos) if name]
        self._special = re.compile("|".join([*names, self._SPECIAL]))
        self._token = re.compile(rf"{self._special.pattern}|\w+|.", re.DOTALL)

    def conversation(self, text: str) -> list[str]:
        """The tokens of `text`."""
        return [match[0] for match in self._token.finditer(text)]

    def bytes_of(self, tokens: Sequence[str]) -> bytes:
        """The text of `tokens`."""
        return "".join(tokens).encode()

    def special(self, token: str) -> bool:
        """Whether `token` is written like a special token."""
        return self._special.fullmatch(token) is not None

    def begins(self, token: str) -> bool:
        """Whether `token` begins every text."""
        return bool(self.bos) and token == self.bos


@lru_cache(maxsize=256)
def derive_turns(template: str, bos: str = "", eos: str = "") -> TurnTexts:
    """The fixed texts of `template` (Jinja, as stored in a GGUF), in a made-up vocabulary.

    Args:
        template: the chat template.
        bos: text of the beginning-of-sequence token, `bos_token` in templates.
        eos: text of the end-of-sequence token, `eos_token` in templates.

    Raises:
        InputError: the template cannot be rendered, or does not show the messages as they are.
    """
    texts, vocabulary = texts_of(template, bos, eos), Words(bos, eos)
    turns = turns_of(vocabulary, texts)
    user = vocabulary.bytes_of(turns.user).decode()
    return TurnTexts(texts.before, user, texts.middle)


def prefix_tokens(model: "Model", form: str, text: str | None = None) -> list[int]:
    """Token ids of a prefix: those that every text which goes on from it begins with.

    Args:
        model: the model whose template and vocabulary are used.
        form: one of `FORMS`, or any name where `text` is given.
        text: a literal prefix, special tokens spelt out; None derives the prefix. One that no
            conversation in the model's own template begins with is warned of.

    Raises:
        InputError: the template cannot give this prefix.
    """
    return prefix_and_lead(model, form, text)[0]


def prefix_and_lead(model: "Model", form: str, text: str | None = None) -> tuple[list[int], str]:
    """`prefix_tokens`, and the text that they leave to the first word behind them.

    That text is a header's last space, or the mark of a SentencePiece vocabulary: no part of what
    is said.
    """
    if text is not None:
        tokens, lead = _literal(model, text)
        if tokens:
            _warn_of_literal(model, form, tokens)
    elif form in ("full", "user"):
        turns = ChatFormat.of(model).turns
        tokens, lead = (turns.full if form == "full" else turns.user), turns.lead
    elif form == "bos":
        tokens, lead = ChatFormat.of(model).turns.full[:1], _mark(model)
        if tokens and model.detokenize(tokens):
            raise InputError(
                f"{model.path}: prefix 'bos': the chat template begins with the plain text "
                f"{model.piece(tokens[0])!r}, not with a special token; leave 'bos' out"
            )
    elif form == "none":
        tokens, lead = [_document_start(model)], _mark(model)
    else:
        raise InputError(
            f"prefix {form!r}: not one of {', '.join(FORMS)} and without a `text` of its own"
        )
    if not tokens:
        raise InputError(f"{model.path}: prefix {form!r} is empty; there is nothing to sample from")
    return tokens, lead


def describe_prefix(model: "Model", form: str, text: str | None = None) -> pl.DataFrame:
    """The tokens of a prefix, for a person to check: columns id Int32, piece String."""
    tokens = prefix_tokens(model, form, text)
    return pl.DataFrame(
        {"id": tokens, "piece": [model.piece(token) for token in tokens]},
        schema={"id": pl.Int32, "piece": pl.String},
    )


def _literal(model: "Model", text: str) -> tuple[list[int], str]:
    """The tokens that texts which begin with `text` share, and what they leave to its first word.

    Where a text does not end in white space the next word brings its own.
    """
    tokens = model.conversation(text)
    apart = bool(text) and text == text.rstrip() and not model.special(tokens[-1])
    space = " " if apart else ""
    whole = [model.conversation(text + space + word) for word in WORDS]
    shared = shared_start(whole)
    tail = model.bytes_of(whole[0][len(shared) :]).decode("utf-8", "replace")
    return shared, "" if apart else tail.partition(WORDS[0])[0]


def _warn_of_literal(model: "Model", name: str, tokens: list[int]) -> None:
    """Warn of a literal prefix with which no conversation of the model's template begins."""
    if model.chat_template is None:
        return
    try:
        turns = ChatFormat.of(model).turns
    except InputError:
        return
    for known in (turns.full, turns.user):
        size = min(len(known), len(tokens))
        if known[:size] == tokens[:size]:
            return
    _logger.warning(
        "%s: no conversation in the model's chat template begins with the tokens of prefix %r: %s; "
        "its own begin with %s",
        model.path,
        name,
        [(token, model.piece(token)) for token in tokens],
        [(token, model.piece(token)) for token in turns.full],
    )


def _mark(model: "Model") -> str:
    """What the vocabulary puts before a text's first word: a space, or nothing."""
    text = model.bytes_of(model.tokenize(WORDS[0])).decode("utf-8", "replace")
    return text.partition(WORDS[0])[0]


def _document_start(model: "Model") -> int:
    """The token with which a plain document begins: BOS, unless it opens the chat template.

    ChatML models name <|im_start|> their BOS; their documents are separated by another
    end-of-generation token, <|endoftext|>.
    """
    conversation = ""
    if model.chat_template is not None:
        try:
            texts = ChatFormat.of(model).texts
            conversation = texts.before + texts.middle
        except InputError:
            # A template that cannot be rendered still tells which tokens it writes.
            conversation = model.chat_template
    if model.bos is not None and (model.add_bos or model.piece(model.bos) not in conversation):
        return model.bos
    separators = sorted(t for t in model.eog if model.piece(t) not in conversation)
    named = [t for t in separators if model.piece(t) == "<|endoftext|>"]
    if not separators:
        raise InputError(
            f"{model.path}: prefix 'none': the vocabulary has no token that separates documents; "
            "leave 'none' out"
        )
    return (named or separators)[0]
