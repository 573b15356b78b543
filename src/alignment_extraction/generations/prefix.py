"""Template prefixes: what a model is prompted with, derived from its own chat template.

A prefix is what stands before the first word of the user: the paper (arXiv 2510.18554, section 3)
prompts with it alone, and the model writes the user's turn. It is the tokens that conversations
with different first words share, never typed from memory.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from alignment_extraction.files import InputError
from alignment_extraction.generations.conversation import ChatFormat
from alignment_extraction.generations.turns import (
    WORDS,
    Texts,
    lead_of,
    shared_start,
    texts_of,
    turns_of,
)
from alignment_extraction.settings.studies import LiteralPrefix, PrefixForm

if TYPE_CHECKING:
    from alignment_extraction.engine.model import Model

_logger = logging.getLogger(__name__)

FORMS: tuple[str, ...] = get_args(PrefixForm)
"""Named prefixes, from the fullest to none of the template:

- `full`: all that the template writes before the user's words, its default system turn included;
- `user`: the header of the user's turn alone (behind what begins every text, if something does);
- `bos`: the first special token of `full`;
- `none`: no template, only the token with which documents begin.
"""


def ending_of(text: str) -> tuple[str, str]:
    """What stands between something said and its end, and the end, in the `text` behind it.

    The end is the first special token, or the plain text before that.
    """
    words = Words()
    tokens = words.conversation(text)
    first = next((i for i, token in enumerate(tokens) if words.special(token)), len(tokens))
    plain = "".join(tokens[:first])
    end = plain.strip() or "".join(tokens[first : first + 1])
    return plain.partition(end)[0] if end else plain, end


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


def derive_turns(template: str, bos: str = "", eos: str = "") -> tuple[Texts, str]:
    """The fixed texts of a chat template and its header of a user's turn (see `FORMS`).

    They are those of a made-up vocabulary, for want of the model's. See `texts_of`.
    """
    texts, words = texts_of(template, bos, eos), Words(bos, eos)
    return texts, words.bytes_of(turns_of(words, texts).user).decode()


def prefix_tokens(model: "Model", prefix: PrefixForm | LiteralPrefix) -> list[int]:
    """Token ids of a prefix: those that every text which goes on from it begins with.

    A literal prefix with which no conversation in the model's own template begins is warned of.

    Raises:
        InputError: the template cannot give this prefix.
    """
    return prefix_and_lead(model, prefix)[0]


def prefix_and_lead(model: "Model", prefix: PrefixForm | LiteralPrefix) -> tuple[list[int], str]:
    """`prefix_tokens`, and the text that they leave to the first word behind them.

    That text is a header's last space, or the mark of a SentencePiece vocabulary: no part of what
    is said.
    """
    if isinstance(prefix, LiteralPrefix):
        tokens, lead = _literal(model, prefix.text)
        if tokens:
            _warn_of_literal(model, prefix.name, tokens)
    elif prefix in ("full", "user"):
        turns = ChatFormat.of(model).turns
        tokens, lead = (turns.full if prefix == "full" else turns.user), turns.lead
    elif prefix in ("bos", "none"):
        # What the vocabulary puts before a text's first word: a space, or nothing.
        lead = lead_of(model, model.tokenize(WORDS[0]), WORDS[0])
        if prefix == "none":
            return [_document_start(model)], lead
        tokens = ChatFormat.of(model).turns.full[:1]
        if tokens and model.detokenize(tokens):
            raise InputError(
                f"{model.path}: prefix 'bos': the chat template begins with the plain text "
                f"{model.piece(tokens[0])!r}, not with a special token; leave 'bos' out"
            )
    else:
        raise InputError(
            f"prefix {prefix!r}: not one of {', '.join(FORMS)} and without a `text` of its own"
        )
    if not tokens:
        name = prefix if isinstance(prefix, str) else prefix.name
        raise InputError(f"{model.path}: prefix {name!r} is empty; there is nothing to sample from")
    return tokens, lead


def shown_prefix(path: Path, prefix: PrefixForm | LiteralPrefix) -> str:
    """The tokens of a GGUF's prefix with their ids, one per line, for a person to check."""
    from alignment_extraction.engine.model import Model

    with Model(path) as model:
        return "\n".join(f"{t:>8}  {model.piece(t)!r}" for t in prefix_tokens(model, prefix))


def _literal(model: "Model", text: str) -> tuple[list[int], str]:
    """The tokens that texts which begin with `text` share, and what they leave to its first word.

    Where a text does not end in white space the next word brings its own.
    """
    apart = text == text.rstrip() and not model.special(model.conversation(text)[-1])
    space = " " if apart else ""
    whole = [model.conversation(text + space + word) for word in WORDS]
    shared = shared_start(whole)
    return shared, "" if apart else lead_of(model, whole[0][len(shared) :], WORDS[0])


def _warn_of_literal(model: "Model", name: str, tokens: list[int]) -> None:
    """Warn of a literal prefix with which no conversation of the model's template begins."""
    chat = _chat(model)
    known = (chat.turns.full, chat.turns.user) if chat else ()
    if chat is None or any(own[: len(tokens)] == tokens[: len(own)] for own in known):
        return
    _logger.warning(
        "%s: no conversation in the model's chat template begins with the tokens of prefix %r: %s; "
        "its own begin with %s",
        model.path,
        name,
        [(token, model.piece(token)) for token in tokens],
        [(token, model.piece(token)) for token in chat.turns.full],
    )


def _chat(model: "Model") -> ChatFormat | None:
    """The format of the model's chat template; None without one that can be rendered."""
    try:
        return ChatFormat.of(model)
    except InputError:
        return None


def _document_start(model: "Model") -> int:
    """The token with which a plain document begins: BOS, unless it opens the chat template.

    ChatML models name <|im_start|> their BOS; their documents are separated by another
    end-of-generation token, <|endoftext|>.
    """
    chat = _chat(model)
    # A template that cannot be rendered still tells which tokens it writes.
    conversation = chat.texts.before + chat.texts.middle if chat else model.chat_template or ""
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
