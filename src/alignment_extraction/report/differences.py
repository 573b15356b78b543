"""Word-level differences between a generation and its match, for people to read."""

import re
from typing import NamedTuple

from rapidfuzz.distance import Indel

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
"""Characters that change how a page is shown without being seen: control and direction marks."""


class Piece(NamedTuple):
    """A stretch of text that the other side has too, or has not."""

    text: str
    same: bool


def visible(text: str) -> str:
    """`text` with control and direction characters shown as their code point, `⟨U+202E⟩`."""
    return CONTROL.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


def compare(generation: str, match: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts cut into pieces that are common to them or not, at word boundaries.

    The pieces of each side, put together, are `visible` of that side.
    """
    left, right = _WORDS.findall(visible(generation)), _WORDS.findall(visible(match))
    ours: list[Piece] = []
    theirs: list[Piece] = []
    for code in Indel.opcodes(left, right):
        same = code.tag == "equal"
        _append(ours, "".join(left[code.src_start : code.src_end]), same)
        _append(theirs, "".join(right[code.dest_start : code.dest_end]), same)
    return ours, theirs


def _append(pieces: list[Piece], text: str, same: bool) -> None:
    if text:
        pieces.append(Piece(text, same))
