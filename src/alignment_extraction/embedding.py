"""Embedding of corpora and generations with a sentence-transformers model.

Vectors lie in `NAME.npy` (float32, one row a text, unit length), and beside them `NAME.json` says
which embedder made them and of which texts, so that vectors of two models are never compared.
"""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.files import InputError, atomic_path, read_json, sha256, write_json

Vectors = np.ndarray[Any, np.dtype[np.float32]]


def texts_of(frame: pl.DataFrame, part: str) -> pl.Series:
    """The texts of one part of corpus rows or generations; null where a row lacks it.

    Args:
        frame: has the columns `question` and `answer`.
        part: `question`, `answer`, or `both` (question, line break, answer).
    """
    if part == "both":
        return frame.select((pl.col("question") + "\n" + pl.col("answer")).alias("both"))["both"]
    return frame[part]


def unique_texts(frame: pl.DataFrame, part: str) -> list[str]:
    """Distinct texts of `part` in order of first appearance; empty and missing ones left out."""
    texts = texts_of(frame, part)
    return texts.filter(texts.str.len_bytes() > 0).unique(maintain_order=True).to_list()


def hash_texts(texts: Sequence[str]) -> str:
    """SHA-256 (hex) of a sequence of texts, lengths included."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


class Embedder:
    """A sentence-transformers model of a local folder.

    Args:
        folder: the model, weights in safetensors or ONNX.
        max_tokens: a longer text is cut here.
        batch_size: texts encoded at once; they are sorted by length first.

    Raises:
        InputError: the folder holds no model that sentence-transformers can load.
    """

    def __init__(self, folder: Path, *, max_tokens: int = 256, batch_size: int = 64) -> None:
        # Imported here: it takes seconds, and most steps do not embed.
        from sentence_transformers import SentenceTransformer

        self.folder = folder
        self.batch_size = batch_size
        self.identity = f"{sha256(folder)}/{max_tokens}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._model = SentenceTransformer(
                    str(folder), trust_remote_code=False, local_files_only=True
                )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise InputError(
                f"{folder}: not a model that sentence-transformers can load ({error})"
            ) from error
        self._model.max_seq_length = max_tokens
        self.dimension = int(self._model.get_sentence_embedding_dimension() or 0)

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> Vectors:
        """Unit-length float32 vectors of shape (texts, dimension); equal texts get equal ones."""
        order = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        if not order:
            return np.empty((0, self.dimension), np.float32)
        distinct = self._model.encode(
            list(order),
            batch_size=self.batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=progress,
        ).astype(np.float32, copy=False)
        if len(order) == len(texts):
            return distinct
        return distinct[[order[text] for text in texts]]


def write_vectors(vectors: Vectors, texts: Sequence[str], identity: str, path: Path) -> None:
    """Write `vectors` to `path` (.npy) and what they are of to the .json beside it."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.save(file, vectors)
    write_json(
        {
            "embedder": identity,
            "texts": hash_texts(texts),
            "rows": len(texts),
            "dimension": vectors.shape[1],
        },
        path.with_suffix(".json"),
    )


def read_vectors(path: Path, texts: Sequence[str], identity: str | None = None) -> Vectors:
    """Memory-mapped vectors of `texts`.

    Args:
        path: the .npy file.
        texts: the texts they must belong to, in order.
        identity: the embedder they must have been made with; None takes any.

    Raises:
        InputError: vectors of other texts, of another embedder, or a damaged file.
    """
    about = read_json(path.with_suffix(".json"))
    if about["texts"] != hash_texts(texts):
        raise InputError(f"{path}: embeddings of other texts; run the embedding step again")
    if identity is not None and about["embedder"] != identity:
        raise InputError(
            f"{path}: made with the embedder {about['embedder'][:12]}, but the other side with "
            f"{identity[:12]}; embed both with one model"
        )
    try:
        vectors: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); run the embedding step again") from error
    if vectors.shape != (about["rows"], about["dimension"]):
        raise InputError(
            f"{path}: has shape {vectors.shape}, expected ({about['rows']}, "
            f"{about['dimension']}); run the embedding step again"
        )
    return vectors


def identity_of(path: Path) -> str:
    """Identity of the embedder that made the vectors in `path` (.npy)."""
    return str(read_json(path.with_suffix(".json"))["embedder"])
