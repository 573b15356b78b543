"""Embedding of corpora and generations with a sentence-transformers model.

Vectors lie in `NAME.npy` (float32, one row per text, unit length), and beside them `NAME.json` says
which embedder made them and of which texts, so that vectors of two models are never compared.
"""

import contextlib
import hashlib
import itertools
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from alignment_extraction.files import InputError, atomic_path, read_json, sha256, write_json
from alignment_extraction.search import encoder

Vectors = encoder.Vectors

_logger = logging.getLogger(__name__)

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
"""What an embedder computes in. `auto` is the fastest form whose cosines near a threshold are those
of float32: float16 is tried on a GPU, bfloat16 on a processor with AVX-512 BF16 or AMX. bfloat16
moves all-MiniLM-L6-v2's by up to 1.3e-3, so there `auto` is float32."""

LARGEST_CHANGE = 1e-3
"""By which `auto` lets a cosine near a threshold differ from float32's."""
_NEAR = 0.9
"""Cosines from here on are near a threshold or above it (the paper's is 0.95)."""

_BLOCK = 100_000
"""Distinct texts embedded at once: 400 MB of vectors of 1,024 dimensions."""

_Encode = Callable[[list[str], bool], Vectors]
"""From distinct texts, and whether to draw a bar, to their unit-length vectors."""


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

    Attributes:
        identity: the folder's SHA-256, `max_tokens` and, unless it is float32, the `dtype` chosen.
        dtype: what it computes in, never `auto`.
        dimension: of its vectors.

    Args:
        folder: the model; see `encoder` for ONNX files, which are computed in float32.
        max_tokens: a longer text is cut here; at most what the model was made for.
        batch_size: most texts encoded at once; they are sorted by length first.
        dtype: see `Dtype`.

    Raises:
        InputError: the folder holds no model that sentence-transformers can load, one that would
            run code of its own, the model does not take so many tokens, or an unknown dtype.
    """

    def __init__(
        self, folder: Path, *, max_tokens: int = 256, batch_size: int = 64, dtype: Dtype = "auto"
    ) -> None:
        self.folder = folder
        self.batch_size = batch_size
        if dtype not in get_args(Dtype):
            raise InputError(f"dtype {dtype!r}: not one of {', '.join(get_args(Dtype))}")
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; give that of a sentence-transformers model"
            )
        _refuse_code(folder)
        if (folder / encoder.MODEL).is_file():
            self.dtype = "float32"
            onnx = encoder.from_onnx(folder, max_tokens=max_tokens, batch_size=batch_size)
            self.dimension, self._encode = onnx.dimension, _by_encoder(onnx)
        else:
            model = _load(folder, max_tokens)
            self.dimension = int(model.get_embedding_dimension())
            self.weights = sum(parameter.numel() for parameter in model.parameters())
            choose = _on_gpu if model.device.type == "cuda" else _on_cpu
            self.dtype, self._encode = choose(model, folder, max_tokens, batch_size, dtype)
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
        vectors = self._encode(list(order), progress)[[order[text] for text in texts]]
        if (row := _first_not_finite(vectors)) is not None:
            raise InputError(
                f"{self.folder}: the vector of row {row} ({texts[row][:60]!r}) is not finite; the "
                "embedder's weights are damaged, fetch it again"
            )
        return vectors


def _load(folder: Path, max_tokens: int, **options: Any) -> Any:
    """The folder's SentenceTransformer, in float32 unless `options` say otherwise."""
    # Imported here: it takes seconds, and most steps do not embed.
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(
            str(folder),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"dtype": "float32"} | options,
        )
    except Exception as error:  # each library below raises its own kinds
        raise InputError(
            f"{folder}: not a model that sentence-transformers can load "
            f"({type(error).__name__}: {' '.join(str(error).split())})"
        ) from error
    limit = model.max_seq_length
    if limit is not None and max_tokens > limit:
        raise InputError(
            f"{folder}: max_tokens is {max_tokens}, but the model takes {limit} tokens at most"
        )
    model.max_seq_length = max_tokens
    return model


def _by_encoder(compiled: encoder.Encoder) -> _Encode:
    return lambda texts, progress: compiled.encode(texts, progress=progress)


def _by_pytorch(model: Any, batch_size: int) -> _Encode:
    def encode(texts: list[str], progress: bool) -> Vectors:
        found = model.encode(
            texts, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=progress
        )
        # A model in half precision normalises in it too: the lengths are off by up to 1e-3.
        vectors = np.asarray(found, np.float32)
        with np.errstate(invalid="ignore"):
            return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    return encode


