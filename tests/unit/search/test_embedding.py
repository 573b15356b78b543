"""Embeddings by the real all-MiniLM-L6-v2, and the files that they are kept in."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedModel

from alignment_extraction.corpora.texts import unique_texts
from alignment_extraction.engine.model import Model
from alignment_extraction.files import InputError, sha256
from alignment_extraction.generations.generation import generate
from alignment_extraction.generations.sampler import LlamaCpp
from alignment_extraction.search import embedding as module
from alignment_extraction.search.embedding import (
    Embedder,
    hash_texts,
    identity_of,
    read_vectors,
    short_identity,
    write_embeddings,
)
from alignment_extraction.settings.studies import SamplingSettings
from tests.tiny_models import SPECIAL_TOKENS
from tests.vectors import write_vectors

TEXTS = [
    "What is the sum of 12 and 30?",
    "Write a short story about a lighthouse keeper who is afraid of the sea. " * 8,
    "",
    "Was ist die Summe von 12 und 30? 😀",
    "What is the sum of 12 and 31?",
    "a",
]


@pytest.fixture(scope="module")
def embedder(minilm: Path) -> Embedder:
    return Embedder(minilm, batch_size=2, dtype="float32")


@pytest.fixture(scope="module")
def vectors(embedder: Embedder) -> np.ndarray:
    return embedder.embed(TEXTS)


def test_generated_texts_have_no_special_tokens(tiny: Model) -> None:
    frame, _ = generate(
        LlamaCpp(tiny, slots=8),
        prefix="user",
        sampling=SamplingSettings(max_tokens=30, answer=True, max_answer_tokens=30),
        seed=0,
        first=0,
        samples=40,
    )
    # They were drawn, or there would be nothing to strip.
    assert frame["answer"].is_not_null().any()
    for part in ("question", "answer", "both"):
        texts = unique_texts(frame, part)
        assert texts
        assert not any(token in text for token in SPECIAL_TOKENS for text in texts)


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_hash_of_texts_tells_lists_apart(left: list[str], right: list[str]) -> None:
    assert (hash_texts(left) == hash_texts(right)) == (left == right)


def test_vectors_are_unit_float32(embedder: Embedder, vectors: np.ndarray) -> None:
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), embedder.dimension) == (len(TEXTS), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_vectors_are_those_of_mean_pooling(minilm: Path, vectors: np.ndarray) -> None:
    model = SentenceTransformer(str(minilm), local_files_only=True)
    model.max_seq_length = 256
    for text, vector in zip(TEXTS, vectors, strict=True):
        # One text a batch: no padding. transformers' hidden states, pooled here.
        tokens = model.tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            hidden = model[0].auto_model(**tokens).last_hidden_state[0].mean(dim=0).numpy()
        np.testing.assert_allclose(vector, hidden / np.linalg.norm(hidden), atol=1e-5)


def test_similar_texts_are_near(vectors: np.ndarray) -> None:
    similarity = vectors @ vectors.T
    assert similarity[0, 4] > 0.9
    assert similarity[0, 1] < 0.3


def test_neither_order_nor_batch_matters(
    minilm: Path, embedder: Embedder, vectors: np.ndarray
) -> None:
    np.testing.assert_allclose(embedder.embed(TEXTS[::-1])[::-1], vectors, atol=1e-6)
    np.testing.assert_allclose(Embedder(minilm, dtype="float32").embed(TEXTS), vectors, atol=1e-6)


def test_equal_texts_get_equal_vectors_and_runs_are_the_same(
    embedder: Embedder, vectors: np.ndarray
) -> None:
    twice = embedder.embed([*TEXTS, *TEXTS[::-1]])
    np.testing.assert_array_equal(twice[: len(TEXTS)], vectors)
    np.testing.assert_array_equal(twice[len(TEXTS) :], vectors[::-1])


def test_no_texts(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, 384)


def test_texts_are_cut_at_max_tokens(minilm: Path) -> None:
    short = Embedder(minilm, max_tokens=8, dtype="float32")
    same, other = short.embed(["a b c d e f g h i", "a b c d e f x y z"])
    np.testing.assert_allclose(same, other, atol=1e-6)
    assert short.identity != Embedder(minilm, max_tokens=9, dtype="float32").identity
    assert short.identity == f"{sha256(minilm)}/8"


def test_more_tokens_than_the_model_takes(minilm: Path) -> None:
    with pytest.raises(InputError, match="max_tokens is 512, but the model takes 256 tokens"):
        Embedder(minilm, max_tokens=512)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder; give that of a sentence-transformers"):
        Embedder(tmp_path / "x")


@pytest.mark.parametrize("damage", ["empty", "config", "weights"])
def test_a_folder_without_a_whole_model(minilm: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    if damage == "empty":
        folder.mkdir()
    else:
        shutil.copytree(minilm, folder)
        name = "config.json" if damage == "config" else "model.safetensors"
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="not a model that sentence-transformers can load"):
        Embedder(folder)


@pytest.fixture
def saved(tmp_path: Path, vectors: np.ndarray) -> Path:
    path = tmp_path / "vectors.npy"
    write_vectors(vectors, TEXTS, "abc/256", path)
    return path


def test_vectors_round_trip(saved: Path, vectors: np.ndarray) -> None:
    found = read_vectors(saved, TEXTS, "abc/256")
    np.testing.assert_array_equal(found, vectors)
    assert isinstance(found, np.memmap)
    assert identity_of(saved) == "abc/256"
    np.testing.assert_array_equal(read_vectors(saved, TEXTS), vectors)


def test_vectors_of_other_texts(saved: Path) -> None:
    with pytest.raises(InputError, match="embeddings of other texts; run the embedding step"):
        read_vectors(saved, TEXTS[::-1])


def test_vectors_of_another_embedder(saved: Path) -> None:
    message = "embedder abc at 256 tokens, but the other side with abc at 8 tokens; embed both"
    with pytest.raises(InputError, match=message):
        read_vectors(saved, TEXTS, "abc/8")


def test_truncated_vectors(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"not readable .*run the embedding step again"):
        read_vectors(saved, TEXTS)


def test_missing_vectors(saved: Path) -> None:
    saved.unlink()
    with pytest.raises(InputError, match="not readable"):
        read_vectors(saved, TEXTS)


def test_vectors_of_another_shape(saved: Path) -> None:
    np.save(saved, np.zeros((2, 3), np.float32))
    with pytest.raises(InputError, match=r"has shape \(2, 3\), expected \(6, 384\)"):
        read_vectors(saved, TEXTS)


@pytest.mark.parametrize("about", [{}, [], {"embedder": "x"}])
def test_something_else_beside_the_vectors(saved: Path, about: object) -> None:
    saved.with_suffix(".json").write_text(json.dumps(about))
    for call in (lambda: read_vectors(saved, TEXTS), lambda: identity_of(saved)):
        with pytest.raises(InputError, match="does not describe embeddings; run the embedding"):
            call()


# What strangers' folders may hold --------------------------------------------------------------


class Harmful:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.proof,)  # type: ignore[return-value]


def test_pickled_weights_are_refused(minilm: Path, tmp_path: Path) -> None:
    folder, proof = tmp_path / "model", tmp_path / "it-ran"
    shutil.copytree(minilm, folder)
    (folder / "model.safetensors").unlink()
    torch.save(Harmful(proof), folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin: weights as a pickle"):
        Embedder(folder)
    assert not proof.exists()


def test_code_of_a_folder_is_not_run(minilm: Path, tmp_path: Path) -> None:
    folder, proof = tmp_path / "model", tmp_path / "it-ran"
    shutil.copytree(minilm, folder)
    (folder / "stranger.py").write_text(f"open({str(proof)!r}, 'w')\nclass Thing: pass\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "stranger.Thing"
    (folder / "modules.json").unlink()
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match=r"stranger\.py: a program in the embedder's folder"):
        Embedder(folder)
    (folder / "stranger.py").unlink()
    with pytest.raises(InputError, match=r"modules\.json: asks for the class 'stranger\.Thing'"):
        Embedder(folder)
    assert not proof.exists()


def test_embeddings_written_block_by_block(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*TEXTS, TEXTS[0], "another text", TEXTS[3]]
    whole, streamed, blocks = (tmp_path / f"{name}.npy" for name in ("a", "b", "c"))
    write_vectors(embedder.embed(texts), texts, embedder.identity, whole)
    write_embeddings(embedder, texts, streamed)
    for suffix in (".npy", ".json"):
        written = streamed.with_suffix(suffix).read_bytes()
        assert written == whole.with_suffix(suffix).read_bytes()
    monkeypatch.setattr(module, "_BLOCK", 3)
    write_embeddings(embedder, texts, blocks)
    read = read_vectors(blocks, texts, embedder.identity)
    np.testing.assert_allclose(read, read_vectors(whole, texts), atol=1e-5)
    np.testing.assert_array_equal(read[0], read[len(TEXTS)])
    write_embeddings(embedder, [], blocks)
    assert read_vectors(blocks, []).shape == (0, 384)


# What an embedder computes in ------------------------------------------------------------------


SENTENCES = (
    "{name} buys {a} boxes of pencils with {b} pencils in each; how many pencils are there?",
    "Write a short poem about {name}, who walks {a} miles through the snow every {b} days.",
    "Translate into French: the train to {name} leaves at {a} o'clock and takes {b} hours.",
    "def f(x): return x * {a} + {b}  # explain to {name} what this function does",
    "A rectangle has a width of {a} and a perimeter of {b}. {name} asks for its area.",
    "Which of the {a} planets that {name} listed has at least {b} moons?",
    "Summarise the letter that {name} wrote {a} years ago about the {b} oldest houses.",
    "If {name} sells {a} apples for {b} dollars each, what does she earn in a week?",
)


@pytest.fixture(scope="module")
def neighbours() -> list[str]:
    """240 problems of 24 kinds: within a kind they differ in numbers, so many are near 0.95."""
    numbers = np.random.default_rng(0).integers(2, 90, (10, 2))
    sentences = [
        sentence.format(name=name, a=a, b=b)
        for sentence in SENTENCES
        for name in ("Kim", "Mia", "Ivan")
        for a, b in numbers
    ]
    return sentences


def test_float32_is_pytorchs(minilm: Path, embedder: Embedder, neighbours: list[str]) -> None:
    exact = SentenceTransformer(str(minilm), local_files_only=True)
    exact.max_seq_length = 256
    right = exact.encode(neighbours[::3], normalize_embeddings=True)
    found = embedder.embed(neighbours[::3])
    assert np.abs(found @ found.T - right @ right.T).max() < 3e-6


def test_bfloat16_moves_scores_near_a_threshold_by_little(
    minilm: Path, embedder: Embedder, neighbours: list[str]
) -> None:
    fast = Embedder(minilm, dtype="bfloat16")
    assert fast.identity == f"{embedder.identity}/bfloat16"
    assert short_identity(fast.identity).endswith(" at 256 tokens in bfloat16")
    exact, found = embedder.embed(neighbours), fast.embed(neighbours)
    pairs = np.triu_indices(len(neighbours), 1)
    cosines, moved = (exact @ exact.T)[pairs], (found @ found.T)[pairs]
    near = np.abs(cosines - 0.95) < 0.01
    change = np.abs(moved - cosines)[near].max()
    assert near.sum() > 100
    # Otherwise it would be float32 under another name.
    assert 1e-5 < change < 3e-3
    # A hit changes only where it was a matter of that much.
    other = (moved >= 0.95) != (cosines >= 0.95)
    assert (cosines >= 0.95).sum() > 200
    assert other.sum() < 0.02 * (cosines >= 0.95).sum()
    assert (np.abs(cosines - 0.95)[other] <= 3e-3).all()


def test_a_processor_computes_in_float32(minilm: Path, embedder: Embedder) -> None:
    auto = Embedder(minilm)
    assert (auto.dtype, auto.identity) == ("float32", embedder.identity)
    assert auto.weights == 22_713_216


def test_float16_is_near_float32(minilm: Path, embedder: Embedder) -> None:
    half = Embedder(minilm, dtype="float16")
    assert half.identity == f"{embedder.identity}/float16"
    vectors = half.embed(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    exact = embedder.embed(TEXTS)
    assert np.abs(vectors @ vectors.T - exact @ exact.T).max() < 1e-3


def test_where_flash_attention_cannot_be_had_attention_stays_as_it_is(
    minilm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Embedder(minilm, dtype="float16")
    # On a processor transformers refuses it, as it does on any machine for some architectures.
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: True)
    asked: list[str] = []
    choose = PreTrainedModel.set_attn_implementation

    def noted(model: PreTrainedModel, name: str) -> None:
        asked.append(name)
        choose(model, name)

    monkeypatch.setattr(PreTrainedModel, "set_attn_implementation", noted)
    after = Embedder(minilm, dtype="float16")
    assert asked == ["flash_attention_2"]
    Embedder(minilm, dtype="float32")
    assert len(asked) == 1  # it has no form for float32
    assert after.identity == before.identity
    np.testing.assert_array_equal(after.embed(TEXTS), before.embed(TEXTS))


# Damaged weights -------------------------------------------------------------------------------


def test_a_vector_that_is_not_finite_names_its_row(minilm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(minilm, folder)
    weights = load_file(folder / "model.safetensors")
    key = next(key for key in weights if key.endswith("word_embeddings.weight"))
    weights[key][(folder / "vocab.txt").read_text().split("\n").index("river")] = torch.nan
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    texts = ["How many moons has Mars?", "Which river flows past Lund?", "Name a prime."]
    damaged = Embedder(folder)
    message = r"the vector of row 1 \('Which river flows past Lund\?'\) is not finite; the embedder"
    with pytest.raises(InputError, match=message):
        write_embeddings(damaged, texts, tmp_path / "x.npy")
    assert not (tmp_path / "x.npy").exists()
    assert np.isfinite(damaged.embed(texts[::2])).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_stored_vectors_that_are_not_finite(saved: Path, vectors: np.ndarray, value: float) -> None:
    damaged = vectors.copy()
    damaged[3, 7] = value
    np.save(saved, damaged)
    with pytest.raises(InputError, match=r"vectors\.npy: the vector of row 3 \('Was ist die Summe"):
        read_vectors(saved, TEXTS)
