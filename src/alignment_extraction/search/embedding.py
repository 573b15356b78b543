"""Embedding of corpora and generations with a sentence-transformers model.

Vectors lie in `NAME.npy` (float32, one row a text, unit length), and beside them `NAME.json` says
which embedder made them and of which texts, so that vectors of two models are never compared.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alignment_extraction.files import InputError, atomic_path, read_json, sha256, write_json
from alignment_extraction.search import onnx_model

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")

Vectors = np.ndarray[Any, np.dtype[np.float32]]

_BLOCK = 100_000
"""Distinct texts embedded at once: 400 MB of vectors of 1,024 dimensions."""


def hash_texts(texts: Sequence[str]) -> str:
    """SHA-256 (hex) of a sequence of texts, lengths included."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


class Embedder:
    """A sentence-transformers model of a local folder, or a bare ONNX file with its tokenizer.

    Args:
        folder: the model; see `onnx_model` for ONNX files.
        max_tokens: a longer text is cut here; at most what the model was made for.
        batch_size: texts encoded at once; they are sorted by length first.

    Raises:
        InputError: the folder holds no model that sentence-transformers can load, one that would
            run code of its own, or the model does not take so many tokens.
    """

    def __init__(self, folder: Path, *, max_tokens: int = 256, batch_size: int = 64) -> None:
        self.folder = folder
        self.batch_size = batch_size
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; give that of a sentence-transformers model"
            )
        _refuse_code(folder)
        self.identity = f"{sha256(folder)}/{max_tokens}"
        self._onnx = None
        if (folder / onnx_model.MODEL).is_file():
            self._onnx = onnx_model.OnnxModel(folder, max_tokens, batch_size)
            self.dimension = self._onnx.dimension
            return
        # Imported here: it takes seconds, and most steps do not embed.
        from sentence_transformers import SentenceTransformer

        try:
            self._model = SentenceTransformer(
                str(folder), trust_remote_code=False, local_files_only=True
            )
        except Exception as error:  # each library below raises its own kinds
            raise InputError(
                f"{folder}: not a model that sentence-transformers can load "
                f"({type(error).__name__}: {' '.join(str(error).split())})"
            ) from error
        limit = self._model.max_seq_length
        if limit is not None and max_tokens > limit:
            raise InputError(
                f"{folder}: max_tokens is {max_tokens}, but the model takes {limit} tokens at most"
            )
        self._model.max_seq_length = max_tokens
        self.dimension = int(self._model.get_embedding_dimension())

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> Vectors:
        """Unit-length float32 vectors of shape (texts, dimension); equal texts get equal ones.

        The library sorts the texts by length, so that a batch holds little padding.
        """
        order = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        if not order:
            return np.empty((0, self.dimension), np.float32)
        rows = [order[text] for text in texts]
        if self._onnx is not None:
            return self._onnx.encode(list(order), progress=progress)[rows]
        distinct = self._model.encode(
            list(order),
            batch_size=self.batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=progress,
        )
        vectors: Vectors = np.asarray(distinct, np.float32)[rows]
        return vectors


def _refuse_code(folder: Path) -> None:
    """Refuse a folder that could run a program when it is loaded.

    `trust_remote_code=False` is not enough: of a local folder, sentence-transformers imports the
    modules that modules.json names by a path of their own. Pickles can hold any program.

    Raises:
        InputError: names the file.
    """
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".py":
            raise InputError(
                f"{path}: a program in the embedder's folder, which is not run; take an embedder "
                "without code of its own, or leave the file out with the key `only`"
            )
        if path.suffix in _PICKLES and not any(path.parent.glob("*.safetensors")):
            raise InputError(
                f"{path}: weights as a pickle, which can run any program; take or make a version "
                "with model.safetensors"
            )
    path = folder / "modules.json"
    if path.is_file():
        modules = read_json(path)
        entries = modules if isinstance(modules, list) else []
        for module in entries:
            name = str(module.get("type")) if isinstance(module, dict) else str(module)
            if not re.fullmatch(r"sentence_transformers(\.\w+)+", name):
                raise InputError(
                    f"{path}: asks for the class {name!r}, which is not of sentence-transformers "
                    "and so not run; take an embedder without code of its own"
                )


def write_embeddings(
    model: Embedder, texts: Sequence[str], path: Path, *, progress: bool = False
) -> None:
    """Embed `texts` into `path` (.npy), block by block, and describe them in the .json beside it.

    Memory holds one block of vectors, whatever the number of texts. What is written is what
    `write_vectors` writes of `Embedder.embed`, up to the last digits, which depend on the texts
    that share a batch: they are the same where one block holds all of them.
    """
    order = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    distinct, rows = list(order), np.array([order[text] for text in texts], np.int64)
    if not distinct:
        write_vectors(model.embed([]), texts, model.identity, path)
        return
    with atomic_path(path) as partial:
        shape = (len(texts), model.dimension)
        vectors = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
        for start in range(0, len(distinct), _BLOCK):
            block = model.embed(distinct[start : start + _BLOCK], progress=progress)
            here = np.flatnonzero((rows >= start) & (rows < start + len(block)))
            vectors[here] = block[rows[here] - start]
        vectors.flush()
        del vectors
    _write_about(path, texts, model.identity, model.dimension)


def write_vectors(vectors: Vectors, texts: Sequence[str], identity: str, path: Path) -> None:
    """Write `vectors` to `path` (.npy) and what they are of to the .json beside it."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.save(file, vectors)
    _write_about(path, texts, identity, vectors.shape[1])


def _write_about(path: Path, texts: Sequence[str], identity: str, dimension: int) -> None:
    write_json(
        {
            "embedder": identity,
            "texts": hash_texts(texts),
            "rows": len(texts),
            "dimension": dimension,
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
        InputError: vectors of other texts, of another embedder, or a missing or damaged file.
    """
    about = _read_about(path)
    if about["texts"] != hash_texts(texts):
        raise InputError(f"{path}: embeddings of other texts; run the embedding step again")
    if identity is not None and about["embedder"] != identity:
        raise InputError(
            f"{path}: made with the embedder {short_identity(about['embedder'])}, but the other "
            f"side with {short_identity(identity)}; embed both with one model"
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
    """Identity of the embedder that made the vectors in `path` (.npy).

    Raises:
        InputError: the .json beside `path` is missing or of something else.
    """
    return str(_read_about(path)["embedder"])


def short_identity(identity: str) -> str:
    """An embedder's identity for messages: 12 digits of the folder's sha256, and `max_tokens`."""
    folder, _, max_tokens = identity.partition("/")
    return f"{folder[:12]} at {max_tokens} tokens"


def _read_about(path: Path) -> dict[str, Any]:
    about = read_json(path.with_suffix(".json"))
    if not isinstance(about, dict) or not about.keys() >= {"embedder", "texts", "rows"}:
        raise InputError(
            f"{path.with_suffix('.json')}: does not describe embeddings; run the embedding step "
            "again"
        )
    return about
