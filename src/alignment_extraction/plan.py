"""What a study takes, before anything of it is downloaded: samples, tokens, hours, disk, memory.

Sampling and embedding, which take nearly all of it, are measured for some seconds on this machine
and scaled by numbers of weights: a rough guide. The tokens are the most that the limits allow.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from alignment_extraction import layout
from alignment_extraction.files import InputError, read_json
from alignment_extraction.settings.config import Params
from alignment_extraction.vocabulary import SEARCHED_ROLES

_BITS = {"Q4": 4.9, "Q5": 5.7, "Q6": 6.6, "Q8": 8.5}
"""Bits per weight of llama.cpp's quantisations; 16 of any other."""
_ROW_BYTES, _TOKEN_BYTES = 1600, 6
"""Of a corpus row and of a generated token with its text, compressed: Tulu 3's mixture has 939,343
rows in 1.41 GB."""
_HEAD = 128
"""Width of an attention head; models of 12 layers x width^2 weights have width / 128 layers."""
_TEXT_TOKENS, _PREFIX = 256, 128  # tokens of a row and of a prefix, roughly
_PAIR_RATE, _PRODUCT_RATE, _GPU_PRODUCT_RATE = 1e7, 5e10, 1e13
"""Pairs of texts compared by string per second and core; products of numbers per second and core,
and per second on a GPU (docs/scale.md)."""
_LARGE_EMBEDDER = 1e8
"""Weights above which an embedder has 1,024 dimensions, as bge-m3 has, and not 384."""


class Rates(NamedTuple):
    """What this machine does in a second, and where: on `GPU` or `CPU`."""

    device: str
    sampling: float
    """Tokens times weights of a model."""
    embedding: float
    """Texts of some 70 tokens times weights of an embedder."""


class Step(NamedTuple):
    """A kind of job of a study: its work, the bytes that it leaves and its largest needs."""

    name: str
    amount: float
    unit: str
    device: str = ""
    seconds: float = 0
    disk: float = 0
    memory: float = 0


def measure(model: Path, embedder: Path, seconds: float = 8.0, gpu_layers: int = 0) -> Rates:
    """Measure this machine's rates, for about `seconds` each, with a GGUF and an embedder's folder.

    Raises an `InputError` where one of them cannot be loaded.
    """
    import llama_cpp

    from alignment_extraction.engine.model import Model
    from alignment_extraction.engine.sampling import sample
    from alignment_extraction.gpu import usable_gpu_layers
    from alignment_extraction.search.embedding import Embedder

    def rate(work: Callable[[], float]) -> float:
        """Amount of work per second, after a first piece of it."""
        work()
        start, done = time.perf_counter(), 0.0
        while time.perf_counter() - start < seconds:
            done += work()
        return done / (time.perf_counter() - start)

    layers, encode = usable_gpu_layers(gpu_layers), Embedder(embedder)
    texts = [f"Ann buys {i} apples and eats 3. How many does she have? " * 4 for i in range(128)]
    with Model(model, gpu_layers=layers) as loaded:
        start = [loaded.bos if loaded.bos is not None else loaded.eos or 0]

        def tokens() -> float:
            drawn = sample(loaded, start, 64, seed=0, max_tokens=32, slots=64)
            return float(drawn["question_tokens"].list.len().sum())

        sampling = rate(tokens) * llama_cpp.llama_model_n_params(loaded.handle)
    embedding = rate(lambda: len(encode.embed(texts))) * encode.weights
    return Rates("GPU" if layers else "CPU", sampling, embedding)


def faster(model: Path) -> str:
    """A sentence on Q8_0 where a GGUF draws faster in it here and the same; else an empty text."""
    from alignment_extraction.engine import forms
    from alignment_extraction.engine.model import Model

    with Model(model) as loaded:
        start = [loaded.bos if loaded.bos is not None else loaded.eos or 0]
        texts = [loaded.tokenize(f"Ann buys {i} apples and eats 3.") for i in range(32)]
        given = forms.measure(loaded, start, texts)
    form = forms.faster_form(model, given, start, texts)
    return f"{model}: {form.beside(given)} (`models.NAME.quantisation`)." if form else ""


def _known(name: str, *sizes: float | None) -> float:
    """The first size that is known."""
    if found := next(filter(None, sizes), None):
        return found
    raise InputError(
        f"{name}: its size is not known; fetch or build it first, or say it in params.yaml "
        "(`parameters`, a number of weights; of a corpus's source, `rows`)"
    )


def _model(params: Params, name: str) -> tuple[float, float]:
    """Weights and bytes of a model, by its settings or, roughly, by its file."""
    path, about = Path(layout.model_file(params, name)), params.models[name]
    size = path.stat().st_size if path.is_file() else None
    weights = _known(name, about.parameters, size)
    kind = about.quantisation or (about.source and about.source.file) or ""
    return weights, size or weights * next((_BITS[q] for q in _BITS if q in kind), 16) / 8


