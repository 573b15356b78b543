"""What a study takes, before anything of it is downloaded: samples, tokens, hours, disk, memory.

Rates are measured for some seconds on this machine, with a model and an embedder that are here, and
scaled to those of the study by their number of weights: one token takes about two operations a
weight. That is a rough guide; the tokens are the most that the limits allow.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alignment_extraction.files import InputError, read_json
from alignment_extraction.settings.config import ModelSettings, Params
from alignment_extraction.settings.studies import StudySettings

_BITS = {
    "Q4_0": 4.55,
    "Q4_1": 5.0,
    "Q4_K": 4.85,
    "Q5_K": 5.7,
    "Q6_K": 6.6,
    "Q8_0": 8.5,
    "F16": 16.0,
}
"""Bits a weight of llama.cpp's quantisations, as far into their names as they differ."""
_ROW_BYTES = 1600
"""Of a corpus row compressed: Tulu 3's mixture has 939,343 rows in 1.41 GB."""
_TOKEN_BYTES = 6
"""Of a generated token and its text, compressed."""
_HEAD = 128
"""Width of an attention head; models of 12 layers x width^2 weights have width / 128 layers."""
_PROCESS = 0.7e9  # bytes of a process with PyTorch or llama.cpp loaded
_WORDS = 40  # of a text that rates are measured with


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


class Step(NamedTuple):
    """One kind of job of a study."""

    name: str
    jobs: int
    amount: float
    unit: str
    device: str
    hours: float
    disk: float
    """Bytes of what it leaves."""
    memory: float
    """Bytes that the largest of its jobs needs; on a GPU, mostly of the GPU's."""


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
    from alignment_extraction.search.embedding import Embedder
    from alignment_extraction.search.index import exact_search
    from alignment_extraction.search.string_search import best_matches

    layers = usable_gpu_layers(gpu_layers)
    device = torch_device("exact search") if gpu_layers else "cpu"
    stream = np.random.default_rng(0)
    words = np.array(["".join(stream.choice(list("etaoinshrdlu"), 5)) for _ in range(5000)])
    texts = [" ".join(row) for row in stream.choice(words, (4000, _WORDS))]
    with Model(model, gpu_layers=layers) as loaded:
        weights = float(llama_cpp.llama_model_n_params(loaded._model))
        start = [loaded.bos if loaded.bos is not None else loaded.eos or 0]

        def draw() -> float:
            frame = sample(loaded, start, 64, seed=0, max_tokens=32, slots=64)
            return float(frame["question_tokens"].list.len().sum()) * weights

        sampling = _steady(draw, seconds)
    encoder = Embedder(embedder)
    size = sum(parameter.numel() for parameter in encoder._model.parameters())
    embedding = _steady(lambda: len(encoder.embed(texts[:128])) * size, seconds)
    rows, queries = (stream.random((n, 1024), np.float32) for n in (16_384, 4096))

    def multiply() -> float:
        exact_search(rows, queries, device=device)
        return float(rows.size) * len(queries)

    def compare() -> float:
        best_matches(texts[:20], texts[20:])
        return 20.0 * (len(texts) - 20)

    return Rates(
        "GPU" if layers or device != "cpu" else "CPU",
        sampling,
        embedding,
        _steady(multiply, seconds),
        _steady(compare, seconds),
    )


def _weights(name: str, parameters: float | None, path: Path) -> float:
    """Weights of a model, as the settings say or, roughly, as its file's size does."""
    if parameters is not None:
        return parameters
    if path.is_file():
        return path.stat().st_size
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*.safetensors")) / 4
    raise InputError(
        f"{name}: its size is not known; fetch it first or give `parameters`, its number of weights"
    )


def _file_bytes(about: ModelSettings, weights: float, path: Path) -> float:
    if path.is_file():
        return path.stat().st_size
    name = (about.source and about.source.file) or about.quantisation
    bits = next((bits for kind, bits in _BITS.items() if kind in name), 16.0)
    return weights * bits / 8


def _cache_bytes(weights: float, positions: float) -> float:
    """Key-value cache in half precision, of a model with a key head for each query head."""
    width = float((weights * _HEAD / 12) ** (1 / 3))
    return positions * 4 * width**2 / _HEAD


def _rows(params: Params, study: StudySettings, folder: Path) -> int:
    """Rows of a study's corpus, as it was built, or else as the settings say."""
    built = folder / "corpora" / study.corpus / "statistics.json"
    if built.exists():
        return int(read_json(built)["usable"])
    sources = params.corpora[study.corpus].sources
    known = [source.limit or source.rows for source in sources]
    generated = [sum(data.size for data in source.datasets.values()) for source in sources]
    counts = [a or b for a, b in zip(known, generated, strict=True)]
    if not counts or not all(counts):
        raise InputError(
            f"corpora.{study.corpus}: its number of rows is not known; build it first or give "
            "`rows` of each source"
        )
    return sum(count or 0 for count in counts)


