"""Scoring: against llama_cpp.Llama and transformers, in any grouping of the texts."""

import json
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.scoring import score
from alignment_extraction.files import InputError
from tests.tiny_models import make_tiny_gguf, tiny_tokenizer, tiny_weights, write_llama_gguf


def random_texts(rng: np.random.Generator, count: int, longest: int, vocab: int = 512):
    """Contexts of 1 to 8 tokens and targets of 0 to `longest`."""
    return [
        (
            rng.integers(3, vocab, rng.integers(1, 9)).tolist(),
            rng.integers(0, vocab, rng.integers(0, longest + 1)).tolist(),
        )
        for _ in range(count)
    ]


def distributions(llama: llama_cpp.Llama, context, target):
    """Log-softmax before each target token, float64 (target tokens, vocabulary)."""
    llama.reset()
    llama.eval([*context, *target])
    logits = llama.scores[len(context) - 1 : len(context) + len(target) - 1].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_agrees_with_llama_cpp(tiny: Model) -> None:
    texts = random_texts(np.random.default_rng(0), 40, 60)
    scores = score(tiny, texts, moments=True)
    assert scores.means is not None
    assert scores.deviations is not None
    llama = llama_cpp.Llama(str(tiny.path), n_ctx=512, n_threads=1, verbose=False, logits_all=True)
    for i, (context, target) in enumerate(texts):
        entries = slice(scores.offsets[i], scores.offsets[i + 1])
        assert entries.stop - entries.start == len(target)
        if not target:
            assert scores.sums()[i] == 0
            continue
        logs = distributions(llama, context, target)
        found = logs[np.arange(len(target)), target]
        np.testing.assert_allclose(scores.log_probabilities[entries], found, atol=1e-4)
        assert scores.sums()[i] == pytest.approx(found.sum(), abs=1e-3)
        means = (np.exp(logs) * logs).sum(axis=1)
        variances = (np.exp(logs) * (logs - means[:, None]) ** 2).sum(axis=1)
        np.testing.assert_allclose(scores.means[entries], means, atol=1e-4)
        np.testing.assert_allclose(scores.deviations[entries], np.sqrt(variances), atol=1e-3)
    llama.close()


def test_agrees_with_llama_cpp_on_a_real_model(smollm2: Model) -> None:
    prefix = smollm2.tokenize("<|im_start|>user\n")
    lines = [
        "What is the capital of France?",
        "Write a haiku about autumn leaves 🍂 in 日本語.",
        "def f(x):\n    return x ** 2",
    ]
    texts = [(prefix, smollm2.tokenize(line)) for line in lines]
    scores = score(smollm2, texts)
    llama = llama_cpp.Llama(
        str(smollm2.path), n_ctx=64, n_threads=1, verbose=False, logits_all=True
    )
    for i, (context, target) in enumerate(texts):
        expected = distributions(llama, context, target)[np.arange(len(target)), target]
        found = scores.log_probabilities[scores.offsets[i] : scores.offsets[i + 1]]
        np.testing.assert_allclose(found, expected, atol=1e-3)
    llama.close()


def test_flash_attention_is_that_of_llama_cpp(tiny: Model) -> None:
    texts = random_texts(np.random.default_rng(3), 8, 100)
    llama = llama_cpp.Llama(
        str(tiny.path), n_ctx=512, n_threads=1, verbose=False, logits_all=True, flash_attn=True
    )
    flash = score(tiny, texts, flash_attention=True, slots=1)
    for i, (context, target) in enumerate(texts):
        if target:
            # The engine does not feed the last token, so neither does the peer.
            expected = distributions(llama, context, target[:-1])
            last = llama.scores[len(context) + len(target) - 2].astype(np.float64)
            last -= np.log(np.exp(last - last.max()).sum()) + last.max()
            logs = np.vstack([expected, last])[np.arange(len(target)), target]
            found = flash.log_probabilities[flash.offsets[i] : flash.offsets[i + 1]]
            np.testing.assert_allclose(found, logs, atol=1e-5)
    llama.close()
    assert (flash.log_probabilities != score(tiny, texts, slots=1).log_probabilities).any()


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-3), (True, 5e-3)], ids=["F32", "F16"])
def test_agrees_with_transformers_in_float32(tmp_path: Path, half: bool, tolerance: float) -> None:
    """llama.cpp rounds what it multiplies with float16 weights to float16 too."""
    weights = tiny_weights(seed=6)
    if half:  # the same rounded weights on both sides
        weights = {
            name: value.astype(np.float16).astype(np.float32) if value.ndim == 2 else value
            for name, value in weights.items()
        }
    peer = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=False,
        )
    )
    peer.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    peer.eval()
    texts = random_texts(np.random.default_rng(1), 20, 40)
    with Model(make_tiny_gguf(tmp_path / "m.gguf", seed=6, half=half), threads=1) as model:
        scores = score(model, texts)
    for i, (context, target) in enumerate(texts):
        with torch.no_grad():
            logits = peer(torch.tensor([[*context, *target]])).logits[0, len(context) - 1 : -1]
        expected = logits.double().log_softmax(-1)[torch.arange(len(target)), target].numpy()
        found = scores.log_probabilities[scores.offsets[i] : scores.offsets[i + 1]]
        np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {"slots": 1},
        {"slots": 3},
        {"slots": 64, "batch_tokens": 64},
        {"slots": 8, "batch_tokens": 16},
        {"slots": 256, "batch_tokens": 2048},
    ],
    ids=str,
)
def test_any_grouping_gives_the_same(tiny: Model, options) -> None:
    """Up to float32: a text longer than the batch is fed in pieces, others share one."""
    texts = [
        *random_texts(np.random.default_rng(2), 60, 40),
        *random_texts(np.random.default_rng(3), 3, 400),
    ]
    together = score(tiny, texts, moments=True)
    other = score(tiny, texts, moments=True, **options)
    np.testing.assert_allclose(other.log_probabilities, together.log_probabilities, atol=1e-4)
    np.testing.assert_allclose(other.means, together.means, atol=1e-4)
    assert (other.offsets == together.offsets).all()
    order = np.random.default_rng(4).permutation(len(texts))
    shuffled = score(tiny, [texts[i] for i in order])
    np.testing.assert_allclose(shuffled.sums(), together.sums()[order], atol=1e-3)


