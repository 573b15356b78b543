"""What a study takes, before anything of it is downloaded: samples, tokens, hours, disk, memory.

Rates are measured for some seconds on this machine, with a model and an embedder that are here
(`machine`), and scaled to those of the study by their number of weights: one token takes about two
operations a weight. That is a rough guide; the tokens are the most that the limits allow.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from alignment_extraction.files import InputError, read_json
from alignment_extraction.machine import Rates
from alignment_extraction.settings.config import ModelSettings, Params
from alignment_extraction.settings.studies import IndexSettings, StudySettings

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
_PREFIX, _TEXT_TOKENS = 128, 256  # tokens of a prefix and of a row, roughly
_ROW_RATE, _SCORE_RATE = 5e3, 5e4  # rows read and scores computed in a second, roughly
_LARGE_EMBEDDER = 1e8
"""Weights above which an embedder has 1,024 dimensions, as bge-m3 has, and not 384."""


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
    compared = [model for pair in study.likelihood for model in (pair.before, pair.after)]
    models = {
        model: _weights(model, params.models[model].parameters, _model_file(params, model, folder))
        for model in [*study.sampled_models, *compared]
    }
    sizes = {
        model: _file_bytes(params.models[model], size, _model_file(params, model, folder))
        for model, size in models.items()
    }
    dimension = 1024 if weights > _LARGE_EMBEDDER else 384
    samples = sum(study.cell_sampling(cell).samples for cell in study.cells())
    texts, pairs = (rows + samples) * parts, float(samples) * rows * parts
    scored = samples * parts * 2.0
    steps = [
        Step("models", len(sizes), len(sizes), "files", "", 0, sum(sizes.values()), 0),
        Step("corpus", 1, rows, "rows", "CPU", rows / _ROW_RATE / 3600, rows * _ROW_BYTES, 2e9),
        _generate(study, models, sizes, rates),
        Step(
            "embed",
            jobs=1 + len([*study.cells()]),
            amount=texts,
            unit="texts",
            device=rates.device,
            hours=texts * weights / rates.embedding / 3600,
            disk=texts * dimension * 4,
            memory=weights * 4 + 100_000 * dimension * 4 * 2,
        ),
        _search(study.index, rows, samples, parts, dimension, rates),
        Step(
            "strings",
            jobs=1,
            amount=pairs,
            unit="pairs",
            device="CPU",
            hours=pairs / rates.pairs / 3600,
            disk=samples * 200,
            memory=rows * 2500,
        ),
        *(
            _likelihood(pair.before, pair.after, rows, models, sizes, rates)
            for pair in study.likelihood
        ),
        Step(
            "score",
            jobs=1,
            amount=scored,
            unit="scores",
            device="CPU",
            hours=scored / _SCORE_RATE / 3600,
            disk=scored * 40,
            memory=scored * 1500,
        ),
    ]
    return [step._replace(memory=step.memory + _PROCESS) for step in steps]


def _generate(
    study: StudySettings, models: Mapping[str, float], sizes: Mapping[str, float], rates: Rates
) -> Step:
    """Sampling of all cells, each sample as long as its limits allow."""
    tokens, seconds, memory, jobs = 0, 0.0, 0.0, 0
    for cell in study.cells():
        about, weights = study.cell_sampling(cell), models[cell.model]
        limit = about.max_tokens + (about.max_answer_tokens if about.answer else 0)
        tokens += about.samples * limit
        seconds += about.samples * limit * weights / rates.sampling
        cache = _cache_bytes(weights, about.slots * (limit + _PREFIX))
        memory = max(memory, sizes[cell.model] + cache)
        jobs += -(-about.samples // about.shard)
    disk = tokens * _TOKEN_BYTES
    return Step("generate", jobs, tokens, "tokens", rates.device, seconds / 3600, disk, memory)


def _search(
    index: IndexSettings, rows: int, samples: int, parts: int, dimension: int, rates: Rates
) -> Step:
    pairs, searched = float(samples) * rows * parts, (rows + samples) * dimension * 4
    if index.exact:
        hours = pairs * dimension / rates.products / 3600
        return Step("search", 1, pairs, "pairs", rates.device, hours, 0, searched)
    # Annoy looks at search_k rows for a query, on one thread, slower than a product by far.
    wanted = index.search_k if index.search_k > 0 else index.trees * index.candidates
    products = 10 * samples * parts * min(rows, wanted) * dimension
    size = rows * dimension * 4 * 1.5
    hours = products / rates.products / 3600
    return Step("search", 1, pairs, "pairs", "CPU", hours, size, searched + size)


def _likelihood(
    before: str,
    after: str,
    rows: int,
    models: Mapping[str, float],
    sizes: Mapping[str, float],
    rates: Rates,
) -> Step:
    """Every row under both models, with and without the template."""
    tokens = rows * 2 * _TEXT_TOKENS
    hours = tokens * (models[before] + models[after]) / rates.sampling / 3600
    memory = max(sizes[before], sizes[after])
    return Step("likelihood", 1, tokens, "tokens", rates.device, hours, rows * 400, memory)


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
