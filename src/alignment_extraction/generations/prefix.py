"""Template prefixes: what a model is prompted with, derived from its own chat template.

A prefix is what stands before the first word of the user: the paper (arXiv 2510.18554, section 3)
prompts with it alone, and the model writes the user's turn. It is the tokens that conversations
with different first words share, never typed from memory.
"""

from pathlib import Path
from typing import TYPE_CHECKING, get_args

from alignment_extraction import layout
from alignment_extraction.files import InputError
from alignment_extraction.generations.conversation import ChatFormat
from alignment_extraction.generations.turns import WORDS, lead_of, shared_start
from alignment_extraction.settings.config import Params
from alignment_extraction.settings.studies import LiteralPrefix, PrefixForm

if TYPE_CHECKING:
    from alignment_extraction.engine.model import Model

FORMS: tuple[str, ...] = get_args(PrefixForm)
"""Named prefixes, from the fullest to none of the template:

- `full`: all that the template writes before the user's words, its default system turn included;
- `user`: the header of the user's turn alone (behind what begins every text, if something does);
- `bos`: the first special token of `full`;
- `none`: no template, only the token with which documents begin.
"""


def prefix_tokens(model: "Model", prefix: PrefixForm | LiteralPrefix) -> list[int]:
    """Token ids of a prefix: those that every text which goes on from it begins with.

    Raises:
        InputError: the template cannot give this prefix.
    """
    return prefix_and_lead(model, prefix)[0]


def prefix_and_lead(model: "Model", prefix: PrefixForm | LiteralPrefix) -> tuple[list[int], str]:
    """`prefix_tokens`, and the text that they leave to the first word behind them.

    That is a header's last space or a SentencePiece vocabulary's mark: no part of what is said.
    """
    if isinstance(prefix, LiteralPrefix):
        tokens, lead = _literal(model, prefix.text)
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


def check_prefixes(params: Params) -> None:
    """Derive the prefix of every condition of the studies in `run` whose model is on disk.

    The others, to be fetched or trained or of a server, are checked when they are sampled.

    Raises:
        InputError: a model's template cannot give a prefix; names the study's key.
    """
    for study_name in params.run:
        study = params.studies[study_name]
        for name in study.sampled_models:
            path = Path(layout.model_file(params, name))
            if params.models[name].served or not path.exists():
                continue
            # Imported here: a study whose models are not there yet does not need llama.cpp.
            from alignment_extraction.engine.model import Model

            wanted = {study.prefix_of(c): None for c in study.all_conditions() if c.model == name}
            with Model(path) as model:
                for prefix in wanted:
                    try:
                        prefix_tokens(model, prefix)
                    except InputError as error:
                        at = f"studies.{study_name}.prefixes.{study.prefixes.index(prefix)}"
                        raise InputError(f"params.yaml: {at}: {error}") from None


def _literal(model: "Model", text: str) -> tuple[list[int], str]:
    """The tokens that texts which begin with `text` share, and what they leave to its first word.

    Where a text does not end in white space the next word brings its own.
    """
    apart = text == text.rstrip() and not model.special(model.conversation(text)[-1])
    space = " " if apart else ""
    whole = [model.conversation(text + space + word) for word in WORDS]
    shared = shared_start(whole)
    return shared, "" if apart else lead_of(model, whole[0][len(shared) :], WORDS[0])


def _document_start(model: "Model") -> int:
    """The token with which a plain document begins: BOS, unless it opens the chat template.

    ChatML models name <|im_start|> their BOS; <|endoftext|> separates their documents.
    """
    try:
        texts = ChatFormat.of(model).texts
        conversation = texts.before + texts.middle
    except InputError:
        # A template that cannot be rendered still tells which tokens it writes.
        conversation = model.chat_template or ""
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
