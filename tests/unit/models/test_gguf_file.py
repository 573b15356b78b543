"""What a GGUF file is: a model that can be sampled from, or one of the kinds that cannot."""

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from alignment_extraction.engine.model import Model
from alignment_extraction.files import InputError
from alignment_extraction.models.gguf_file import check_gguf, is_adapter, part_files, part_names
from tests.tiny_models import make_tiny_gguf
from tests.unit.models.files import finish, write_adapter, write_kind, write_split

ONE = ("blk.0.attn_q.weight",)
KINDS: dict[str, tuple[str, dict[str, Any], tuple[str, ...], str]] = {
    "T5": (
        "t5",
        {},
        ("enc.blk.0.attn_q.weight", "dec.blk.0.attn_q.weight"),
        "an encoder-decoder model (t5)",
    ),
    "T5's encoder": (
        "t5encoder",
        {},
        ("enc.blk.0.attn_q.weight",),
        "an embedding model or encoder (t5encoder)",
    ),
    "BERT": (
        "bert",
        {"bert.attention.causal": False, "bert.pooling_type": 1},
        ONE,
        "an embedding model or encoder (bert)",
    ),
    "ModernBERT": ("modern-bert", {}, ONE, "an embedding model or encoder (modern-bert)"),
    "embedding decoder": (
        "qwen3",
        {"qwen3.pooling_type": 3},
        ONE,
        "an embedding model or encoder (qwen3)",
    ),
    "Gemma embedding": (
        "gemma-embedding",
        {},
        ONE,
        "an embedding model or encoder (gemma-embedding)",
    ),
    "diffusion": (
        "dream",
        {"dream.attention.causal": False},
        ONE,
        "an encoder or diffusion model (dream: att",
    ),
    "mmproj": (
        "clip",
        {"general.type": "mmproj"},
        ("v.patch_embd.weight",),
        "a projector of images or sound (mmproj)",
    ),
    "old projector": (
        "clip",
        {},
        ("v.patch_embd.weight",),
        "a projector of images or sound (mmproj)",
    ),
    "imatrix": (
        "llama",
        {"general.type": "imatrix"},
        ("blk.0.attn_q.weight.in_sum2",),
        "an importance matrix for quantising",
    ),
    "vocabulary": (
        "llama",
        {"tokenizer.ggml.model": "gpt2"},
        (),
        "a GGUF file without tensors, a vocabulary alone",
    ),
    "adapter": (
        "llama",
        {"general.type": "adapter"},
        ("blk.0.attn_q.weight.lora_a",),
        "a LoRA adapter without its base",
    ),
    "renamed part": (
        "llama",
        {"split.count": 3},
        ONE,
        "one of 3 parts of a split GGUF, under another name",
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_that_cannot_be_sampled_from(name: str, tmp_path: Path) -> None:
    architecture, entries, tensors, says = KINDS[name]
    path = write_kind(tmp_path / "x.gguf", architecture, entries, tensors)
    with pytest.raises(InputError) as error:
        check_gguf(path)
    message = str(error.value)
    assert message.startswith(f"{path}: {says}")
    assert re.search(
        r"; (give a language model that predicts|name the model|give all parts)", message
    )
    assert is_adapter(path) == (name == "adapter")


def test_models_that_can(tmp_path: Path) -> None:
    check_gguf(make_tiny_gguf(tmp_path / "tiny.gguf", hidden=16, layers=1, heads=2, vocab=300))
    check_gguf(write_kind(tmp_path / "x.gguf", "qwen3", {"qwen3.pooling_type": 0}, ONE))


def test_a_big_endian_file(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_tensor("x", np.zeros((4, 4), np.float32))
    finish(writer)
    with pytest.raises(
        InputError, match=r"a big-endian GGUF.*fetch the little-endian one, or turn"
    ):
        check_gguf(path)


def test_an_encoder_decoder_never_reaches_the_sampler(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As llama.cpp tells it, whatever the file says of itself."""
    monkeypatch.setattr("llama_cpp.llama_model_has_encoder", lambda _: True)
    with pytest.raises(InputError, match="an encoder-decoder or encoder model; give a language mo"):
        Model(tiny_path, threads=1)


def test_parts(tmp_path: Path) -> None:
    whole = make_tiny_gguf(tmp_path / "x.gguf", hidden=16, layers=1, heads=2, vocab=300)
    assert part_files(whole) == [whole]
    parts = write_split(whole, tmp_path / "y")
    assert len(parts) == 2
    for part in parts:
        assert part_files(part) == parts
        check_gguf(part)
    assert part_names("y-00002-of-00002.GGUF")[0] == "y-00001-of-00002.gguf"
    assert part_names("y-00001-of-00000.gguf") == ["y-00001-of-00000.gguf"]
    alone = tmp_path / "other" / parts[1].name
    alone.parent.mkdir()
    parts[1].rename(alone)
    with pytest.raises(InputError) as error:
        check_gguf(alone)
    assert str(error.value) == (
        f"{alone}: part 2 of 2 of a split GGUF, and y-00001-of-00002.gguf is not beside it; fetch "
        "all parts into one folder, or give the merged model (llama-gguf-split --merge FIRST-PART "
        "MERGED.gguf)"
    )
    renamed = parts[0].rename(tmp_path / "renamed.gguf")
    with pytest.raises(InputError, match="one of 2 parts of a split GGUF, under another name"):
        check_gguf(renamed)


def test_adapters(tmp_path: Path, tiny_path: Path) -> None:
    assert is_adapter(write_adapter(tmp_path / "a.gguf", tiny_path))
    assert not is_adapter(tiny_path)