def _rows(params: Params, corpus: str) -> int:
    """Rows of a corpus that are searched, as it was built, or else as the settings say."""
    built = Path(layout.corpus_files(corpus)[2])
    if built.exists():
        groups = read_json(built)["sources"].items()
        searched = [own for name, own in groups if name.rpartition(".")[2] in SEARCHED_ROLES]
        return sum(own.get("usable", own["rows"]) for own in searched)
    counts = [
        source.limit or source.rows or 0
        for source in params.corpora[corpus].sources
        if source.role in SEARCHED_ROLES
    ]
    return int(_known(f"corpora.{corpus}", all(counts) and sum(counts)))


def nearest_model(params: Params, name: str) -> Path | None:
    """The GGUF in data/models that is nearest in size to the study's models; None without one."""
    here = sorted(Path("data/models").rglob("*.gguf"))
    wanted = max(_model(params, model)[1] for model in params.studies[name].used_models)
    return min(here, key=lambda path: abs(path.stat().st_size - wanted), default=None)


def plan(params: Params, name: str, rates: Rates) -> list[Step]:
    """The steps of study `name` at a machine's rates.

    Raises:
        InputError: no such study, or the size of a model or corpus is not known.
    """
    if name not in params.studies:
        raise InputError(f"{name!r}: no such study (there are {', '.join(params.studies)})")
    study, device, cores = params.studies[name], rates.device, os.cpu_count() or 1
    rows, fields = _rows(params, study.corpus), len(study.fields)
    models = {model: _model(params, model) for model in study.used_models}
    samples, tokens, work, most = 0, 0, 0.0, 0.0
    for condition in study.all_conditions():
        about, (weights, size) = study.sampling_of(condition), models[condition.model]
        limit = about.max_tokens + about.answer * about.max_answer_tokens
        samples += about.samples
        tokens += about.samples * limit
        work += about.samples * limit * weights
        # Keys and values in half precision, with a key head for each query head.
        cache = about.slots * (limit + _PREFIX) * 4 * (weights * _HEAD / 12) ** (2 / 3) / _HEAD
        most = max(most, size + cache)
    folder = Path(layout.embedder_folder(study.embedder))
    here = sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 4
    embedder = _known(study.embedder, params.embedders[study.embedder].parameters, here)
    dimension = 1024 if embedder > _LARGE_EMBEDDER else 384
    texts, queries, index = (rows + samples) * fields, samples * fields, study.index
    vectors, pairs = texts * dimension * 4, queries * rows
    if index.kind == "exact":
        place, trees = device, 0
        rate = _GPU_PRODUCT_RATE if device == "GPU" else _PRODUCT_RATE * cores
        searching = pairs * dimension / rate
    else:
        # Annoy looks at so many rows for a query, slower than a product by far.
        inspected = index.search_k if index.search_k > 0 else index.trees * index.candidates
        place, trees = "CPU", rows * dimension * 6
        searching = 10 * queries * min(rows, inspected) * dimension / _PRODUCT_RATE
    scored = [models[model] for model in (study.likelihood.models if study.likelihood else ())]
    passes = {"questions": 0.5, "conversations": 1, "all": 2}
    read = rows * _TEXT_TOKENS * (passes[study.likelihood.scored] if study.likelihood else 0)
    scoring = read * sum(weights for weights, _ in scored) / rates.sampling
    largest = max((size for _, size in scored), default=0)
    files, compared = sum(size for _, size in models.values()), pairs
    comparing = pairs / _PAIR_RATE / cores
    if index.strings == "near":  # and of the audit's texts every row, with a cutoff
        compared = queries * index.candidates * len(params.corpora[study.corpus].groups)
        comparing = (compared / 2e4 + index.audit * rows * fields / 4e5) / cores
    generating, embedding = work / rates.sampling, texts * embedder / rates.embedding
    return [
        Step("models", len(models), "files", disk=files),
        Step("corpus", rows, "rows", disk=rows * _ROW_BYTES, memory=2e9),
        Step("generate", tokens, "tokens", device, generating, tokens * _TOKEN_BYTES, most),
        Step("embed", texts, "texts", device, embedding, vectors, embedder * 4),
        Step("search", pairs, "pairs", place, searching, trees, vectors),
        Step("strings", compared, "pairs", "CPU", comparing, samples * 200, rows * 2500),
        Step("row risk", len(scored) * read, "tokens", device, scoring, rows * 400, largest),
    ]


def table(steps: Sequence[Step]) -> str:
    """The plan as text, with its sums."""
    row = "{:<9}{:>10}  {:<7}{:<4}{:>11}{:>10}{:>12}"
    lines = [row.format("step", "amount", "", "on", "hours", "disk, GB", "memory, GB")]
    for name, amount, unit, device, seconds, disk, memory in steps:
        numbers = f"{seconds / 3600:,.2f}", f"{disk / 1e9:,.1f}", f"{memory / 1e9:,.1f}"
        lines.append(row.format(name, f"{amount:.4g}", unit, device, *numbers))
    for device in sorted({step.device for step in steps} - {""}):
        hours = sum(step.seconds for step in steps if step.device == device) / 3600
        lines.append(row.format("all", "", "", device, f"{hours:,.2f}", "", ""))
    whole = f"{sum(step.disk for step in steps) / 1e9:,.1f}"
    return "\n".join(line.rstrip() for line in (*lines, row.format("all", *[""] * 4, whole, "")))
