"""Tiny GGUFs that write one given sequence of tokens with certainty, in any kind of vocabulary.

The architecture is GPT-2's for its learned positions: the token that follows depends on the
position and on nothing else.
"""

import json
from pathlib import Path

import gguf
import numpy as np

from tests.tiny_models import tiny_tokenizer

WIDTH = 128  # positions that can be told apart
KINDS = ("SPM", "BPE", "UGM", "RWKV")
SPECIAL = ("<|sys|>", "<|u|>", "<|a|>", "<|end|>", "<|go|>", "<t>", "</t>")
_WORDS = ("the", "th", "ab", "cd", "er", "wha", "what", "river")
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:.,!?|<>/[]()_-"
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


def _spm(mark: str, *, byte_pieces: bool) -> list[tuple[str, float, int]]:
    """Pieces, scores and types of a vocabulary with SentencePiece's mark of a word's start."""
    pieces = [(f"<0x{i:02X}>", 0.0, _BYTE) for i in range(256 if byte_pieces else 0)]
    words = [mark + word for word in ("t", "w", "a", *_WORDS)] + list(_WORDS)
    letters = [mark, *_LETTERS, *(() if byte_pieces else "\n")]
    starts = {word[:n] for word in words for n in range(2, len(word) + 1)}
    # Longer pieces are likelier, so that words are whole.
    scored = [(piece, -20.0 / len(piece), _NORMAL) for piece in sorted(starts)]
    return [*pieces, *((letter, -25.0, _NORMAL) for letter in letters), *scored]


def _vocabulary(writer: gguf.GGUFWriter, kind: str) -> int:
    """Write a vocabulary; gives its size."""
    specials = [(name, 0.0, _CONTROL) for name in SPECIAL]
    begin = [("<unk>", 0.0, _UNKNOWN), ("<s>", 0.0, _CONTROL), ("</s>", 0.0, _CONTROL)]
    if kind == "BPE":
        model = json.loads(tiny_tokenizer(512).to_str())["model"]
        own = sorted(model["vocab"], key=model["vocab"].__getitem__)[3:]
        entries = [*begin, *((piece, 0.0, _NORMAL) for piece in own), *specials]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
        writer.add_token_merges(merges)
    elif kind == "RWKV":
        own = [f"\\x{i:02x}" for i in range(1, 256)] + [*_WORDS, *(f" {word}" for word in _WORDS)]
        entries = [*begin, *((piece, 0.0, _NORMAL) for piece in own), *specials]
        writer.add_tokenizer_model("rwkv")
    else:
        entries = [*begin, *_spm("▁", byte_pieces=kind == "SPM"), *specials]
        writer.add_tokenizer_model("llama" if kind == "SPM" else "t5")
        writer.add_add_space_prefix(True)
    if kind in ("SPM", "UGM"):
        writer.add_token_scores([score for _, score, _ in entries])
    if kind == "UGM":
        writer.add_remove_extra_whitespaces(False)
    writer.add_token_list([piece for piece, _, _ in entries])
    writer.add_token_types([form for _, _, form in entries])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(kind != "RWKV")
    return len(entries)


def make_one_row_gguf(
    path: Path, kind: str, template: str | None, sequence: list[int] | None = None
) -> Path:
    """Write a model of vocabulary `kind` that writes `sequence` from any place in it on.

    Args:
        path: the file.
        kind: one of `KINDS`.
        template: its chat template.
        sequence: token ids from position 0 on, fewer than `WIDTH`; None writes <s> for ever.
    """
    writer = gguf.GGUFWriter(str(path), "gpt2")
    writer.add_context_length(WIDTH)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(1)
    writer.add_layer_norm_eps(1e-5)
    size = _vocabulary(writer, kind)
    if template is not None:
        writer.add_chat_template(template)
    output = np.zeros((size, WIDTH), np.float32)
    following = (sequence or [])[1:]
    assert len(following) < WIDTH
    output[following, np.arange(len(following))] = 20
    output[2, len(following) :] = 20  # and then ends
    # A normalised position has sqrt(WIDTH - 1) in its own dimension and a little less than nothing
    # in every other one, which rows of sum 0 do not see.
    output -= output.mean(axis=1, keepdims=True)
    zero, one = np.zeros(WIDTH, np.float32), np.ones(WIDTH, np.float32)
    square = np.zeros((WIDTH, WIDTH), np.float32)
    tensors = {
        "token_embd.weight": np.zeros((size, WIDTH), np.float32),
        "position_embd.weight": np.eye(WIDTH, dtype=np.float32),
        "output.weight": output,
        "blk.0.attn_qkv.weight": np.zeros((3 * WIDTH, WIDTH), np.float32),
        "blk.0.attn_qkv.bias": np.zeros(3 * WIDTH, np.float32),
    }
    for norm in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        tensors |= {f"{norm}.weight": one, f"{norm}.bias": zero}
    for matrix in ("attn_output", "ffn_up", "ffn_down"):
        tensors |= {f"blk.0.{matrix}.weight": square, f"blk.0.{matrix}.bias": zero}
    for name, value in tensors.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
