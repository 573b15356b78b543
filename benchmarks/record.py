"""What the benchmarks share: the models they run, and how a result is written."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from alignment_extraction.models import sources  # noqa: E402
from alignment_extraction.provenance import processor  # noqa: E402
from alignment_extraction.settings import config  # noqa: E402
from tests.tiny_models import make_tiny_gguf, quantize  # noqa: E402

BUILD = ROOT / "benchmarks" / "build"
RESULTS = ROOT / "benchmarks" / "results"
THREADS = len(os.sched_getaffinity(0))


def smollm2() -> Path:
    """SmolLM2-135M-Instruct Q4_1, the workflow's copy or one fetched now."""
    path = ROOT / "data" / "models" / "smollm2.gguf"
    if not path.exists():
        source = config.load(ROOT / "params.yaml").models["smollm2"].source
        assert source is not None
        sources.fetch(source, path)
    return path


def small_model() -> Path:
    """A Llama of 5.6 million random parameters in Q8_0, the size of the controlled study's."""
    path = BUILD / "small-q8.gguf"
    if not path.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        full = make_tiny_gguf(
            BUILD / "small.gguf",
            hidden=256,
            ff=768,
            layers=6,
            vocab=2048,
            context=1024,
            end_probability=0.01,
        )
        quantize(full, path)
    return path


def shared_data(name: str) -> Path:
    """A published file, from data/raw/ (see data/README.md)."""
    path = ROOT / "data" / "raw" / name
    if not path.exists():
        raise SystemExit(f"{path.relative_to(ROOT)} is missing; see data/README.md")
    return path


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 1)


def write(name: str, figures: Mapping[str, Any]) -> None:
    """Write a benchmark's figures, and what they were measured on, to results/NAME.json."""
    about = {
        "machine": f"{processor()}, {THREADS} threads",
        "system": platform.system(),
        "llama-cpp-python": version("llama-cpp-python"),
        "load": round(os.getloadavg()[0], 1),
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({**figures, "measured on": about}, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(text)
    print(text)
