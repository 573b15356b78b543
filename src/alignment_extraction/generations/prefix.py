"""Template prefixes: what a model is prompted with, derived from its own chat template.

A prefix is the text before the first word of the user: the paper (arXiv 2510.18554, section 3)
prompts with it alone, and the model writes the user's turn. It is found by rendering the template
around sentinel messages and cutting at the sentinels, never typed from memory.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from alignment_extraction.files import InputError
from alignment_extraction.generations.chat_template import TemplateError, render

if TYPE_CHECKING:
    from alignment_extraction.engine.model import Model

FORMS = ("full", "user", "bos", "none")
"""Named prefixes, from the fullest to none of the template:

- `full`: all that the template writes before the user's words, its default system turn included;
- `user`: the header of the user's turn alone (after the beginning-of-sequence token, if the
  template writes one);
- `bos`: the first special token of `full`;
- `none`: no template, only the token with which documents begin.
"""

_USER, _ASSISTANT, _SECOND_USER = "sentinelUserTurn", "sentinelAssistantTurn", "sentinelSecondTurn"


@dataclass(frozen=True)
class Turns:
    """The fixed texts of a chat template around what user and assistant say."""

    full: str
    """Text before the first user's words."""
    user: str
    """Header of a user's turn."""
    answer_header: str
    """Text between a user's words and the assistant's: end of turn and assistant header."""


def _common_length(first: str, second: str) -> int:
    """Number of characters with which both begin."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


@lru_cache(maxsize=32)
def derive_turns(template: str, bos: str = "", eos: str = "") -> Turns:
    """The fixed texts of `template` (Jinja, as stored in a GGUF).

    Args:
        template: the chat template.
        bos: text of the beginning-of-sequence token, `bos_token` in templates.
        eos: text of the end-of-sequence token, `eos_token` in templates.

    Raises:
        InputError: the template cannot be rendered, or does not show the messages as they are.
    """
    user = {"role": "user", "content": _USER}
    assistant = {"role": "assistant", "content": _ASSISTANT}
    second = {"role": "user", "content": _SECOND_USER}
    try:
        rendered, one_exchange = render(
            template, [[user, assistant, second], [user, assistant]], bos=bos, eos=eos
        )
    except TemplateError as error:
        raise InputError(
            f"chat template: cannot be rendered ({error}); give the prefix as a literal "
            "{name, text}"
        ) from error
    shown = [rendered.find(sentinel) for sentinel in (_USER, _ASSISTANT, _SECOND_USER)]
    once = all(rendered.count(sentinel) == 1 for sentinel in (_USER, _ASSISTANT, _SECOND_USER))
    if not once or shown != sorted(shown) or one_exchange.count(_ASSISTANT) != 1:
        raise InputError(
            "chat template: does not show each user and assistant message once and in order, "
            "so no prefix can be derived; give it as a literal {name, text}"
        )
    full, rest = rendered.split(_USER)
    answer_header, rest = rest.split(_ASSISTANT)
    between = rest.split(_SECOND_USER)[0]
    # `between` is the assistant's end of turn and the user's header; the first is also what
    # follows an assistant's turn that ends the conversation.
    end = _common_length(between, one_exchange.split(_ASSISTANT)[1])
    header = between[end:].lstrip() or between.lstrip()
    if not end:
        # The last turn is left open, so its end cannot be told apart that way; the first user's
        # header is the other place to look.
        alike = _common_length(between[::-1], full[::-1])
        header = between[len(between) - alike :].lstrip() or header
    if bos and full.startswith(bos) and not header.startswith(bos):
        header = bos + header
    return Turns(full=full, user=header, answer_header=answer_header)


def model_turns(model: "Model") -> Turns:
    """The fixed texts of a model's own chat template.

    Raises:
        InputError: the model has no chat template, or see `derive_turns`.
    """
    if model.chat_template is None:
        raise InputError(
            f"{model.path}: has no chat template in its metadata; "
            "give the prefix as a literal {name, text}"
        )
    bos = "" if model.bos is None else model.piece(model.bos)
    eos = "" if model.eos is None else model.piece(model.eos)
    try:
        return derive_turns(model.chat_template, bos, eos)
    except InputError as error:
        raise InputError(f"{model.path}: {error}") from error


def _with_bos(model: "Model", tokens: list[int]) -> list[int]:
    """Put the beginning-of-sequence token in front where the vocabulary asks for one."""
    if model.add_bos and model.bos is not None and tokens[:1] != [model.bos]:
        return [model.bos, *tokens]
    return tokens


def prefix_tokens(model: "Model", form: str, text: str | None = None) -> list[int]:
    """Token ids of a prefix.

    Args:
        model: the model whose template and vocabulary are used.
        form: one of `FORMS`, or any name where `text` is given.
        text: a literal prefix, special tokens spelt out; None derives the prefix.

    Raises:
        InputError: the template cannot give this prefix.
    """
    if text is not None:
        tokens = _with_bos(model, model.tokenize(text))
    elif form in ("full", "user"):
        turns = model_turns(model)
        tokens = _with_bos(model, model.tokenize(turns.full if form == "full" else turns.user))
    elif form == "bos":
        tokens = _with_bos(model, model.tokenize(model_turns(model).full))[:1]
        if tokens and model.detokenize(tokens):
            raise InputError(
                f"{model.path}: prefix 'bos': the chat template begins with the plain text "
                f"{model.piece(tokens[0])!r}, not with a special token; leave 'bos' out"
            )
    elif form == "none":
        tokens = [_document_start(model)]
    else:
        raise InputError(
            f"prefix {form!r}: not one of {', '.join(FORMS)} and without a `text` of its own"
        )
    if not tokens:
        raise InputError(f"{model.path}: prefix {form!r} is empty; there is nothing to sample from")
    return tokens


def _document_start(model: "Model") -> int:
    """The token with which a plain document begins: BOS, unless it opens the chat template.

    ChatML models name <|im_start|> their BOS; their documents are separated by another
    end-of-generation token, <|endoftext|>.
    """
    conversation = ""
    if model.chat_template is not None:
        turns = model_turns(model)
        conversation = turns.full + turns.answer_header
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
