"""How much of what a study does this machine does in a second."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alignment_extraction.corpora.conversations import Conversation, generate_rows
from alignment_extraction.files import InputError

_KINDS = ("gsm_symbolic", "knights_knaves", "course_schedule", "time_intervals", "dice")
"""Problems of reasoning-gym that rates are measured with: about 100 to 600 characters each."""


class Rates(NamedTuple):
    """What this machine does in a second."""

    device: str
    """`GPU` or `CPU`: where sampling, embedding and exact search run."""
    sampling: float
    """Tokens times weights of a model."""
    embedding: float
    """Texts times weights of an embedder."""
    products: float
    """Products of two numbers in exact search."""
    pairs: float
    """Pairs of texts in the string search."""


def _problems(kind: str, size: int, seed: int) -> list[str]:
    rows = (row for _, row, _ in generate_rows(kind, size, {}, seed))
    return [row.question for row in rows if isinstance(row, Conversation)]


def _steady(work: Callable[[], float], seconds: float) -> float:
    """Amount of work a second, over at least so many seconds after a first piece."""
    work()
    start, done = time.perf_counter(), 0.0
    while time.perf_counter() - start < seconds:
        done += work()
    return done / (time.perf_counter() - start)


def measure(model: Path, embedder: Path, *, seconds: float = 8.0, gpu_layers: int = 0) -> Rates:
    """Measure this machine's rates, for about four times `seconds`.

    Args:
        model: a GGUF.
        embedder: folder of a sentence-transformers model.
        seconds: of each measurement.
        gpu_layers: of the model on a GPU; where not 0, exact search uses one too.

    Raises:
        InputError: one of them cannot be loaded.
    """
    import llama_cpp

    from alignment_extraction.engine.model import Model
    from alignment_extraction.engine.sampling import sample
    from alignment_extraction.gpu import torch_device, usable_gpu_layers
    from alignment_extraction.search import encoder
    from alignment_extraction.search.embedding import Embedder
    from alignment_extraction.search.index import exact_search
    from alignment_extraction.search.string_search import best_matches

    if (embedder / encoder.MODEL).is_file():
        raise InputError(
            f"{embedder}: a bare ONNX file, whose number of weights is not known; name an embedder "
            "of sentence-transformers with --embedder"
        )
    layers = usable_gpu_layers(gpu_layers)
    device = torch_device("exact search") if gpu_layers else "cpu"
    texts = [text for kind in _KINDS for text in _problems(kind, 4000 // len(_KINDS), seed=0)]
    others = [text for kind in _KINDS for text in _problems(kind, 200 // len(_KINDS), seed=1)]
    stream = np.random.default_rng(0)
    with Model(model, gpu_layers=layers) as loaded:
        weights = float(llama_cpp.llama_model_n_params(loaded.handle))
        start = [loaded.bos if loaded.bos is not None else loaded.eos or 0]

        def draw() -> float:
            frame = sample(loaded, start, 64, seed=0, max_tokens=32, slots=64)
            return float(frame["question_tokens"].list.len().sum()) * weights

        sampling = _steady(draw, seconds)
    loaded_embedder = Embedder(embedder)
    embedding = _steady(
        lambda: len(loaded_embedder.embed(texts[:: len(texts) // 128])) * loaded_embedder.weights,
        seconds,
    )
    rows, queries = (stream.random((n, 1024), np.float32) for n in (16_384, 4096))

    def multiply() -> float:
        exact_search(rows, queries, device=device)
        return float(rows.size) * len(queries)

    def compare() -> float:
        best_matches(others, texts)
        return float(len(others)) * len(texts)

    return Rates(
        "GPU" if layers or device != "cpu" else "CPU",
        sampling,
        embedding,
        _steady(multiply, seconds),
        _steady(compare, seconds),
    )