def _on_cpu(
    model: Any, folder: Path, max_tokens: int, batch_size: int, dtype: Dtype
) -> tuple[str, _Encode]:
    """The form of a model on this processor: what it computes in, and how to encode."""
    if dtype == "float16":
        raise InputError(f"{folder}: dtype float16 needs a GPU; set bfloat16, float32 or auto")
    exact = _by_pytorch(model, batch_size)
    wanted = "float32" if dtype == "auto" and not encoder.has_bfloat16() else dtype
    forms = ("bfloat16", "float32") if wanted == "auto" else (wanted,)
    for form in forms:
        try:
            # The compiled encoder knows no prompts and no cut dimensions.
            if model.default_prompt_name is not None or model.truncate_dim is not None:
                raise NotImplementedError("a default prompt or truncate_dim")
            compiled = encoder.from_sentence_transformers(model, batch_size=batch_size, dtype=form)
        except Exception as error:  # OpenVINO and PyTorch raise their own kinds
            reason = (str(error).splitlines() or [""])[0][:100]
            _logger.warning(
                "%s cannot be compiled (%s: %s); PyTorch embeds instead, slower",
                *(folder, type(error).__name__, reason),
            )
            if dtype == "bfloat16":
                raise InputError(
                    f"{folder}: cannot be computed in bfloat16 ({reason}); set dtype float32"
                ) from error
            break
        encode = _by_encoder(compiled)
        # Named outright, bfloat16 is taken as it is; float32 is held to the same measure.
        if dtype == "bfloat16" or largest_change(encode, exact) <= LARGEST_CHANGE:
            return form, encode
        _logger.warning("%s: %s changes cosines by more than %g", folder, form, LARGEST_CHANGE)
    return "float32", exact


def _on_gpu(
    model: Any, folder: Path, max_tokens: int, batch_size: int, dtype: Dtype
) -> tuple[str, _Encode]:
    """The form of a model on a GPU: what it computes in, and how to encode."""
    from transformers.utils import is_flash_attn_2_available

    exact = _by_pytorch(model, batch_size)
    form = "float16" if dtype == "auto" else dtype
    if form == "float32":
        return form, exact
    # sentence-transformers then feeds the texts without padding.
    flash = {"attn_implementation": "flash_attention_2"} if is_flash_attn_2_available() else {}
    try:
        half = _load(folder, max_tokens, dtype=form, **flash)
    except InputError:  # an architecture without flash attention
        half = _load(folder, max_tokens, dtype=form)
    encode = _by_pytorch(half, batch_size)
    if dtype != "auto" or largest_change(encode, exact) <= LARGEST_CHANGE:
        return form, encode
    _logger.warning("%s: %s changes cosines by more than %g", folder, form, LARGEST_CHANGE)
    return "float32", exact


_SENTENCES = (
    "{name} buys {a} boxes of pencils with {b} pencils in each; how many pencils are there?",
    "Write a short poem about {name}, who walks {a} miles through the snow every {b} days.",
    "Translate into French: the train to {name} leaves at {a} o'clock and takes {b} hours.",
    "def f(x): return x * {a} + {b}  # explain to {name} what this function does",
    "A rectangle has a width of {a} and a perimeter of {b}. {name} asks for its area.",
    "Which of the {a} planets that {name} listed has at least {b} moons?",
    "Summarise the letter that {name} wrote {a} years ago about the {b} oldest houses.",
    "If {name} sells {a} apples for {b} dollars each, what does she earn in a week?",
)


def check_texts() -> list[str]:
    """The fixed texts that forms of an embedder are compared on.

    8 sentences with 6 names and numbers each, all of these also with a word left out, put in or
    changed: versions of one sentence are as near to each other as scores at a threshold.
    """
    names = ("Anna", "Bob", "Lima")
    numbers = ((3, 12), (7, 48))
    texts = []
    for sentence in _SENTENCES:
        for i, (name, (a, b)) in enumerate(itertools.product(names, numbers)):
            text = sentence.format(name=name, a=a, b=b)
            words = text.split()
            place = 2 * i % len(words)
            texts += [
                text,
                " ".join(words[:place] + words[place + 1 :]),
                " ".join([*words[:place], "yesterday", *words[place:]]),
                " ".join([*words[:place], "teacher", *words[place + 1 :]]),
            ]
    return texts


