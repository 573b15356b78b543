"""GGUF of a Llama: written from transformers, and read back.

The F16 GGUF is the canonical form of each model that the workflow trains: what the next stage
starts from, what is shipped, what is quantised.
"""

import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from alignment_extraction.engine.quantisation import FTYPES
from alignment_extraction.files import InputError, atomic_path
from alignment_extraction.settings.controlled import ArchitectureSettings

END_OF_TEXT = "<|endoftext|>"
SPECIAL_TOKENS = (END_OF_TEXT, "<|im_start|>", "<|im_end|>")


class ChatTemplate(NamedTuple):
    """How conversations are written for a model; see chat_templates.toml."""

    begin: str
    end: str
    text: str
    lead: str = ""


_FILE = resources.files(__package__).joinpath("chat_templates.toml")
CHATML, MARKED_CHATML, RAW, TASK, TASK_RESULT = (
    ChatTemplate(**values) for values in tomllib.loads(_FILE.read_text("utf-8")).values()
)
OF_FAMILY = {"sft": CHATML, "rl": TASK}
"""The template of models that conversations, or reinforcement, made."""


def load_tokenizer(path: Path, template: ChatTemplate = CHATML) -> PreTrainedTokenizerFast:
    """Load a tokenizer.json that `supervised.train_tokenizer` wrote, with a chat template."""
    return PreTrainedTokenizerFast(
        tokenizer_file=str(path),
        eos_token=template.end,
        pad_token=END_OF_TEXT,
        chat_template=template.text,
    )


def _tensors(model: LlamaForCausalLM) -> dict[str, npt.NDArray[Any]]:
    """The weights under GGUF's names: matrices in float16, norms in float32."""
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    tensors = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = weight.detach().float().cpu().numpy()
        if (kind := name.split(".")[-2]) in heads:
            # llama.cpp has the pairs of rotary embeddings as neighbours, transformers as halves.
            halves = values.reshape(heads[kind], 2, -1, values.shape[1])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        target = names.get_name(name, try_suffixes=(".weight",))
        tensors[target] = values.astype(np.float32 if values.ndim == 1 else np.float16)
    return tensors


def write_gguf(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    path: Path,
    name: str,
    template: ChatTemplate = CHATML,
) -> None:
    """Write a plain Llama and its tokenizer as an F16 GGUF; the same weights give the same bytes.

    `name` is the file's `general.name`, `template` the chat template that it carries.
    """
    config, vocabulary = model.config, tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    kinds = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.NORMAL}
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
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
        writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_tokenizer_model("gpt2")
        # llama.cpp's name of the pre-tokenizer that `supervised.train_tokenizer` gives.
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(tokens)
        writer.add_token_types([kinds[token in SPECIAL_TOKENS] for token in tokens])
        writer.add_token_merges([" ".join(pair) for pair in merges])
        # As SmolLM2 has it: the token that opens a turn is not added by the tokenizer.
        writer.add_bos_token_id(vocabulary[template.begin])
        writer.add_add_bos_token(False)
        writer.add_eos_token_id(vocabulary[template.end])
        writer.add_pad_token_id(vocabulary[END_OF_TEXT])
        writer.add_chat_template(template.text)
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
    try:
        model = LlamaForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        )
    except Exception as error:  # struct.error, IndexError and others, from deep inside
        raise InputError(f"{path}: no GGUF of a Llama ({error}); make it again") from error
    # Trainers refuse a model that came out of a GGUF as quantised; F16 is none, so copy it.
    config = model.config.to_dict()
    config.pop("quantization_config", None)
    plain = LlamaForCausalLM(LlamaConfig.from_dict(config))
    plain.load_state_dict(model.state_dict())
    return plain


def new_model(size: ArchitectureSettings, vocabulary: int) -> LlamaForCausalLM:
    """Make a Llama with tied embeddings and random weights, from torch's global random stream."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=size.hidden,
            intermediate_size=size.feed_forward,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.heads,
            max_position_embeddings=size.context,
            tie_word_embeddings=True,
            # transformers' 0.02 suits a width of 2,500; at 256 it costs a hundred steps.
            initializer_range=size.hidden**-0.5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        )
    )
