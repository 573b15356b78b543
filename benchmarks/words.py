"""The turns of chat templates that come without their vocabularies, for the docs and the tests."""

import re
from collections.abc import Sequence

from alignment_extraction.generations.endpoint import SPECIAL
from alignment_extraction.generations.turns import Texts, texts_of, turns_of


class Words:
    """A vocabulary made up for a template without one.

    Its tokens are what is written like a special token (`<|user|>`, `[INST]`, `</s>`), runs of
    letters and digits, and single other characters.
    """

    def __init__(self, bos: str = "", eos: str = "") -> None:
        """Make the vocabulary; `bos` and `eos` are special tokens of it, if not empty."""
        self.bos: str | None = bos
        names = [re.escape(name) for name in (bos, eos) if name]
        self._special = re.compile("|".join([*names, SPECIAL.pattern]))
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


def derive_turns(template: str, bos: str = "", eos: str = "") -> tuple[Texts, str]:
    """The fixed texts of a chat template and its header of a user's turn, see `texts_of`.

    They are those of a made-up vocabulary, for want of the model's.
    """
    texts, words = texts_of(template, bos, eos), Words(bos, eos)
    return texts, words.bytes_of(turns_of(words, texts).user).decode()
