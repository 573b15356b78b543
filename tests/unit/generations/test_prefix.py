"""Prefixes derived from chat templates of many kinds."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_extraction.engine.model import Model
from alignment_extraction.files import InputError
from alignment_extraction.generations.conversation import ChatFormat
from alignment_extraction.generations.prefix import FORMS, prefix_tokens, shown_prefix
from alignment_extraction.settings.studies import LiteralPrefix
from benchmarks.words import derive_turns
from tests.tiny_models import CHATML, make_tiny_gguf

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n" + SYSTEM + "<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OLMO2 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}"
    "{{ '<|user|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}"
    "{% if not loop.last %}{{ '<|assistant|>\n' + message['content'] + eos_token + '\n' }}"
    "{% else %}{{ '<|assistant|>\n' + message['content'] + eos_token }}{% endif %}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
    "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
    "{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
USER, ASSISTANT = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
# The last assistant turn is left open, for training on prefilled answers.
OPEN_ENDED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% if not (loop.last and m.role == 'assistant') %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "bos", "eos", "turns"),
    [
        (
            CHATML,
            "<|im_start|>",
            "<|im_end|>",
            ("<|im_start|>user\n", "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
        ),
        (
            SMOLLM2,
            "<|im_start|>",
            "<|im_end|>",
            (
                f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n",
                "<|im_start|>user\n",
                "<|im_end|>\n<|im_start|>assistant\n",
            ),
        ),
        (
            OLMO2,
            "<|endoftext|>",
            "<|endoftext|>",
            ("<|endoftext|><|user|>\n", "<|endoftext|><|user|>\n", "\n<|assistant|>\n"),
        ),
        (
            LLAMA3,
            "<|begin_of_text|>",
            "<|eot_id|>",
            (
                "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
                "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
                "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
            ),
        ),
        (
            ZEPHYR,
            "<s>",
            "</s>",
            ("<|user|>\n", "<|user|>\n", "</s>\n<|assistant|>\n"),
        ),
        (MISTRAL, "<s>", "</s>", ("<s>[INST] ", "<s>[INST] ", " [/INST]")),
        (
            OPEN_ENDED,
            "",
            "",
            ("<|im_start|>user\n", "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
        ),
    ],
    ids=["ChatML", "SmolLM2", "OLMo 2", "Llama 3", "Zephyr", "Mistral", "open-ended"],
)
def test_known_templates(template, bos, eos, turns) -> None:
    texts, user = derive_turns(template, bos, eos)
    assert (texts.before, user, texts.middle) == turns


texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r{}#%'\"\\"), max_size=12
)


@settings(max_examples=25, deadline=None)
@given(
    system=st.none() | texts,
    header=st.tuples(texts, texts).filter(lambda pair: pair[0] != pair[1]),
    end=texts.filter(lambda text: text.strip()),
)
def test_any_template_of_headers_and_ends(system, header, end) -> None:
    """header + content + end for every turn, with or without a default system turn."""
    user, assistant = (f"<{text}>" for text in header)
    system_turn = "" if system is None else f"<system>{system}{end}"
    template = (
        f"{system_turn}{{% for m in messages %}}{{% if m.role == 'user' %}}{user}{{% else %}}"
        f"{assistant}{{% endif %}}{{{{ m.content }}}}{end}{{% endfor %}}"
    )
    # Jinja's own white space rules (a line end after a tag goes) apply to what stands in a template
    # literally, so such texts are compared as Jinja shows them.
    texts, user_header = derive_turns(template)
    squeezed = (texts.before + user_header + texts.middle).replace("\n", "").split()
    expected = (system_turn + user + user + end + assistant).replace("\n", "").split()
    assert "".join(squeezed) == "".join(expected)
    assert texts.before.endswith(user_header.lstrip())


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[1].content }}", "does not show each user and assistant message once"),
        ("no messages at all", "does not show each"),
        ("{% for m in messages | reverse %}{{ m.content }}|{% endfor %}", "and in order"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "once"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "does not show"),
        ("{{ raise_exception('only tools') }}", r"cannot be rendered \(TemplateError: only tools"),
        ("{% for m in messages %}", "cannot be rendered .TemplateSyntaxError"),
        ("{{ cycler.__init__.__globals__ }}", "cannot be rendered"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "cannot be rendered .takes more than 5 s",
        ),
    ],
)
def test_templates_without_a_prefix(template, message) -> None:
    with pytest.raises(InputError, match=rf"chat template: .*{message}.*literal"):
        derive_turns(template)


def literal(model: Model, text: str) -> list[int]:
    return prefix_tokens(model, LiteralPrefix(name="mine", text=text))


def pieces(model: Model, form: str, text: str = "") -> str:
    tokens = literal(model, text) if text else prefix_tokens(model, form)
    return "".join(model.piece(token) for token in tokens)


def test_smollm2(smollm2: Model) -> None:
    assert pieces(smollm2, "full") == f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
    assert pieces(smollm2, "user") == "<|im_start|>user\n"
    assert pieces(smollm2, "bos") == "<|im_start|>"
    assert pieces(smollm2, "none") == "<|endoftext|>"
    assert ChatFormat.of(smollm2).texts.middle == "<|im_end|>\n<|im_start|>assistant\n"


def test_forms_of_a_model_without_a_system_turn(tiny: Model) -> None:
    assert pieces(tiny, "full") == pieces(tiny, "user") == "<|im_start|>user\n"
    assert pieces(tiny, "bos") == "<|im_start|>"
    assert pieces(tiny, "none") == "<|endoftext|>"


def test_literal_prefix(tiny: Model) -> None:
    tokens = literal(tiny, "<|im_start|>user\nWhat")
    assert tokens == tiny.tokenize("<|im_start|>user\nWhat")
    assert tokens[0] == tiny.bos


def test_bos_is_put_first_once_where_the_vocabulary_asks(tmp_path: Path) -> None:
    template = (
        "{{ bos_token }}{% for m in messages %}{{ m.role + m.content + eos_token }}{% endfor %}"
    )
    path = make_tiny_gguf(tmp_path / "bos.gguf", chat_template=template, add_bos=True)
    with Model(path) as model:
        assert model.add_bos
        assert pieces(model, "user") == "<|im_start|>user"
        assert pieces(model, "mine", "Hi") == "<|im_start|>Hi"
        assert pieces(model, "mine", "<|im_start|>Hi") == "<|im_start|>Hi"
        assert pieces(model, "none") == "<|im_start|>"


def test_no_chat_template(tmp_path: Path) -> None:
    path = make_tiny_gguf(tmp_path / "base.gguf", chat_template=None)
    with Model(path) as model:
        for form in ("full", "user", "bos"):
            with pytest.raises(InputError, match=r"base\.gguf: has no chat template.*literal"):
                prefix_tokens(model, form)
        assert pieces(model, "none") == "<|im_start|>"
        assert pieces(model, "mine", "Once") == "Once"


def test_broken_template_names_the_model(tmp_path: Path) -> None:
    with (
        Model(make_tiny_gguf(tmp_path / "broken.gguf", chat_template="{% for %}")) as model,
        pytest.raises(InputError, match=r"broken\.gguf: chat template: cannot be rendered"),
    ):
        prefix_tokens(model, "full")


def test_template_that_begins_with_plain_text(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    with Model(make_tiny_gguf(tmp_path / "plain.gguf", chat_template=template)) as model:
        assert pieces(model, "user") == "user:"  # the space is the next word's
        with pytest.raises(InputError, match=r"prefix 'bos': .* plain text 'user'"):
            prefix_tokens(model, "bos")


def test_empty_prefix(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}"
    with (
        Model(make_tiny_gguf(tmp_path / "bare.gguf", chat_template=template)) as model,
        pytest.raises(InputError, match=r"bare\.gguf: prefix 'full' is empty"),
    ):
        prefix_tokens(model, "full")


def test_no_token_between_documents(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}<|im_start|><|endoftext|>{{ m.content }}<|im_end|>{% endfor %}"
    )
    with (
        Model(make_tiny_gguf(tmp_path / "odd.gguf", chat_template=template)) as model,
        pytest.raises(InputError, match=r"prefix 'none': the vocabulary has no token"),
    ):
        prefix_tokens(model, "none")


def test_unknown_form(tiny: Model) -> None:
    with pytest.raises(InputError, match=f"prefix 'system': not one of {', '.join(FORMS)}"):
        prefix_tokens(tiny, "system")


PLAIN = (
    "{% for m in messages %}{{ ('Q: ' if m.role == 'user' else ' A: ') + m.content }}{% endfor %}"
)


def test_a_headers_last_space_is_the_words(tmp_path: Path) -> None:
    with Model(make_tiny_gguf(tmp_path / "plain.gguf", chat_template=PLAIN)) as model:
        chat = model.tokenize("Q: the answer is 4. A: yes")
        for prefix in (prefix_tokens(model, "user"), literal(model, "Q: ")):
            assert prefix == chat[:2]


def test_prefixes_of_a_template_that_cannot_be_rendered(tmp_path: Path) -> None:
    broken = "{% for m in messages %}<|im_start|>{{ m.content }}"
    with Model(make_tiny_gguf(tmp_path / "broken.gguf", chat_template=broken)) as model:
        assert pieces(model, "none") == "<|endoftext|>"
        assert pieces(model, "mine", "<|im_start|>user\n") == "<|im_start|>user\n"


def test_a_prefix_as_tokens(tiny: Model) -> None:
    lines = [line.split() for line in shown_prefix(tiny.path, "user").splitlines()]
    assert [int(token) for token, _ in lines] == prefix_tokens(tiny, "user")
    assert [piece for _, piece in lines] == ["'<|im_start|>'", "'user'", r"'\n'"]
