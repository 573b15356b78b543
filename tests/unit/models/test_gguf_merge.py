"""Models made whole: against the file that was split, and against llama.cpp's own adapters."""

import ctypes
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest

from alignment_extraction.engine.model import Model
from alignment_extraction.files import InputError
from alignment_extraction.models.gguf_merge import merge_adapter, merge_parts
from tests.tiny_models import make_tiny_gguf, quantize
from tests.unit.models.files import ALPHA, RANK, write_adapter, write_kind, write_split

TEXT = "What is the sum of 3 and 4?"


def logits(path: Path, adapter: Path | None = None) -> np.ndarray:
    """The next-token logits after TEXT; with llama.cpp's own adapter where one is given."""
    with Model(path, threads=1) as model:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = 64
        params.n_threads = params.n_threads_batch = 1
        context = llama_cpp.llama_init_from_model(model.handle, params)
        if adapter:
            lora = llama_cpp.llama_adapter_lora_init(model.handle, str(adapter).encode())
            assert lora
            array = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(lora)
            scale = (ctypes.c_float * 1)(1.0)
            assert llama_cpp.llama_set_adapters_lora(context, array, 1, scale) == 0
        tokens = model.tokenize(TEXT)
        given = (llama_cpp.llama_token * len(tokens))(*tokens)
        batch = llama_cpp.llama_batch_get_one(given, len(tokens))
        assert llama_cpp.llama_decode(context, batch) == 0
        found = np.ctypeslib.as_array(
            llama_cpp.llama_get_logits_ith(context, -1), (model.n_vocab,)
        ).copy()
        llama_cpp.llama_free(context)
        return found


def test_parts_make_the_model_that_was_split(tiny_path: Path, tmp_path: Path) -> None:
    parts = write_split(tiny_path, tmp_path / "part", tensors=5)
    assert len(parts) > 3
    merge_parts(parts, tmp_path / "whole.gguf")
    whole, was = gguf.GGUFReader(tmp_path / "whole.gguf"), gguf.GGUFReader(tiny_path)
    assert {t.name for t in whole.tensors} == {t.name for t in was.tensors}
    named = {t.name: t for t in was.tensors}
    for tensor in whole.tensors:
        assert np.array_equal(tensor.data, named[tensor.name].data)
    assert {n: f.contents() for n, f in whole.fields.items() if not n.startswith("GGUF.")} == {
        n: f.contents() for n, f in was.fields.items() if not n.startswith("GGUF.")
    }
    assert np.array_equal(logits(tmp_path / "whole.gguf"), logits(tiny_path))


@pytest.mark.parametrize("kind", ["F32", "F16", "MOSTLY_Q8_0"])
def test_an_adapter_does_what_llama_cpp_does_with_it(tmp_path: Path, kind: str) -> None:
    base = make_tiny_gguf(tmp_path / "base.gguf", seed=3, half=kind == "F16")
    if kind == "MOSTLY_Q8_0":
        base = quantize(base, tmp_path / "q8.gguf")
    lora = write_adapter(tmp_path / "lora.gguf", base)
    merge_adapter(base, lora, tmp_path / "merged.gguf")
    merged, own = logits(tmp_path / "merged.gguf"), logits(base, lora)
    changed = np.abs(own - logits(base)).max()
    assert changed > 0.5
    # A quantised product rounds its other factor too; floats differ in their last bits.
    assert np.abs(merged - own).max() < {"F32": 1e-3, "F16": 1e-2}.get(kind, 0.1) * changed


def test_the_matrices_are_the_formula(tmp_path: Path) -> None:
    base = make_tiny_gguf(tmp_path / "base.gguf", seed=3)
    lora = write_adapter(tmp_path / "lora.gguf", base, ("token_embd", "attn_q"))
    # llama.cpp looks an embedding up by row and so keeps its A transposed.
    merge_adapter(base, lora, tmp_path / "merged.gguf")
    was, now, pair = (
        {t.name: np.array(t.data) for t in gguf.GGUFReader(path).tensors}
        for path in (base, tmp_path / "merged.gguf", lora)
    )
    for name, weights in was.items():
        change = np.zeros_like(weights)
        if f"{name}.lora_a" in pair:
            change = ALPHA / RANK * pair[f"{name}.lora_b"] @ pair[f"{name}.lora_a"]
            assert np.abs(change).max() > 0.1
        assert np.allclose(now[name], weights + change, atol=1e-6)


def test_an_embedding_that_is_transposed(tmp_path: Path) -> None:
    base = make_tiny_gguf(tmp_path / "base.gguf", seed=3)
    rng = np.random.default_rng(0)
    rows, columns = 512, 64
    a, b = (rng.standard_normal((size, RANK)).astype(np.float32) for size in (rows, columns))
    writer = gguf.GGUFWriter(tmp_path / "lora.gguf", "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    writer.add_tensor("token_embd.weight.lora_a", a)
    writer.add_tensor("token_embd.weight.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    merge_adapter(base, tmp_path / "lora.gguf", tmp_path / "merged.gguf")
    merged, own = logits(tmp_path / "merged.gguf"), logits(base, tmp_path / "lora.gguf")
    assert np.abs(own - logits(base)).max() > 0.5
    assert np.abs(merged - own).max() < 1e-3 * np.abs(own).max()


def test_adapters_that_do_not_fit(tmp_path: Path) -> None:
    base = make_tiny_gguf(tmp_path / "base.gguf", seed=3)
    deeper = make_tiny_gguf(tmp_path / "deeper.gguf", seed=3, layers=3)
    wider = make_tiny_gguf(tmp_path / "wider.gguf", seed=3, hidden=32)
    output = tmp_path / "merged.gguf"
    for other, says in ((deeper, "an adapter of another model"), (wider, "has another shape than")):
        lora = write_adapter(tmp_path / "lora.gguf", other)
        with pytest.raises(InputError, match=rf"lora.gguf: .*{says}.*name the model that it was"):
            merge_adapter(base, lora, output)
    with pytest.raises(InputError, match=r"base\.gguf: no LoRA adapter in GGUF"):
        merge_adapter(base, base, output)
    about = {"general.type": "adapter", "adapter.type": "lora"}
    half = write_kind(tmp_path / "half.gguf", "llama", about, ("blk.0.attn_q.weight.lora_a",))
    with pytest.raises(InputError, match=r"half of the pair for blk.0.attn_q.weight is missing"):
        merge_adapter(base, half, output)
    assert not output.exists()