def test_a_context_longer_than_the_batch(tiny: Model) -> None:
    """Its first pieces want no logits at all."""
    rng = np.random.default_rng(5)
    text = (rng.integers(3, 512, 100).tolist(), [7, 8])
    pieces = score(tiny, [text], slots=4, batch_tokens=16)
    np.testing.assert_allclose(
        pieces.log_probabilities, score(tiny, [text]).log_probabilities, atol=1e-4
    )


def test_a_chain_of_single_tokens_sums_to_the_whole(tiny: Model) -> None:
    """log p(abc) = log p(a) + log p(b | a) + log p(c | ab); and each step's sum to one."""
    context, target = [1, 348, 201], [40, 41, 42, 43]
    whole = score(tiny, [(context, target)]).sums()[0]
    steps = [([*context, *target[:i]], [target[i]]) for i in range(len(target))]
    assert score(tiny, steps).sums().sum() == pytest.approx(whole, abs=1e-4)
    everything = score(tiny, [(context, [token]) for token in range(tiny.n_vocab)])
    total = np.exp(everything.log_probabilities.astype(np.float64)).sum()
    assert total == pytest.approx(1, abs=1e-4)


def test_only_empty_targets(tiny: Model) -> None:
    scores = score(tiny, [([1], []), ([1, 2], [])], moments=True)
    assert scores.sums().tolist() == [0, 0]
    assert scores.offsets.tolist() == [0, 0, 0]


def test_progress(tiny: Model) -> None:
    texts = random_texts(np.random.default_rng(6), 50, 20)
    calls: list[tuple[int, int]] = []
    score(tiny, texts, slots=4, progress=lambda *counts: calls.append(counts))
    assert calls[-1][0] == 50
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1][1] == sum(len(target) for _, target in texts)
    assert len(calls) > 5


def test_memory_holds_no_texts_by_vocabulary(tiny: Model) -> None:
    """What is returned for a text is one number a token."""
    scores = score(tiny, [([1], [5, 6, 7])] * 100)
    assert scores.log_probabilities.shape == (300,)
    assert scores.log_probabilities.dtype == np.float32
    assert scores.means is None


def test_published_questions(smollm2: Model, shared_data: Path) -> None:
    """Real English text is likelier than the same tokens shuffled."""
    lines = (shared_data / "gsm8k_test.jsonl").read_text().splitlines()[:4]
    tokens = [smollm2.tokenize(json.loads(line)["question"])[:30] for line in lines]
    rng = np.random.default_rng(0)
    texts = [([0], t) for t in tokens] + [([0], rng.permutation(t).tolist()) for t in tokens]
    sums = score(smollm2, texts).sums()
    assert (sums[:4] > sums[4:] + 20).all()


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "no texts to score"),
        ([([1], [2]), ([], [3])], {}, "text 1 has an empty context"),
        ([([1], [512])], {}, "text 0: token 512 is outside the vocabulary"),
        ([([-1], [2])], {}, "context of text 0: token -1 is outside the vocabulary"),
        ([([1], [2] * 512)], {}, "text 0 has 513 tokens with its context, more than the 512"),
        ([([1], [2])], {"slots": 0}, "slots must be from 1 to 256, not 0"),
        ([([1], [2])], {"slots": 257}, "slots must be from 1 to 256, not 257"),
        ([([1], [2])], {"batch_tokens": 5}, r"batch_tokens must be at least slots \(32\), not 5"),
    ],
)
def test_bad_input(tiny: Model, texts, options, message) -> None:
    with pytest.raises(InputError, match=message):
        score(tiny, texts, **options)


def test_logits_that_are_no_numbers(tmp_path: Path) -> None:
    weights = tiny_weights()
    weights["lm_head.weight"][9] = np.nan
    path = write_llama_gguf(tmp_path / "nan.gguf", weights, tiny_tokenizer(512), heads=4)
    with (
        Model(path, threads=1) as model,
        np.errstate(invalid="ignore"),
        pytest.raises(FloatingPointError, match="NaN or an infinity"),
    ):
        score(model, [([1], [2, 3])])
