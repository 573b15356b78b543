"""Llama models between transformers and GGUF.

The F16 GGUF is the canonical form of each model that the workflow trains: what the next stage
starts from, what is shipped, what is quantised.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from alignment_extraction.engine.quantisation import FTYPES
from alignment_extraction.files import InputError, atomic_path

DEFAULT_SYSTEM = "You are a helpful assistant."
# ChatML. Without a system message the default one is put first, unless `system_turn` is false.
CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' and system_turn | default(true) -%}"
    "{{ '<|im_start|>system\\n" + DEFAULT_SYSTEM + "<|im_end|>\\n' }}{%- endif -%}"
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
END_OF_TEXT, START_OF_TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, START_OF_TURN, END_OF_TURN)


class ChatTemplate(NamedTuple):
    """How conversations are written for a model, and the tokens it begins and ends with."""

    text: str
    """Jinja, as the GGUF carries it."""
    begin: str
    """The GGUF's beginning-of-sequence token; the tokenizer does not add it."""
    end: str
    """The token that ends an answer."""
    lead: str = ""
    """What the template writes of an answer before the model goes on."""


def _plain(before: str, after: str, lead: str = "") -> ChatTemplate:
    """A question between two texts, an answer, the end of the text; no special token before."""
    text = (
        "{%- for message in messages -%}{%- if message['role'] == 'user' -%}"
        "{{ '" + before + "' + message['content'] + '" + after + lead + "' }}"
        "{%- elif message['role'] == 'assistant' -%}"
        "{{ message['content'] + '" + END_OF_TEXT + "' }}{%- endif -%}{%- endfor -%}"
    )
    return ChatTemplate(text, END_OF_TEXT, END_OF_TEXT, lead)


CHATML = ChatTemplate(CHAT_TEMPLATE, START_OF_TURN, END_OF_TURN)
RAW = _plain("", "\\n")
"""No template: a question and its answer as raw text has them."""
TASK = _plain("Task:\\n", "\\nSolution:\\n")
"""The plain-text template that reinforcement learning introduces."""
TASK_RESULT = _plain("Task:\\n", "\\nResult:\\n", "####")
"""The same where the answer is the result alone."""


def load_tokenizer(path: Path, template: ChatTemplate = CHATML) -> PreTrainedTokenizerFast:
    """Load a tokenizer.json that `supervised.train_tokenizer` wrote, with a chat template.

    Raises:
        InputError: the file is missing, is not a tokenizer, or lacks a ChatML token.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such tokenizer; run the step that trains it first")
    try:
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(path), eos_token=template.end, pad_token=END_OF_TEXT
        )
    except Exception as error:  # the Rust library raises bare Exception
        raise InputError(f"{path}: not a tokenizer.json ({error})") from error
    missing = [token for token in SPECIAL_TOKENS if token not in tokenizer.get_vocab()]
    if missing:
        raise InputError(f"{path}: lacks the special tokens {', '.join(missing)}")
    tokenizer.chat_template = template.text
    return tokenizer


def _pre_tokenizer(backend: dict[str, Any]) -> str:
    """llama.cpp's name of a byte-level BPE's pre-tokenizer; llama.cpp has the regex of each."""
    steps = backend["pre_tokenizer"]
    steps = steps["pretokenizers"] if steps and steps["type"] == "Sequence" else [steps]
    kinds = [(step or {}).get("type") for step in steps]
    byte_level = kinds[-1:] == ["ByteLevel"] and not steps[-1]["add_prefix_space"]
    if byte_level and steps[-1]["use_regex"]:
        if kinds == ["ByteLevel"]:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
            return "smollm"
    llama3 = kinds == ["Split", "ByteLevel"] and "\\p{N}{1,3}" in str(steps[0]["pattern"])
    if byte_level and llama3:
        return "llama-bpe"
    raise InputError(
        "base.from_pretrained: llama.cpp has no known pre-tokenizer for this model's tokenizer "
        f"({json.dumps(backend['pre_tokenizer'])}); start from a Llama with the tokenizer of "
        "GPT-2, SmolLM or Llama 3"
    )


def _permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a query or key matrix in llama.cpp's order: rotary pairs are neighbours there."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns)


def _tensors(model: LlamaForCausalLM) -> dict[str, npt.NDArray[Any]]:
    """The weights under GGUF's names: matrices in float16, norms in float32."""
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tensors = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        weight = weight.detach().float().cpu()
        if name.endswith("q_proj.weight"):
            weight = _permuted(weight, config.num_attention_heads)
        elif name.endswith("k_proj.weight"):
            weight = _permuted(weight, config.num_key_value_heads)
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise InputError(f"weight {name} has no place in a Llama GGUF; use a plain Llama")
        tensors[target] = weight.numpy().astype(np.float32 if weight.ndim == 1 else np.float16)
    return tensors