def largest_change(encode: _Encode, exact: _Encode, texts: Sequence[str] | None = None) -> float:
    """Largest |difference of cosine| among pairs of `texts` that are near a threshold.

    Args:
        encode: what is measured.
        exact: what is right.
        texts: what is compared, every text with every other; None for `check_texts`.

    Returns:
        At least 0; infinity where no pair has an exact cosine from 0.9 on, or one is not finite.
    """
    given = check_texts() if texts is None else list(texts)
    found, right = encode(given, False), exact(given, False)
    upper = np.triu_indices(len(given), 1)
    cosines, others = (right @ right.T)[upper], (found @ found.T)[upper]
    change = np.abs(others - cosines)[cosines >= _NEAR]
    return float(change.max()) if len(change) and np.isfinite(change).all() else float("inf")


def _first_not_finite(vectors: Vectors) -> int | None:
    """The first row that holds a NaN or an infinity, block by block."""
    for start in range(0, len(vectors), _BLOCK):
        # Coordinates of unit vectors cannot overflow a sum.
        bad = ~np.isfinite(np.einsum("ij->i", vectors[start : start + _BLOCK]))
        if bad.any():
            return start + int(bad.argmax())
    return None


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
    """Embed `texts` into `path` (.npy) and describe them in the .json beside it.

    Raises:
        InputError: see `Embedder.embed`.
    """
    write_together(model, {path: texts}, progress=progress)


def write_together(
    model: Embedder, files: Mapping[Path, Sequence[str]], *, progress: bool = False
) -> None:
    """Embed several lists of texts (of several conditions, say), equal texts once.

    The distinct texts are embedded block by block, so that memory holds one block of vectors and
    the texts, whatever their number. Vectors depend in their last digits on the texts that share a
    batch.

    Args:
        model: the embedder.
        files: .npy to write -> its texts; a .json beside each describes it.
        progress: draw a bar.

    Raises:
        InputError: see `Embedder.embed`; no file is written then.
    """
    distinct = list(dict.fromkeys(text for texts in files.values() for text in texts))
    order = {text: i for i, text in enumerate(distinct)}
    with _scratch(files, (len(distinct), model.dimension)) as vectors:
        for start in range(0, len(distinct), _BLOCK):
            block = distinct[start : start + _BLOCK]
            vectors[start : start + len(block)] = model.embed(block, progress=progress)
        for path, texts in files.items():
            rows = np.array([order[text] for text in texts], np.int64)
            shape = (len(texts), model.dimension)
            with atomic_path(path) as partial:
                if not len(texts):
                    with partial.open("wb") as file:
                        np.save(file, np.empty(shape, np.float32))
                else:
                    out = np.lib.format.open_memmap(partial, "w+", dtype=np.float32, shape=shape)
                    for start in range(0, len(rows), _BLOCK):
                        here = slice(start, start + _BLOCK)
                        out[here] = vectors[rows[here]]
                    out.flush()
                    del out
            _write_about(path, texts, model.identity, model.dimension)


@contextlib.contextmanager
def _scratch(files: Mapping[Path, Any], shape: tuple[int, int]) -> Iterator[Vectors]:
    """Room for vectors: in memory for one block of them, in a file beside the first of `files`."""
    if shape[0] <= _BLOCK:
        yield np.empty(shape, np.float32)
        return
    folder = next(iter(files)).parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        yield np.memmap(file, np.float32, "w+", shape=shape)


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
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); run the embedding step again") from error
    if vectors.shape != (about["rows"], about["dimension"]):
        raise InputError(
            f"{path}: has shape {vectors.shape}, expected ({about['rows']}, "
            f"{about['dimension']}); run the embedding step again"
        )
    if (row := _first_not_finite(vectors)) is not None:
        raise InputError(
            f"{path}: the vector of row {row} ({texts[row][:60]!r}) is not finite; the embedder's "
            "weights are damaged, fetch it and run the embedding step again"
        )
    return vectors


def identity_of(path: Path) -> str:
    """Identity of the embedder that made the vectors in `path` (.npy).

    Raises:
        InputError: the .json beside `path` is missing or of something else.
    """
    return str(_read_about(path)["embedder"])


def short_identity(identity: str) -> str:
    """An embedder's identity for messages: `0123456789ab at 256 tokens in bfloat16`."""
    folder, _, rest = identity.partition("/")
    max_tokens, _, dtype = rest.partition("/")
    return f"{folder[:12]} at {max_tokens} tokens" + (f" in {dtype}" if dtype else "")


def _read_about(path: Path) -> dict[str, Any]:
    about = read_json(path.with_suffix(".json"))
    if not isinstance(about, dict) or not about.keys() >= {"embedder", "texts", "rows"}:
        raise InputError(
            f"{path.with_suffix('.json')}: does not describe embeddings; run the embedding step "
            "again"
        )
    return about
