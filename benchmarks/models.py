"""Prefix, header and end of every chat template in llama.cpp's source tree: docs/models.md.

    python benchmarks/models.py    # writes docs/models.md

The templates are those of the installed llama-cpp-python's source distribution (`peers.sdist`).
They come without their vocabularies, so what is written like a special token is taken for one.
"""

from pathlib import Path

from peers import sdist
from words import derive_turns

from alignment_extraction.files import InputError
from alignment_extraction.generations.endpoint import ending_of
from alignment_extraction.generations.turns import Texts

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "models.md"
BEGIN, END = "<BOS>", "<EOS>"
_HEAD = """\
# Prefixes of known models

What the program takes from the chat templates that llama.cpp's source tree has
(`models/templates`), as `python benchmarks/models.py` writes it. `<BOS>` and `<EOS>` stand for the
model's own tokens. *Before* is the prefix `full`; a default system turn is cut short. *User* is the
prefix `user`. *Between* is what stands between question and answer, and *end* what ends a
question: the first special token behind it, or the plain text that stands there. End tokens of the
vocabulary end it as well. Where a vocabulary binds a header's last space to the word behind it,
that space is no part of the prefix. The tokens themselves are shown by
`alignment-extraction generate MODEL --prefix user --show-prefix`.

A model that a server has (`models.NAME: {endpoint: http://127.0.0.1:8000/v1, model: ...}`, its key
in `ENDPOINT_API_KEY`) takes literal prefixes `{name, text, end}` alone: `text` is *before* or
*user* below, its own tokens spelt out, and `end` is *between*. vLLM, SGLang and llama-server are
sent token ids. A server that takes texts alone (llama-cpp-python's) puts the beginning-of-sequence
token in front itself, so leave it out of the text there. `likelihood` needs a server with
`prompt_logprobs` (vLLM). No request goes through a server's chat template, and a server that adds a
template or a token is refused.

| template | before | user | between | end |
| --- | --- | --- | --- | --- |
"""


def derived(folder: Path) -> dict[str, tuple[Texts, str] | str]:
    """By template: its texts and header of a user's turn, or why there are none."""
    found: dict[str, tuple[Texts, str] | str] = {}
    for path in sorted(folder.glob("*.jinja"), key=lambda path: path.name.lower()):
        try:
            found[path.stem] = derive_turns(path.read_text(), BEGIN, END)
        except InputError as error:
            found[path.stem] = str(error)
    return found


def document(turns: dict[str, tuple[Texts, str] | str]) -> str:
    """The page, in Markdown."""
    lines = []
    for name, turn in turns.items():
        if isinstance(turn, str):
            lines.append(f"| {name} | {_plain(turn)} | | |")
        else:
            texts, user = turn
            fields = (texts.before, user, texts.middle, ending_of(texts.middle)[1])
            lines.append(f"| {name} | {' | '.join(_code(text) for text in fields)} |")
    return _HEAD + "\n".join(lines) + "\n"


def _code(text: str) -> str:
    """A text as code in a cell of a table, its middle left out if it is long."""
    if len(text) > 150:
        text = f"{text[:60]} … {text[-60:]}"
    return "`` " + _plain(text.replace("\n", "\\n")) + " ``"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    templates = sdist() / "vendor" / "llama.cpp" / "models" / "templates"
    DOCUMENT.write_text(document(derived(templates)))
    print(DOCUMENT)
