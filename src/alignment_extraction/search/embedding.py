"""Embedding of corpora and generations with a sentence-transformers model.

Vectors lie in `NAME.npy` (float32, one row per text, unit length), and beside them `NAME.json` says
which embedder made them and of which texts, so that vectors of two models are never compared.
"""

import contextlib
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from alignment_extraction.files import InputError, atomic_path, read_json, sha256, write_json

Vectors = np.ndarray[Any, np.dtype[np.float32]]

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
"""What an embedder computes in. `auto` is float16 on a GPU, which moves all-MiniLM-L6-v2's cosines
near a threshold by at most 1.4e-4, and float32 on a processor; bfloat16 moves them by 1.5e-3."""

_BLOCK = 100_000  # texts embedded at once: 400 MB of vectors of 1,024 dimensions
_CPU_BATCH = 16  # texts that a processor encodes at once: larger batches are slower


def hash_texts(texts: Sequence[str]) -> str:
    """SHA-256 (hex) of a sequence of texts, lengths included."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


class Embedder:
    """A sentence-transformers model of a local folder, on the GPU where PyTorch has one.

    Attributes:
        identity: the folder's SHA-256, `max_tokens` and, unless it is float32, the `dtype` chosen.
        dtype: what it computes in, never `auto`.
        dimension: of its vectors.
        weights: how many it has.

    `folder` holds the model; the other arguments are those of `EmbedderSettings`.

    Raises:
        InputError: the folder holds no model that sentence-transformers can load, one that would
            run code of its own, or one that does not take so many tokens.
    """

    def __init__(
        self, folder: Path, *, max_tokens: int = 256, batch_size: int = 64, dtype: Dtype = "auto"
    ) -> None:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; give that of a sentence-transformers model"
            )
        _refuse_code(folder)
        self.folder = folder
        self._model = _load(folder, max_tokens, dtype)
        self.dtype = str(self._model.dtype).removeprefix("torch.")
        on_gpu = self._model.device.type == "cuda"
        self._batch_size = batch_size if on_gpu else min(batch_size, _CPU_BATCH)
        self.dimension = int(self._model.get_embedding_dimension())
        self.weights = sum(parameter.numel() for parameter in self._model.parameters())
        form = "" if self.dtype == "float32" else f"/{self.dtype}"
        self.identity = f"{sha256(folder)}/{max_tokens}{form}"

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> Vectors:
        """Unit-length float32 vectors of shape (texts, dimension); equal texts get equal ones.

        Raises:
            InputError: the vector of a text is not finite.
        """
        order = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        if not order:
            return np.empty((0, self.dimension), np.float32)
        options = {"batch_size": self._batch_size, "show_progress_bar": progress}
        found = self._model.encode(list(order), convert_to_numpy=True, **options)
        # A model in half precision normalises in it too: the lengths are off by up to 1e-3.
        vectors = np.asarray(found, np.float32)
        with np.errstate(invalid="ignore"):
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors[[order[text] for text in texts]]
        _check_finite(vectors, texts, self.folder)
        return vectors


def _load(folder: Path, max_tokens: int, dtype: Dtype) -> Any:
    # Imported here: it takes seconds, and most steps do not embed.
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import is_flash_attn_2_available

    if dtype == "auto":
        dtype = "float16" if torch.cuda.is_available() else "float32"
    try:
        options = {"trust_remote_code": False, "local_files_only": True}
        model = SentenceTransformer(str(folder), model_kwargs={"dtype": dtype}, **options)
    except Exception as error:  # each library below raises its own kinds
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(
            f"{folder}: not a model that sentence-transformers can load ({reason})"
        ) from error
    limit = model.max_seq_length
    if limit is not None and max_tokens > limit:
        raise InputError(
            f"{folder}: max_tokens is {max_tokens}, but the model takes {limit} tokens at most"
        )
    model.max_seq_length = max_tokens
    if dtype != "float32" and is_flash_attn_2_available():  # which needs a GPU
        # Not every model has it, nor every GPU.
        with contextlib.suppress(AttributeError, ImportError, ValueError):
            model.transformers_model.set_attn_implementation("flash_attention_2")
    return model


def _check_finite(vectors: Vectors, texts: Sequence[str], source: Path) -> None:
    # Coordinates of unit vectors cannot overflow a sum.
    bad = ~np.isfinite(np.einsum("ij->i", vectors))
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{source}: the vector of row {row} ({texts[row][:60]!r}) is not finite; the "
            "embedder's weights are damaged, fetch it and run the embedding step again"
        )


def _refuse_code(folder: Path) -> None:
    """Refuse a folder that could run a program when it is loaded.

    `trust_remote_code=False` is not enough: of a local folder, sentence-transformers imports the
    modules that modules.json names by a path of their own. Pickles can hold any program.
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
    modules = read_json(path) if path.is_file() else []
    for module in modules if isinstance(modules, list) else []:
        name = str(module.get("type") if isinstance(module, dict) else module)
        if not re.fullmatch(r"sentence_transformers(\.\w+)+", name):
            raise InputError(
                f"{path}: asks for the class {name!r}, which is not of sentence-transformers "
                "and so not run; take an embedder without code of its own"
            )


