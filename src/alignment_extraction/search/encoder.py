"""Sentence encoders compiled by OpenVINO for this processor.

Measured with all-MiniLM-L6-v2 on two cores, float32 takes about half of PyTorch's time and gives
the same vectors (|difference of cosine| below 1e-6); bfloat16 takes a third of it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from alignment_extraction.files import InputError

MODEL, TOKENIZER = "model.onnx", "tokenizer.json"
"""The files of a bare ONNX encoder's folder."""

Vectors = np.ndarray[Any, np.dtype[np.float32]]
Inputs = Mapping[str, np.ndarray[Any, Any]]
"""input_ids, attention_mask and what else the model takes: int64, shape (texts, tokens)."""

_SAMPLE = ("A first text.", "And a second one, which is longer.")
_TOKENS = 2048
"""Tokens of a batch: beyond it a batch leaves the processor's caches."""


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 by itself (AVX-512 BF16 or AMX)."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


class Encoder:
    """A compiled encoder: texts in, unit-length vectors out.

    Attributes:
        dimension: of the vectors.
    """

    def __init__(
        self,
        model: Any,
        tokenise: Callable[[list[str]], Inputs],
        *,
        batch_size: int,
        dtype: str = "float32",
        threads: int = 0,
    ) -> None:
        """Compile `model`.

        Args:
            model: an `openvino.Model` whose first floating-point output holds a vector of each
                text, or of each token; of the latter the mean is taken.
            tokenise: gives the padded inputs of a batch, cut at the most tokens allowed.
            batch_size: most texts encoded at once.
            dtype: `float32`, or `bfloat16` for products in it (sums stay in float32).
            threads: of a batch; 0 for all cores.
        """
        import openvino

        self._tokenise = tokenise
        self._batch_size = batch_size
        self._names = [port.get_any_name() for port in model.inputs]
        outputs = [port for port in model.outputs if port.element_type.is_real()]
        shape = outputs[0].partial_shape if outputs else None
        if shape is None or shape[len(shape) - 1].is_dynamic or len(shape) not in (2, 3):
            raise ValueError("it has no output of vectors")
        self.dimension: int = shape[len(shape) - 1].get_length()
        self._output = model.outputs.index(outputs[0])
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bfloat16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        self._request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Vectors:
        """Unit-length float32 vectors of shape (texts, dimension).

        Texts are sorted by length, so that a batch holds little padding.
        """
        vectors = np.empty((len(texts), self.dimension), np.float32)
        # About four characters a token; the longest first, so that memory is asked for once.
        lengths = np.array([len(text) for text in texts], np.int64)
        order = np.argsort(-lengths, kind="stable")
        with tqdm(total=len(texts), unit="text", desc="Embedding", disable=not progress) as bar:
            start = 0
            while start < len(order):
                longest = max(1, int(lengths[order[start]]) // 4)
                size = max(8, min(self._batch_size, _TOKENS // longest))
                rows = order[start : start + min(size, self._batch_size)]
                vectors[rows] = self._encode([texts[i] for i in rows])
                start += len(rows)
                bar.update(len(rows))
        return vectors

    def _encode(self, texts: list[str]) -> Vectors:
        given = self._tokenise(texts)
        self._request.infer({name: given[name] for name in self._names})
        found = self._request.get_output_tensor(self._output).data
        if found.ndim == 3:
            mask = given["attention_mask"]
            found = np.einsum("btd,bt->bd", found, mask / mask.sum(axis=1, keepdims=True))
        # What is not finite is told by the caller, who knows the rows.
        with np.errstate(invalid="ignore"):
            vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(vectors, np.float32)


def from_onnx(folder: Path, *, max_tokens: int, batch_size: int) -> Encoder:
    """The encoder in a folder of `MODEL` and `TOKENIZER`.

    Raises:
        InputError: the folder holds no such model, or one with other inputs or outputs.
    """
    import openvino
    from tokenizers import Tokenizer

    def tokenise(texts: list[str]) -> Inputs:
        encodings = tokenizer.encode_batch(texts)
        return {
            "input_ids": np.array([encoding.ids for encoding in encodings]),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings]),
            "token_type_ids": np.array([encoding.type_ids for encoding in encodings]),
        }

    try:
        model = openvino.Core().read_model(folder / MODEL)
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        tokenizer.enable_truncation(max_tokens)
        tokenizer.enable_padding()
        unknown = {port.get_any_name() for port in model.inputs} - set(tokenise(["a"]))
        if unknown:
            raise ValueError(f"it asks for {', '.join(sorted(unknown))}")
        return Encoder(model, tokenise, batch_size=batch_size)
    except Exception as error:  # each library raises its own kinds
        raise InputError(
            f"{folder}: not an ONNX text encoder with its tokenizer "
            f"({type(error).__name__}: {' '.join(str(error).split())})"
        ) from error


def from_sentence_transformers(loaded: Any, *, batch_size: int, dtype: str) -> Encoder:
    """The encoder that a loaded SentenceTransformer is, all of its modules included.

    Args:
        loaded: the model, on the CPU; it gives the tokenizer and its limit.
        batch_size: most texts encoded at once.
        dtype: see `Encoder`.

    Raises:
        Exception: of OpenVINO's or PyTorch's own kinds; the model cannot be converted.
    """
    import openvino
    import torch

    sample = loaded.preprocess(list(_SAMPLE))
    names = [name for name, value in sample.items() if isinstance(value, torch.Tensor)]

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = loaded

        def forward(self, *values: torch.Tensor) -> torch.Tensor:
            features = self.model(dict(zip(names, values, strict=True)))
            vectors: torch.Tensor = features["sentence_embedding"]
            return vectors

    whole = Whole().eval()
    with torch.no_grad():
        model = openvino.convert_model(whole, example_input=tuple(sample[n] for n in names))
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})

    def tokenise(texts: list[str]) -> Inputs:
        given = loaded.preprocess(texts)
        return {name: given[name].numpy() for name in names}

    return Encoder(
        model, tokenise, batch_size=batch_size, dtype=dtype, threads=torch.get_num_threads()
    )
