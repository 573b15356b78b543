"""Llama models small enough to write out in a test, with a real tokenizer and chat template.

    path = make_tiny_gguf(tmp_path / "tiny.gguf", seed=1)
    with Model(path) as model: ...

The weights are random, the byte-level BPE vocabulary is trained on a few made-up sentences, and
the end-of-turn token has a set probability at every step, so that sampled turns end.
"""

import ctypes
import json
import random
from functools import lru_cache
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
END_OF_TEXT, START_OF_TURN, END_OF_TURN = 0, 1, 2

_SENTENCES = [
    "What is the sum of {a} and {b}?",
    "If I have {a} apples and give away {b}, how many are left?",
    "The answer is {a}.",
    "Write a short story about the number {a}.",
    "user",
    "assistant",
    "system",
]


@lru_cache(maxsize=8)
def tiny_tokenizer(vocab: int) -> Tokenizer:
    """A byte-level BPE tokenizer of exactly `vocab` tokens, the special ones first."""
    rng = random.Random(0)
    lines = [
        text.format(a=rng.randrange(1000), b=rng.randrange(1000))
        for text in _SENTENCES
        for _ in range(20)
    ]
    # Made-up words supply merges for any size of vocabulary.
    lines += [
        " ".join("".join(rng.choices("etaoinshrdlu", k=rng.randrange(2, 8))) for _ in range(20))
        for _ in range(vocab // 8)
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    assert tokenizer.get_vocab_size() == vocab, "too few merges for this vocabulary"
    return tokenizer


def tiny_weights(
    *,
    seed: int = 0,
    hidden: int = 64,
    layers: int = 2,
    ff: int | None = None,
    vocab: int = 512,
    end_probability: float = 0.05,
) -> dict[str, npt.NDArray[np.float32]]:
    """Random Llama weights under the names, and in the layout, of transformers' LlamaForCausalLM.

    Hidden dimension 0 is nearly the same for every token and position, which makes column 0 of the
    output matrix a bias per token: it sets the probability of `<|im_end|>` to about
    `end_probability` at every step and makes the other special tokens unlikely.
    """
    ff = ff or 3 * hidden
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float | None = None) -> npt.NDArray[np.float32]:
        scale = shape[-1] ** -0.5 if scale is None else scale
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    embedding = normal(vocab, hidden, scale=1.0)
    embedding[:, 0] = 8.0
    weights = {"model.embed_tokens.weight": embedding}
    for i in range(layers):
        layer = f"model.layers.{i}."
        for name in ("q", "k", "v", "o"):
            weights[f"{layer}self_attn.{name}_proj.weight"] = normal(hidden, hidden)
        weights[f"{layer}mlp.gate_proj.weight"] = normal(ff, hidden)
        weights[f"{layer}mlp.up_proj.weight"] = normal(ff, hidden)
        weights[f"{layer}mlp.down_proj.weight"] = normal(hidden, ff)
        weights[f"{layer}self_attn.o_proj.weight"][0] = 0
        weights[f"{layer}mlp.down_proj.weight"][0] = 0
        weights[f"{layer}input_layernorm.weight"] = np.ones(hidden, np.float32)
        weights[f"{layer}post_attention_layernorm.weight"] = np.ones(hidden, np.float32)
    weights["model.norm.weight"] = np.ones(hidden, np.float32)
    spread = 2.0  # standard deviation of the logits: a few likely tokens, a long tail
    output = normal(vocab, hidden, scale=spread * hidden**-0.5)
    # The normalised hidden state has mean square 1; this is its dimension 0.
    constant = 8.0 / np.sqrt((64 + (hidden - 1) * (1 + layers)) / hidden)
    output[:, 0] = 0
    output[: len(SPECIAL_TOKENS)] = 0
    output[: len(SPECIAL_TOKENS), 0] = -30 / constant
    others = np.log(vocab) + spread**2 / 2
    odds = end_probability / (1 - end_probability) if end_probability else 1e-12
    output[END_OF_TURN, 0] = (np.log(odds) + others) / constant
    weights["lm_head.weight"] = output
    return weights


def write_llama_gguf(
    path: Path,
    weights: dict[str, npt.NDArray[np.float32]],
    tokenizer: Tokenizer,
    *,
    heads: int,
    chat_template: str | None = CHATML,
    context: int = 512,
    half: bool = False,
    add_bos: bool = False,
    architecture: str = "llama",
    beginning: int = START_OF_TURN,
    end: int = END_OF_TURN,
) -> Path:
    """Write Llama weights in transformers' layout, and a byte-level BPE tokenizer, as GGUF.

    Args:
        path: the file to write.
        weights: float32 arrays by transformers' names.
        tokenizer: its vocabulary, merges and `SPECIAL_TOKENS` go into the file.
        heads: number of attention heads (no grouped queries).
        chat_template: Jinja text, or None for a base model without one.
        context: the context length that the file says the model was trained with.
        half: float16 matrices instead of float32.
        add_bos: whether the file asks for the beginning-of-sequence token before every text.
        architecture: what the file says it is; `olmo2` and `qwen2` get the norms and biases that
            Llama lacks, of no effect.
        beginning: the token that begins a sequence.
        end: the token that ends one.
    """
    vocab, hidden = weights["model.embed_tokens.weight"].shape
    layers = 1 + max(int(name.split(".")[2]) for name in weights if ".layers." in name)
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(weights["model.layers.0.mlp.up_proj.weight"].shape[0])
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocab)

    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [
            gguf.TokenType.CONTROL if token in SPECIAL_TOKENS else gguf.TokenType.NORMAL
            for token in tokens
        ]
    )
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    )
    writer.add_bos_token_id(beginning)
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(END_OF_TURN)
    writer.add_unk_token_id(END_OF_TEXT)
    writer.add_add_bos_token(add_bos)
    if chat_template is not None:
        writer.add_chat_template(chat_template)

    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    extra: dict[str, float] = {}
    if architecture == "olmo2":
        # It normalises what attention and the feed-forward layer give, and queries and keys.
        names |= {"input_layernorm": "attn_q_norm", "post_attention_layernorm": "attn_k_norm"}
        extra = {"post_attention_norm.weight": 1, "post_ffw_norm.weight": 1}
    elif architecture == "qwen2":
        extra = {f"attn_{part}.bias": 0 for part in "qkv"}
    for index in range(layers):
        for name, constant in extra.items():
            writer.add_tensor(f"blk.{index}.{name}", np.full(hidden, constant, np.float32))
    for name, value in weights.items():
        stem = name.removesuffix(".weight")
        if stem.startswith("model.layers."):
            index, part = stem.removeprefix("model.layers.").split(".", 1)
            target = f"blk.{index}.{names[part]}.weight"
            if part in ("self_attn.q_proj", "self_attn.k_proj"):
                # GGUF's Llama pairs neighbouring dimensions in its rotary embedding,
                # transformers pairs the two halves of a head.
                value = (
                    value.reshape(heads, 2, hidden // heads // 2, hidden)
                    .swapaxes(1, 2)
                    .reshape(hidden, hidden)
                )
        else:
            target = f"{names[stem]}.weight"
        small = half and value.ndim == 2
        writer.add_tensor(
            target, np.ascontiguousarray(value, dtype=np.float16 if small else np.float32)
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def make_tiny_gguf(
    path: Path,
    *,
    seed: int = 0,
    hidden: int = 64,
    layers: int = 2,
    chat_template: str | None = CHATML,
    heads: int = 4,
    ff: int | None = None,
    vocab: int = 512,
    context: int = 512,
    end_probability: float = 0.05,
    half: bool = False,
    add_bos: bool = False,
    architecture: str = "llama",
    beginning: int = START_OF_TURN,
    end: int = END_OF_TURN,
) -> Path:
    """Write a GGUF with random weights and a ChatML tokenizer to `path`; gives `path` back.

    Models that differ in nothing but `seed` share one vocabulary.
    """
    weights = tiny_weights(
        seed=seed,
        hidden=hidden,
        layers=layers,
        ff=ff,
        vocab=vocab,
        end_probability=end_probability,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_llama_gguf(
        path,
        weights,
        tiny_tokenizer(vocab),
        heads=heads,
        chat_template=chat_template,
        context=context,
        half=half,
        add_bos=add_bos,
        architecture=architecture,
        beginning=beginning,
        end=end,
    )


def quantize(source: Path, target: Path, *, file_type: str = "MOSTLY_Q8_0") -> Path:
    """Quantise a GGUF with llama.cpp itself, to any of its `LLAMA_FTYPE_*`."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_{file_type}")
    params.nthread = 2
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(params)
    )
    assert status == 0, f"llama_model_quantize gave {status}"
    return target
