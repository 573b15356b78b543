"""Turns of real chat templates, of llama.cpp's source tree, and of ones that were cut wrongly."""

import subprocess
import sys
from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from alignment_extraction.generations.endpoint import ending_of
from alignment_extraction.generations.turns import shared_end
from benchmarks.words import Words, derive_turns

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "benchmarks"))
BEGIN, END = "<BOS>", "<EOS>"
BAR = "\uff5c"
TALK = [
    {"role": "user", "content": "sentinelOne"},
    {"role": "assistant", "content": "sentinelTwo"},
    {"role": "user", "content": "sentinelThree"},
]


@pytest.fixture(scope="module")
def templates() -> dict[str, str]:
    """llama.cpp's chat templates by name."""
    import peers

    try:
        folder = peers.sdist() / "vendor" / "llama.cpp" / "models" / "templates"
    except (subprocess.CalledProcessError, OSError) as error:
        pytest.skip(f"llama-cpp-python's source distribution cannot be fetched: {error}")
    found = {path.stem: path.read_text() for path in sorted(folder.glob("*.jinja"))}
    assert len(found) > 50
    return found


def rendered(template: str, messages: list[dict[str, str]]) -> str | None:
    """By transformers; None if it refuses."""
    for tools in (None, []):
        try:
            texts, _ = render_jinja_template(
                [messages], tools, chat_template=template, bos_token=BEGIN, eos_token=END
            )
        except Exception:  # whatever a template raises
            continue
        return str(texts[0])
    return None


def test_every_template_of_llama_cpp(templates: dict[str, str]) -> None:
    words = Words(BEGIN, END)
    refused = []
    for name, template in templates.items():
        talk = rendered(template, TALK)
        if rendered(template, TALK[:2]) is None:
            refused.append(name)
            continue
        texts, header = derive_turns(template, BEGIN, END)
        user, full = words.conversation(header), words.conversation(texts.before)
        header = shared_end([user, full])
        front = user[: len(user) - len(header)]
        assert header, name
        # A tail of `full` that begins at a token, behind what begins every text.
        assert full[len(full) - len(header) :] == header, name
        assert full[: len(front)] == front, name
        assert all(words.special(token) for token in front), name
        assert ending_of(texts.middle)[1], name
        if talk is None or any(talk.count(m["content"]) != 1 for m in TALK):
            continue
        # The second turn has no such beginning of a text.
        plain = [i for i, token in enumerate(header) if not words.special(token)]
        starts = range(1 + min([len(header) - 1, *plain]))
        tails = ["".join(header[start:]) for start in starts]
        first, second = (talk.partition(message["content"])[0] for message in TALK[::2])
        assert first.endswith(tails[0]) or "strftime_now" in template, name
        assert any(second.endswith(tail) for tail in tails), name
    assert refused == ["fireworks-ai-llama-3-firefunction-v2"]  # asks for names of its own


def test_known_headers_of_llama_cpps_templates(templates: dict[str, str]) -> None:
    known = {
        "microsoft-Phi-3.5-mini-instruct": ("<|user|>\n", "<|end|>"),
        "GLM-4.6": ("[gMASK]<sop><|user|>\n", "<|assistant|>"),
        "deepseek-ai-DeepSeek-V3.1": (f"<BOS><{BAR}User{BAR}>", f"<{BAR}Assistant{BAR}>"),
        "meta-llama-Llama-3.1-8B-Instruct": (
            "<BOS><|start_header_id|>user<|end_header_id|>\n\n",
            "<|eot_id|>",
        ),
        "CohereForAI-c4ai-command-r7b-12-2024-tool_use": (
            "<BOS><|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
            "<|END_OF_TURN_TOKEN|>",
        ),
        "openai-gpt-oss-120b": ("<|start|>user<|message|>", "<|end|>"),
        "google-gemma-2-2b-it": ("<BOS><start_of_turn>user\n", "<end_of_turn>"),
        "mistralai-Mistral-Nemo-Instruct-2407": ("<BOS>[INST]", "[/INST]"),
        "Qwen-Qwen2.5-7B-Instruct": ("<|im_start|>user\n", "<|im_end|>"),
        "llama-cpp-rwkv-world": ("<BOS>User: ", "Assistant:"),
        "MiniMax-M2": ("]~!b[]~b]user\n", "[e~["),
    }
    found = {name: derive_turns(templates[name], BEGIN, END) for name in known}
    ends = {name: (user, ending_of(texts.middle)[1]) for name, (texts, user) in found.items()}
    assert ends == known


HEAD = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content "
SYSTEM = "{% if messages[0].role != 'system' %}<|system|>\nbe brief<|close|>\n{% endif %}"


@pytest.mark.parametrize("system", ["", SYSTEM])
@pytest.mark.parametrize(
    "template",
    [
        HEAD + "+ ('<|close|>\n' if not loop.last else eos_token) }}{% endfor %}",
        HEAD + "+ '<|close|>\n' }}{% endfor %}{% if not add_generation_prompt %}{{ eos_token }}"
        "{% endif %}",
        HEAD + "+ '<|close|>' }}{% endfor %}{{ '<|assistant|>\n' }}",
        HEAD + "+ '\n<|close|>\n' }}{% endfor %}",
        HEAD + "+ ('<|close|>' if m.role == 'user' else eos_token) }}{% endfor %}",
    ],
)
def test_user_is_the_whole_header(template: str, system: str) -> None:
    texts, user = derive_turns(system + template, "", "<|end|>")
    assert user == "<|user|>\n"
    assert ending_of(texts.middle)[1] == "<|close|>"


def test_all_that_begins_every_text_stays() -> None:
    body = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
    assert derive_turns("[START]<go>" + body, "[START]")[1] == "[START]<go><|user|>"
    system = "{% if messages[0].role != 'system' %}<|system|>be brief{% endif %}"
    texts, user = derive_turns("[START]<go>" + system + body, "[START]")
    assert texts.before == "[START]<go><|system|>be brief<|user|>"
    assert user == "[START]<go><|user|>"


def test_a_first_turn_of_its_own_kind() -> None:
    """As Llama 2 writes its system turn, inside the first user's."""
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ '<s>[INST] ' }}"
        "{% if loop.first %}<<SYS>>be brief<</SYS>>{% endif %}{{ m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + ' </s>' }}{% endif %}{% endfor %}"
    )
    texts, user = derive_turns(template, "<s>", "</s>")
    assert texts.before == "<s>[INST] <<SYS>>be brief<</SYS>>"
    assert user == "<s>[INST] "


def test_one_exchange_alone() -> None:
    """Templates that refuse a second question, or an answer, have a prefix all the same."""
    once = "{% if messages | length > 2 %}{{ raise_exception('once') }}{% endif %}"
    body = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
    assert derive_turns(once + body)[1] == "<|user|>"
    asks = (
        "{% if messages | length > 1 %}{{ raise_exception('once') }}{% endif %}"
        "<|q|>{{ messages[0].content }}{% if add_generation_prompt %}<|a|>{% endif %}"
    )
    texts, user = derive_turns(asks)
    assert (texts.before, user, texts.middle) == ("<|q|>", "<|q|>", "<|a|>")


def test_messages_in_parts() -> None:
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content[0].text }}{% endfor %}"
    assert derive_turns(template)[1] == "<|user|>"
