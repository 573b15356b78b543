"""Sentence embeddings from a bare ONNX file and a tokenizer, without a library's own format.

sentence-transformers has an ONNX backend too, but the package behind it (optimum-onnx 0.1.0) asks
for transformers below 4.58, and training here needs transformers 5. ONNX Runtime alone is enough.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from alignment_extraction.files import InputError

MODEL, TOKENIZER = "model.onnx", "tokenizer.json"
"""The files that such a model's folder holds."""

Vectors = np.ndarray[Any, np.dtype[np.float32]]


class OnnxModel:
    """An encoder whose first floating-point output is taken; token vectors are averaged.

    Args:
        folder: holds `MODEL` and `TOKENIZER`.
        max_tokens: a longer text is cut here.
        batch_size: texts encoded at once.
        threads: of a batch; ONNX Runtime takes all cores by default.

    Raises:
        InputError: the folder holds no such model, or one with other inputs or outputs.
    """

    def __init__(self, folder: Path, max_tokens: int, batch_size: int, threads: int = 0) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self._batch_size = batch_size
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / MODEL), options, providers=["CPUExecutionProvider"]
            )
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # each library raises its own kinds
            raise InputError(
                f"{folder}: not an ONNX model with its tokenizer "
                f"({type(error).__name__}: {' '.join(str(error).split())})"
            ) from error
        self._inputs = {given.name for given in self._session.get_inputs()}
        known = {"input_ids", "attention_mask", "token_type_ids"}
        outputs = [out for out in self._session.get_outputs() if out.type == "tensor(float)"]
        if not self._inputs <= known or not outputs or not isinstance(outputs[0].shape[-1], int):
            raise InputError(
                f"{folder / MODEL}: not a text encoder; expected the inputs {', '.join(known)} "
                "and an output of vectors"
            )
        self._output = outputs[0].name
        self.dimension: int = outputs[0].shape[-1]
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.enable_padding()

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Vectors:
        """Unit-length float32 vectors of shape (texts, dimension).

        Texts are sorted by length, so that a batch holds little padding.
        """
        vectors = np.empty((len(texts), self.dimension), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        starts = range(0, len(order), self._batch_size)
        for start in tqdm(starts, desc="Batches", disable=not progress):
            rows = order[start : start + self._batch_size]
            vectors[rows] = self._encode([texts[i] for i in rows])
        return vectors

    def _encode(self, texts: list[str]) -> Vectors:
        encodings = self._tokenizer.encode_batch(texts)
        mask = np.array([encoding.attention_mask for encoding in encodings])
        given = {
            "input_ids": np.array([encoding.ids for encoding in encodings]),
            "attention_mask": mask,
            "token_type_ids": np.array([encoding.type_ids for encoding in encodings]),
        }
        feed = {name: given[name] for name in self._inputs}
        (found,) = self._session.run([self._output], feed)
        if found.ndim == 3:
            found = np.einsum("btd,bt->bd", found, mask / mask.sum(axis=1, keepdims=True))
        vectors: Vectors = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
        return vectors
