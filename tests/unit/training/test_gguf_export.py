"""GGUF export: llama.cpp and transformers must be the same model and the same tokenizer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from alignment_extraction.engine.quantisation import quantise
from alignment_extraction.files import InputError
from alignment_extraction.settings.controlled import (
    ArchitectureSettings,
    ControlledSettings,
    TrainingSettings,
)
from alignment_extraction.training.controlled import build
from alignment_extraction.training.gguf_export import (
    CHATML,
    SPECIAL_TOKENS,
    load_model,
    load_tokenizer,
    new_model,
    write_gguf,
)
from alignment_extraction.training.supervised import train_tokenizer

VOCABULARY = 768


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export")
    corpus = build(ControlledSettings(), seed=1).filter(pl.int_range(pl.len()) % 3 == 0)
    training = TrainingSettings.model_validate({"architecture": {"vocabulary": VOCABULARY}})
    train_tokenizer(corpus, training, path / "tokenizer.json")
    torch.manual_seed(0)
    size = ArchitectureSettings(hidden=256, feed_forward=512, layers=2, heads=4, context=256)
    model = new_model(size, VOCABULARY)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:  # all ones otherwise, which would hide a mix-up
                weight.add_(0.2 * torch.randn_like(weight))
    write_gguf(model, load_tokenizer(path / "tokenizer.json"), path / "f16.gguf", "toy")
    return path


def open_llama(path: Path) -> llama_cpp.Llama:
    """Open a GGUF in llama.cpp, keys and values in float32 as transformers has them."""
    return llama_cpp.Llama(
        str(path),
        n_ctx=256,
        logits_all=True,
        verbose=False,
        n_threads=1,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
    )


@pytest.fixture(autouse=True, scope="module")
def no_amx() -> Iterator[None]:
    """Keep llama.cpp off its AMX kernels, which crash where a GCC built them (see `model`)."""
    defaults = llama_cpp.llama_model_default_params

    def plain() -> Any:
        parameters = defaults()
        parameters.use_extra_bufts = False
        return parameters

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama_cpp.llama_cpp, "llama_model_default_params", plain)
        yield


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return load_tokenizer(folder / "tokenizer.json")


@pytest.fixture(scope="module")
def transformers_model(folder: Path) -> LlamaForCausalLM:
    return load_model(folder / "f16.gguf").eval()


@pytest.fixture(scope="module")
def llama(folder: Path) -> Iterator[llama_cpp.Llama]:
    model = open_llama(folder / "f16.gguf")
    yield model
    model.close()


def prompts(n: int) -> list[str]:
    questions = build(ControlledSettings(), seed=2)["question"].sample(n, seed=0)
    return [f"<|im_start|>user\n{q[:40]}" for q in questions]


def test_the_logits_agree(
    llama: llama_cpp.Llama,
    transformers_model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    for text in prompts(5):
        ids = tokenizer(text)["input_ids"]
        llama.reset()
        llama.eval(ids)
        theirs = np.array(llama.scores[: len(ids)])
        with torch.no_grad():
            ours = transformers_model(torch.tensor([ids])).logits[0].numpy()
        assert np.abs(ours).max() > 1
        np.testing.assert_allclose(theirs, ours, atol=1e-2, rtol=0)


def test_greedy_continuations_are_identical_on_50_prompts(
    llama: llama_cpp.Llama,
    transformers_model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    for text in prompts(50):
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            expected = transformers_model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=12,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )[0, len(ids) :].tolist()
        llama.reset()
        llama.eval(ids)
        for token in expected:
            logits = llama.scores[llama.n_tokens - 1]
            # Of two tokens that are nearer to each other than the logits agree, rounding chooses.
            assert logits.max() - logits[token] < 1e-2
            llama.eval([token])


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet=" \n\t'0123456789½²٣abcXYZéß中文🙂,.!?$-", max_size=60),
        st.lists(
            st.sampled_from([*SPECIAL_TOKENS, "user", "\n", " the", "12345", "'s", "  ", "don't"])
        ).map("".join),
    )
)
def test_the_tokenisation_is_identical(
    llama: llama_cpp.Llama, tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    text = text.replace("\x00", "")
    expected = tokenizer(text)["input_ids"]
    assert llama.tokenize(text.encode(), add_bos=False, special=True) == expected


def test_the_special_tokens_and_the_template_are_in_the_file(
    llama: llama_cpp.Llama, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert llama.metadata["tokenizer.chat_template"] == CHATML.text
    assert llama.token_eos() == tokenizer.eos_token_id
    vocabulary = llama_cpp.llama_model_get_vocab(llama.model)
    for token in SPECIAL_TOKENS:
        i = tokenizer.convert_tokens_to_ids(token)
        assert llama_cpp.llama_vocab_is_control(vocabulary, i)
    assert llama_cpp.llama_vocab_is_eog(vocabulary, tokenizer.eos_token_id)
    assert not llama_cpp.llama_vocab_get_add_bos(vocabulary)


def test_a_round_trip_gives_the_same_bytes(
    folder: Path, transformers_model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    write_gguf(transformers_model, tokenizer, folder / "again.gguf", "toy")
    assert (folder / "again.gguf").read_bytes() == (folder / "f16.gguf").read_bytes()


def test_grouped_key_heads_and_untied_embeddings_are_exported(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    size = ArchitectureSettings(hidden=64, feed_forward=64, layers=1, heads=4, context=64)
    config = new_model(size, VOCABULARY).config
    config.num_key_value_heads = 2
    config.tie_word_embeddings = False
    model = LlamaForCausalLM(config).eval()
    write_gguf(model, tokenizer, folder / "grouped.gguf", "grouped")
    llama = open_llama(folder / "grouped.gguf")
    ids = tokenizer(prompts(1)[0])["input_ids"][:32]
    llama.eval(ids)
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(llama.scores[: len(ids)], expected, atol=1e-2, rtol=0)
    llama.close()


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M"])
def test_quantised_models_are_smaller_and_still_answer_alike(
    folder: Path,
    transformers_model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    kind: str,
) -> None:
    path = folder / f"{kind}.gguf"
    quantise(folder / "f16.gguf", path, kind, threads=1)
    assert path.stat().st_size < (folder / "f16.gguf").stat().st_size
    llama = open_llama(path)
    ids = tokenizer(prompts(1)[0])["input_ids"]
    llama.eval(ids)
    with torch.no_grad():
        expected = transformers_model(torch.tensor([ids])).logits[0].numpy()
    correlation = np.corrcoef(np.array(llama.scores[: len(ids)]).ravel(), expected.ravel())[0, 1]
    assert correlation > (0.999 if kind == "Q8_0" else 0.9)
    llama.close()


@pytest.mark.parametrize(("kind", "expected"), [("Q8_0", {"Q8_0"}), ("Q4_K_M", {"Q4_K", "Q6_K"})])
def test_every_matrix_is_quantised_as_asked(folder: Path, kind: str, expected: set[str]) -> None:
    path = folder / f"types-{kind}.gguf"
    quantise(folder / "f16.gguf", path, kind, threads=1)
    tensors = gguf.GGUFReader(path).tensors
    assert {t.tensor_type.name for t in tensors if len(t.shape) > 1} == expected
    assert {t.tensor_type.name for t in tensors if len(t.shape) == 1} == {"F32"}


def test_unusable_files_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    for path in (tmp_path / "none.gguf", broken):
        with pytest.raises(InputError, match=f"{path.name}: no GGUF of a Llama"):
            load_model(path)
    with pytest.raises(InputError, match="Q9"):
        quantise(folder / "f16.gguf", tmp_path / "out.gguf", "Q9")
    with pytest.raises(InputError, match=r"none\.gguf"):
        quantise(tmp_path / "none.gguf", tmp_path / "out.gguf", "Q8_0")
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(InputError, match=r"text\.gguf"):
        quantise(tmp_path / "text.gguf", tmp_path / "out.gguf", "Q8_0")
    assert not (tmp_path / "out.gguf").exists()