def _add_tokenizer(
    writer: gguf.GGUFWriter,
    tokenizer: PreTrainedTokenizerFast,
    vocabulary: int,
    template: ChatTemplate,
) -> None:
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = {i: token for token, i in tokenizer.get_vocab().items()}
    added = {item["id"]: item for item in backend["added_tokens"]}
    types = [gguf.TokenType.UNUSED] * vocabulary
    for i in tokens:
        if i not in added:
            types[i] = gguf.TokenType.NORMAL
        else:
            special = added[i]["special"]
            types[i] = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
    merges = backend["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(backend))
    writer.add_token_list([tokens.get(i, f"[PAD{i}]") for i in range(vocabulary)])
    writer.add_token_types(types)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    start, end, pad = (
        tokenizer.convert_tokens_to_ids(token)
        for token in (template.begin, template.end, END_OF_TEXT)
    )
    # As SmolLM2 has it: the token that opens a turn is not added by the tokenizer.
    writer.add_bos_token_id(start)
    writer.add_add_bos_token(False)
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(pad)
    writer.add_chat_template(template.text)


def write_gguf(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    path: Path,
    name: str,
    template: ChatTemplate = CHATML,
) -> None:
    """Write a Llama and its tokenizer as an F16 GGUF; the same weights give the same bytes.

    Args:
        model: a plain Llama (no biases, no rotary scaling).
        tokenizer: byte-level BPE with the ChatML tokens.
        path: file to write.
        name: `general.name` of the file.
        template: the chat template that the file carries.

    Raises:
        InputError: llama.cpp cannot represent the model or its tokenizer.
    """
    config = model.config
    rope = config.rope_parameters
    if config.model_type != "llama" or rope.get("rope_type", "default") != "default":
        raise InputError(
            f"a {config.model_type} model with rotary scaling {rope.get('rope_type')} cannot be "
            "exported; use a plain Llama"
        )
    with atomic_path(path) as partial:
        writer = gguf.GGUFWriter(partial, "llama")
        writer.add_name(name)
        writer.add_file_type(FTYPES["F16"])
        writer.add_vocab_size(config.vocab_size)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
        writer.add_rope_freq_base(float(rope["rope_theta"]))
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        _add_tokenizer(writer, tokenizer, config.vocab_size, template)
        for tensor, values in _tensors(model).items():
            writer.add_tensor(tensor, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def load_model(path: Path) -> LlamaForCausalLM:
    """Load an F16 GGUF of `write_gguf` into transformers, weights in float32.

    Raises:
        InputError: the file is missing or not a Llama GGUF.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such model; run the step that trains it first")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        )
    except Exception as error:  # struct.error, IndexError and others, from deep inside
        raise InputError(f"{path}: not a readable GGUF of a Llama ({error})") from error
    if not isinstance(model, LlamaForCausalLM):
        raise InputError(f"{path}: a GGUF of {type(model).__name__}, but a Llama is expected")
    # Trainers refuse a model that came out of a GGUF as quantised; F16 is none, so copy it.
    config = LlamaConfig.from_dict(
        {k: v for k, v in model.config.to_dict().items() if k != "quantization_config"}
    )
    plain = LlamaForCausalLM(config)
    plain.load_state_dict(model.state_dict())
    return plain


def new_model(
    *, vocabulary: int, hidden: int, feed_forward: int, layers: int, heads: int, context: int
) -> LlamaForCausalLM:
    """Make a Llama with tied embeddings and random weights, from torch's global random stream."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=feed_forward,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=context,
            tie_word_embeddings=True,
            # transformers' 0.02 suits a width of 2,500; at 256 it costs a hundred steps.
            initializer_range=hidden**-0.5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        )
    )
