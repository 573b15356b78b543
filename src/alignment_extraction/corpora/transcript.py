"""Turns of a conversation, and conversations that are written as one text."""

import re
from typing import NamedTuple

ROLES = {
    **dict.fromkeys(("human", "prompter", "instruction", "[inst]", "h"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bot", "model", "ai", "bing", "bard"), "assistant"),
    **dict.fromkeys(("response", "[/inst]", "a", "chatbot"), "assistant"),
    **dict.fromkeys(("function", "observation", "tool_response", "ipython"), "tool"),
}
"""What else the roles of turns are called."""

_MARKERS = [  # where a turn begins in a transcript
    re.compile(r"(?:\A\s*|\n\n)(Human|Assistant|System): ?"),
    re.compile(r"### ?(Human|User|Instruction|Assistant|Response|System):[ \n]*"),
    re.compile(r"<\|im_start\|>(\w+)\n"),
    re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\s*"),
    re.compile(r"<\|(user|assistant|system)\|>\n?"),
    re.compile(r"(\[INST\]|\[/INST\])"),
]
_TOKENS = ("<|im_end|>", "<|eot_id|>", "<|begin_of_text|>", "<|endoftext|>", "<s>", "</s>")


class Turn(NamedTuple):
    """One turn before it is checked."""

    role: str
    content: str | None
    """None where the turn has no text: it calls a tool."""


def transcript(text: str) -> list[Turn] | None:
    """The turns of a conversation in one text, as HH-RLHF and rendered chat templates write it.

    None where the text is no such transcript: no marker of a user's turn, or something other than
    special tokens and a system's words before the first.
    """
    for marker in _MARKERS:
        found = list(marker.finditer(text))
        roles = [ROLES.get(match[1].lower(), match[1].lower()) for match in found]
        if "user" not in roles:
            continue
        ends = [*(match.start() for match in found[1:]), len(text)]
        turns = [
            Turn(role, _bare(text[match.end() : end]))
            for role, match, end in zip(roles, found, ends, strict=True)
        ]
        before = _bare(text[: found[0].start()])
        if before and marker is _MARKERS[0]:
            continue
        return [Turn("system", before), *turns] if before else turns
    return None


def _bare(text: str) -> str:
    """Without the special tokens and blanks around it."""
    before = ""
    while text != before:
        before, text = text, text.strip()
        for token in _TOKENS:
            text = text.removeprefix(token).removesuffix(token)
    return text
