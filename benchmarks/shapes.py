"""How often a sample depends on what is decoded beside it.

    python benchmarks/shapes.py    # about 3 minutes on 2 cores

The same samples are drawn in batches of other shapes and compared with those of 64 slots. The
engine makes batches of whole groups of 8 rows; the first rows show it, the last ones what other
batches or threads would do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from record import THREADS, small_model, smollm2, write

from alignment_extraction.engine import sampling, slots
from alignment_extraction.engine.model import Model

SAMPLES = 64
TOKENS = 48


def draw(path: Path, *, threads: int = THREADS, **options: Any) -> pl.DataFrame:
    """`SAMPLES` samples, the seed always the same."""
    with Model(path, threads=threads) as model:
        prefix = model.tokenize("<|im_start|>user\n")
        return sampling.sample(model, prefix, seed=1, max_tokens=TOKENS, **options)


def changed(wanted: pl.DataFrame, found: pl.DataFrame) -> str:
    """How many of the samples that both have are not the same tokens."""
    both = wanted.join(found, on="index", suffix="_found")
    differ = (both["question_tokens"] != both["question_tokens_found"]).sum()
    return f"{differ} of {both.height}"


@contextmanager
def rows_as_they_come() -> Iterator[None]:
    """Batches of any number of rows, which the engine never makes."""
    rule = slots.padded
    sampling.padded = slots.padded = lambda count: count
    try:
        yield
    finally:
        sampling.padded = slots.padded = rule


def measure(path: Path) -> dict[str, str]:
    """Changed samples by what is different from one run of 64 slots."""
    wanted = draw(path, n=SAMPLES, slots=64)
    half = SAMPLES // 2
    figures = {
        "8 slots": draw(path, n=SAMPLES, slots=8),
        "24 slots": draw(path, n=SAMPLES, slots=24),
        "from the middle, as after a restart": draw(path, n=half, first=half, slots=64),
    }
    with rows_as_they_come():
        figures["5 slots, rows not in groups of 8"] = draw(path, n=SAMPLES, slots=5)
        figures["1 slot, rows not in groups of 8"] = draw(path, n=SAMPLES, slots=1)
    figures["64 slots, 1 thread"] = draw(path, n=SAMPLES, slots=64, threads=1)
    return {name: changed(wanted, frame) for name, frame in figures.items()}


if __name__ == "__main__":
    write(
        "shapes",
        {
            f"changed samples of {TOKENS} tokens": {
                "SmolLM2-135M Q4_1": measure(smollm2()),
                "5.6M parameters Q8_0": measure(small_model()),
            }
        },
    )