def write_embeddings(model: Embedder, texts: Sequence[str], path: Path) -> None:
    """Embed `texts` into `path` (.npy) and describe them in the .json beside it.

    Distinct texts are embedded once, block by block, so that memory holds one block of vectors and
    the texts. Vectors depend in their last digits on the texts that share a batch.

    Raises:
        InputError: see `Embedder.embed`; no file is written then.
    """
    shape = (len(texts), model.dimension)
    first: dict[str, int] = {}
    origin = np.array([first.setdefault(text, row) for row, text in enumerate(texts)], np.int64)
    with atomic_path(path) as partial:
        with partial.open("wb") as file:  # an empty file cannot be mapped
            np.save(file, np.empty((0, shape[1]), np.float32))
        if texts:
            out = np.lib.format.open_memmap(partial, "w+", dtype=np.float32, shape=shape)
            distinct = np.unique(origin)
            for rows in np.split(distinct, range(_BLOCK, len(distinct), _BLOCK)):
                out[rows] = model.embed([texts[row] for row in rows], progress=True)
            repeated = np.flatnonzero(origin != np.arange(len(texts)))
            for rows in np.split(repeated, range(_BLOCK, len(repeated), _BLOCK)):
                out[rows] = out[origin[rows]]
            out.flush()
            del out
    about = {"embedder": model.identity, "texts": hash_texts(texts)}
    write_json({**about, "rows": shape[0], "dimension": shape[1]}, path.with_suffix(".json"))


def read_vectors(path: Path, texts: Sequence[str], identity: str | None = None) -> Vectors:
    """Memory-mapped vectors in `path` (.npy), of these texts in this order.

    They must be made by the embedder `identity`; None takes any.

    Raises:
        InputError: vectors of other texts, of another embedder, or not finite, or a missing or
            damaged file.
    """
    about = _read_about(path)
    if about["texts"] != hash_texts(texts):
        raise InputError(f"{path}: embeddings of other texts; run the embedding step again")
    if identity is not None and about["embedder"] != identity:
        raise InputError(
            f"{path}: made with the embedder {short_identity(about['embedder'])}, but the other "
            f"side with {short_identity(identity)}; embed both with one model and dtype"
        )
    try:
        vectors: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        if vectors.shape != (expected := (about["rows"], about["dimension"])):
            raise ValueError(f"it has shape {vectors.shape}, expected {expected}")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); run the embedding step again") from error
    _check_finite(vectors, texts, path)
    return vectors


def identity_of(path: Path) -> str:
    """Identity of the embedder that made the vectors in `path` (.npy)."""
    return str(_read_about(path)["embedder"])


def short_identity(identity: str) -> str:
    """An embedder's identity for messages: `0123456789ab at 256 tokens in bfloat16`."""
    folder, max_tokens, *dtype = identity.split("/")
    return f"{folder[:12]} at {max_tokens} tokens" + (f" in {dtype[0]}" if dtype else "")


def _read_about(path: Path) -> dict[str, Any]:
    path = path.with_suffix(".json")
    about = read_json(path)
    keys = {"embedder", "texts", "rows", "dimension"}
    if not isinstance(about, dict) or not about.keys() >= keys:
        raise InputError(f"{path}: does not describe embeddings; run the embedding step again")
    return about
