"""What a study takes, before anything of it is downloaded: samples, tokens, hours, disk, memory.

Rates are measured for some seconds on this machine, with a model and an embedder that are here
(`machine`), and scaled to those of the study by their number of weights: one token takes about two
operations per weight. That is a rough guide; the tokens are the most that the limits allow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from alignment_extraction import layout
from alignment_extraction.files import InputError, read_json
from alignment_extraction.machine import Rates
from alignment_extraction.settings.config import Params
from alignment_extraction.settings.studies import StudySettings

_BITS = {"Q4": 4.9, "Q5": 5.7, "Q6": 6.6, "Q8": 8.5, "F16": 16.0}
"""Bits per weight of llama.cpp's quantisations, as far into their names as they differ."""
_ROW_BYTES, _TOKEN_BYTES = 1600, 6
"""Of a corpus row and of a generated token with its text, compressed: Tulu 3's mixture has 939,343
rows in 1.41 GB."""
_HEAD = 128
"""Width of an attention head; models of 12 layers x width^2 weights have width / 128 layers."""
_PROCESS = 0.7e9  # bytes of a process with PyTorch or llama.cpp loaded
_TEXT_TOKENS, _PREFIX = 256, 128  # tokens of a row and of a prefix, roughly
_ROW_RATE, _SCORE_RATE = 5e3, 5e4  # rows read and scores made per second, roughly
_LARGE_EMBEDDER = 1e8
"""Weights above which an embedder has 1,024 dimensions, as bge-m3 has, and not 384."""


class Step(NamedTuple):
    """One kind of job of a study."""

    name: str
    amount: float
    unit: str
    device: str
    seconds: float
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


def _model_weights(params: Params, name: str) -> float:
    path = Path(layout.model_file(params, name))
    return _weights(name, params.models[name].parameters, path)


def _model_bytes(params: Params, name: str) -> float:
    path, about = Path(layout.model_file(params, name)), params.models[name]
    if path.is_file():
        return path.stat().st_size
    kind = (about.source and about.source.file) or about.quantisation
    bits = next((bits for mark, bits in _BITS.items() if mark in kind), 16.0)
    return _model_weights(params, name) * bits / 8


def _cache_bytes(weights: float, positions: float) -> float:
    """Key-value cache in half precision, of a model with a key head for each query head."""
    width = float((weights * _HEAD / 12) ** (1 / 3))
    return positions * 4 * width**2 / _HEAD


def _rows(params: Params, study: StudySettings) -> int:
    """Rows of a study's corpus, as it was built, or else as the settings say."""
    built = Path(layout.corpus_files(study.corpus)[2])
    if built.exists():
        return int(read_json(built)["usable"])
    counts = [
        source.limit or source.rows or sum(data.size for data in source.datasets.values())
        for source in params.corpora[study.corpus].sources
    ]
    if not counts or not all(counts):
        raise InputError(
            f"corpora.{study.corpus}: its number of rows is not known; build it first or give "
            "`rows` of each source"
        )
    return sum(counts)


def nearest_model(params: Params, name: str) -> Path | None:
    """The GGUF in data/models that is nearest in size to the study's models; None without one."""
    here = sorted(Path("data/models").rglob("*.gguf"))
    wanted = max(_model_bytes(params, model) for model in params.studies[name].used_models)
    return min(here, key=lambda path: abs(path.stat().st_size - wanted), default=None)


