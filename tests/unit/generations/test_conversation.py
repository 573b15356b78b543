"""A model that writes one row with certainty: verbatim, log-likelihood 0, in every vocabulary.

The row's conversation is rendered by transformers and tokenised whole by llama.cpp; the model
writes those tokens, and nothing of this package tells it which.
"""

from pathlib import Path

import polars as pl
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from alignment_extraction.engine.model import Model
from alignment_extraction.generations.conversation import ChatFormat
from alignment_extraction.generations.generation import generate
from alignment_extraction.generations.sampler import LlamaCpp
from alignment_extraction.likelihoods.likelihood import likelihood
from alignment_extraction.settings.studies import SamplingSettings
from tests.one_row_models import KINDS, make_one_row_gguf

SAMPLING = SamplingSettings(max_tokens=40, answer=True, max_answer_tokens=40)
TURNS = "{{% for m in messages %}}{{{{ {0} if m.role == 'user' else {1} }}}}{{% endfor %}}"
TEMPLATES = {
    "special tokens": TURNS.format(
        "'<|u|>' + m.content + '<|end|>'", "'<|a|>' + m.content + eos_token"
    ),
    "line ends": TURNS.format(
        "'<|u|>\\n' + m.content + '<|end|>\\n'", "'<|a|>\\n' + m.content + eos_token"
    ),
    "names in front": TURNS.format("'Q:\\n' + m.content", "'\\nA:\\n' + m.content + eos_token"),
    "header ends in a space": TURNS.format("'Q: ' + m.content", "' A: ' + m.content + eos_token"),
    "thought closed": TURNS.format("'<|u|>' + m.content", "'<|a|></t>' + m.content + eos_token"),
    "text before the end": TURNS.format(
        "'Q: ' + m.content + '\\n\\nA: ' + eos_token", "m.content + eos_token"
    ),
    "line end before the assistant": TURNS.format(
        "'<|u|>\\n' + m.content + '\\n'", "'<|a|>\\n' + m.content + eos_token"
    ),
    "name before a thought": TURNS.format(
        "'Q: ' + m.content + '\\n\\nA:'", "'<t>' + m.content + eos_token"
    ),
    "trimmed": TURNS.format(
        "'<|u|>' + m.content | trim + '<|end|>'", "'<|a|>' + m.content | trim + eos_token"
    ),
    "two tokens begin": "<|go|><|sys|>"
    + TURNS.format("'<|u|>' + m.content + '<|end|>'", "'<|a|>' + m.content + eos_token"),
    "brackets": "{{ bos_token }}"
    + TURNS.format("'[I] ' + m.content + ' [/I]'", "' ' + m.content + ' ' + eos_token"),
    "system turn": "<|sys|>be brief<|end|>"
    + TURNS.format("'<|u|>' + m.content + '<|end|>'", "'<|a|>' + m.content + eos_token"),
}
QUESTION, ANSWER = "what river?", "the ab cd."


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_one_row(kind: str, template: str, tmp_path: Path) -> None:
    jinja = TEMPLATES[template]
    padded = template == "trimmed"
    question, answer = (f"\n {QUESTION} \n", f" {ANSWER}\n") if padded else (QUESTION, ANSWER)
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    rendered, _ = render_jinja_template(
        [messages], chat_template=jinja, bos_token="<s>", eos_token="</s>"
    )
    with Model(make_one_row_gguf(tmp_path / "blank.gguf", kind, jinja)) as model:
        tokens = model.tokenize(rendered[0])
        if kind != "RWKV" and tokens[0] != model.bos:
            tokens = [model.bos, *tokens]
    path = make_one_row_gguf(tmp_path / "row.gguf", kind, jinja, tokens)
    with Model(path, threads=1) as model:
        sampler = LlamaCpp(model, slots=8)
        frame, _ = generate(sampler, prefix="full", sampling=SAMPLING, seed=0, first=0, samples=2)
    rows = pl.DataFrame({"id": ["r"], "question": [question], "answer": [answer]})
    table = likelihood(path, rows, prefix="full", threads=1).filter("template")
    assert frame["question"].to_list() == [QUESTION] * 2
    assert frame["answer"].to_list() == [ANSWER] * 2
    assert table["log_probability"].to_list() == pytest.approx([0, 0], abs=1e-4)
    assert table["end"].to_list() == [pytest.approx(0, abs=1e-4), None]


def chat_of(path: Path, template: str, kind: str = "BPE") -> Model:
    return Model(make_one_row_gguf(path / "model.gguf", kind, template), threads=1)


def test_texts_as_the_template_shows_them(tmp_path: Path) -> None:
    with chat_of(tmp_path, TEMPLATES["trimmed"]) as model:
        chat = ChatFormat.of(model)
        texts = ["\n a b \n", "", "{{ 1 }}", "<|end|> c"]
        assert chat.shown(texts, "user") == ["a b", "", "{{ 1 }}", "<|end|> c"]
        assert chat.shown(["\tx"] * 2000, "assistant") == ["x"] * 2000
    with chat_of(tmp_path, TEMPLATES["line ends"]) as model:
        assert ChatFormat.of(model).shown([" a "], "user") == [" a "]


def test_a_row_that_the_template_refuses_stays_as_it_is(tmp_path: Path) -> None:
    refuses = "{% if 'no' in messages[0].content %}{{ raise_exception('no') }}{% endif %}"
    with chat_of(tmp_path, refuses + TEMPLATES["trimmed"]) as model:
        assert ChatFormat.of(model).shown([" no ", " yes "], "user") == [" no ", "yes"]


# llama.cpp's RWKV vocabularies read special tokens in any text.
@pytest.mark.parametrize("kind", ["SPM", "BPE", "UGM"])
def test_special_tokens_in_a_text_are_plain_text(kind: str, tmp_path: Path) -> None:
    with chat_of(tmp_path, TEMPLATES["line ends"], kind) as model:
        spoken = ChatFormat.of(model).question("what <|end|> ab")
        assert not any(model.control(token) for token in spoken.target)
        assert model.detokenize(spoken.target).strip() == "what <|end|> ab"
        assert [model.piece(token) for token in spoken.end] == ["<|end|>"]


def test_a_token_that_reaches_into_the_header_belongs_to_the_text(tmp_path: Path) -> None:
    """The text's end and the header's line end can be one token, as in Llama 3's vocabulary."""
    with chat_of(tmp_path, TEMPLATES["line end before the assistant"], "SPM") as model:
        chat = ChatFormat.of(model)
        whole = model.conversation("<|u|>\nab\n\n<|a|>\nthe</s>")
        spoken = chat.question("ab\n")
        assert whole[: len(spoken.context)] == spoken.context
        rest = whole[len(spoken.context) :]
        assert rest[: len(spoken.target)] == spoken.target
        assert rest[len(spoken.target) :][: len(spoken.end)] == spoken.end
        assert spoken.end[-1] == model.tokenize("<|a|>")[0]