def plan(params: Params, name: str, rates: Rates, folder: Path = Path("data")) -> list[Step]:
    """The steps of study `name`.

    Args:
        params: the checked parameters.
        name: a study.
        rates: of the machine.
        folder: where models, embedders and corpora lie once they are there.

    Raises:
        InputError: no such study, or the size of a model or corpus is not known.
    """
    if name not in params.studies:
        raise InputError(f"{name!r}: no such study (there are {', '.join(params.studies)})")
    study = params.studies[name]
    rows, parts = _rows(params, study, folder), len(study.parts)
    embedder = params.embedders[study.embedder]
    weights = _weights(study.embedder, embedder.parameters, folder / "embedders" / study.embedder)
    dimension = 1024 if weights > 1e8 else 384
    compared = [model for pair in study.likelihood for model in (pair.before, pair.after)]
    models = {
        model: _weights(model, params.models[model].parameters, _model_file(params, model, folder))
        for model in [*study.sampled_models, *compared]
    }
    sizes = {
        model: _file_bytes(params.models[model], size, _model_file(params, model, folder))
        for model, size in models.items()
    }
    steps = [
        Step("models", len(sizes), len(sizes), "files", "", 0, sum(sizes.values()), 0),
        Step("corpus", 1, rows, "rows", "CPU", rows / 5e3 / 3600, rows * _ROW_BYTES, 2e9),
    ]
    samples, tokens, seconds, memory, jobs = 0, 0, 0.0, 0.0, 0
    for cell in study.cells():
        about, size = study.cell_sampling(cell), models[cell.model]
        limit = about.max_tokens + (about.max_answer_tokens if about.answer else 0)
        samples += about.samples
        tokens += about.samples * limit
        seconds += about.samples * limit * size / rates.sampling
        memory = max(memory, sizes[cell.model] + _cache_bytes(size, about.slots * (limit + 128)))
        jobs += -(-about.samples // about.shard)
    place, disk = rates.device, tokens * _TOKEN_BYTES
    steps.append(Step("generate", jobs, tokens, "tokens", place, seconds / 3600, disk, memory))
    texts = (rows + samples) * parts
    hours = texts * weights / rates.embedding / 3600
    disk = texts * dimension * 4
    memory = weights * 4 + 100_000 * dimension * 4 * 2
    steps.append(
        Step("embed", 1 + len([*study.cells()]), texts, "texts", place, hours, disk, memory)
    )
    pairs = float(samples) * rows * parts
    searched = rows * dimension * 4 + samples * dimension * 4
    if study.index.exact:
        hours = pairs * dimension / rates.products / 3600
        steps.append(Step("search", 1, pairs, "pairs", place, hours, 0, searched))
    else:
        # Annoy looks at search_k rows for a query, on one thread, slower than a product by far.
        index = study.index
        wanted = index.search_k if index.search_k > 0 else index.trees * index.candidates
        inspected = min(rows, wanted)
        hours = 10 * samples * parts * inspected * dimension / rates.products / 3600
        size = rows * dimension * 4 * 1.5
        steps.append(Step("search", 1, pairs, "pairs", "CPU", hours, size, searched + size))
    hours = pairs / rates.pairs / 3600
    steps.append(Step("strings", 1, pairs, "pairs", "CPU", hours, samples * 200, rows * 2500))
    for pair in study.likelihood:
        length = rows * 2 * 256
        work = length * (models[pair.before] + models[pair.after])
        need = max(sizes[pair.before], sizes[pair.after]) + _PROCESS
        hours = work / rates.sampling / 3600
        steps.append(Step("likelihood", 1, length, "tokens", place, hours, rows * 400, need))
    scored = samples * parts * 2.0
    steps.append(
        Step("score", 1, scored, "scores", "CPU", scored / 5e4 / 3600, scored * 40, scored * 1500)
    )
    return [step._replace(memory=step.memory + _PROCESS) for step in steps]


def _model_file(params: Params, name: str, folder: Path) -> Path:
    """As in the workflow's rules: a trained model in F16 is used as the training wrote it."""
    model = params.models[name]
    if model.trained and model.quantisation == "F16":
        return folder / "models" / "trained" / f"{model.trained}.gguf"
    return folder / "models" / f"{name}.gguf"


def table(steps: Sequence[Step]) -> str:
    """The plan as text, with its sums."""
    lines = [("step", "jobs", "amount", "", "on", "hours", "disk, GB", "memory, GB")]
    for step in steps:
        lines.append(
            (
                step.name,
                f"{step.jobs:,}",
                f"{step.amount:.4g}",
                step.unit,
                step.device,
                f"{step.hours:,.2f}",
                f"{step.disk / 1e9:,.1f}",
                f"{step.memory / 1e9:,.1f}",
            )
        )
    for device in sorted({step.device for step in steps} - {""}):
        hours = sum(step.hours for step in steps if step.device == device)
        lines.append(("all", "", "", "", device, f"{hours:,.2f}", "", ""))
    disk = sum(step.disk for step in steps) / 1e9
    lines.append(("all", "", "", "", "", "", f"{disk:,.1f}", ""))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i in (0, 3, 4) else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