def plan(params: Params, name: str, rates: Rates) -> list[Step]:
    """The steps of study `name`.

    Args:
        params: the checked parameters.
        name: a study.
        rates: of the machine.

    Raises:
        InputError: no such study, or the size of a model or corpus is not known.
    """
    if name not in params.studies:
        raise InputError(f"{name!r}: no such study (there are {', '.join(params.studies)})")
    study = params.studies[name]
    rows, fields = _rows(params, study), len(study.fields)
    folder = Path(layout.embedder_folder(study.embedder))
    weights = _weights(study.embedder, params.embedders[study.embedder].parameters, folder)
    dimension = 1024 if weights > _LARGE_EMBEDDER else 384
    sizes = {model: _model_bytes(params, model) for model in study.used_models}
    samples = sum(study.sampling_of(c).samples for c in study.all_conditions())
    texts, pairs = (rows + samples) * fields, float(samples) * rows * fields
    scores, vectors = samples * fields * 2.0, texts * dimension * 4.0
    # Annoy looks at search_k rows for a query, on one thread, slower than a product by far.
    inspected = study.index.search_k
    inspected = inspected if inspected > 0 else study.index.trees * study.index.candidates
    exact = study.index.kind == "exact"
    products = pairs if exact else 10.0 * samples * fields * min(rows, inspected)
    steps = [
        Step("models", len(sizes), "files", "", 0, sum(sizes.values()), 0),
        Step("corpus", rows, "rows", "CPU", rows / _ROW_RATE, rows * _ROW_BYTES, 2e9),
        _sampling(params, study, rates),
        Step(
            *("embed", texts, "texts", rates.device, texts * weights / rates.embedding, vectors),
            memory=weights * 4 + 100_000 * dimension * 8,
        ),
        Step(
            *("search", pairs, "pairs", rates.device if exact else "CPU"),
            seconds=products * dimension / rates.products,
            disk=0 if exact else rows * dimension * 6.0,
            memory=vectors * (1 if exact else 2.5),
        ),
        Step(
            *("strings", pairs, "pairs", "CPU", pairs / rates.pairs, samples * 200.0),
            memory=rows * 2500.0,
        ),
        *([_likelihood(params, study, rows, rates)] if study.likelihood else []),
        Step(
            *("analyse", scores, "scores", "CPU", scores / _SCORE_RATE, scores * 40),
            memory=scores * 1500,
        ),
    ]
    return [step._replace(memory=step.memory + _PROCESS) for step in steps]


def _sampling(params: Params, study: StudySettings, rates: Rates) -> Step:
    """Sampling of all conditions, each sample as long as its limits allow."""
    tokens, seconds, memory = 0, 0.0, 0.0
    for condition in study.all_conditions():
        about, weights = study.sampling_of(condition), _model_weights(params, condition.model)
        limit = about.max_tokens + (about.max_answer_tokens if about.answer else 0)
        tokens += about.samples * limit
        seconds += about.samples * limit * weights / rates.sampling
        cache = _cache_bytes(weights, about.slots * (limit + _PREFIX))
        memory = max(memory, _model_bytes(params, condition.model) + cache)
    disk = float(tokens * _TOKEN_BYTES)
    return Step("generate", tokens, "tokens", rates.device, seconds, disk, memory)


def _likelihood(params: Params, study: StudySettings, rows: int, rates: Rates) -> Step:
    """Row risk: every row under every scored model, with and without the template."""
    models = study.likelihood.models if study.likelihood else ()
    tokens = rows * 2 * _TEXT_TOKENS
    seconds = tokens * sum(_model_weights(params, m) for m in models) / rates.sampling
    memory = max(_model_bytes(params, model) for model in models)
    amount = tokens * len(models)
    return Step("row risk", amount, "tokens", rates.device, seconds, rows * 400.0, memory)


def table(steps: Sequence[Step]) -> str:
    """The plan as text, with its sums."""
    lines = [("step", "amount", "", "on", "hours", "disk, GB", "memory, GB")]
    lines += [
        (
            *(step.name, f"{step.amount:.4g}", step.unit, step.device),
            *(
                f"{step.seconds / 3600:,.2f}",
                f"{step.disk / 1e9:,.1f}",
                f"{step.memory / 1e9:,.1f}",
            ),
        )
        for step in steps
    ]
    for device in sorted({step.device for step in steps} - {""}):
        seconds = sum(step.seconds for step in steps if step.device == device)
        lines.append(("all", "", "", device, f"{seconds / 3600:,.2f}", "", ""))
    lines.append(("all", "", "", "", "", f"{sum(step.disk for step in steps) / 1e9:,.1f}", ""))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i in (0, 2, 3) else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
