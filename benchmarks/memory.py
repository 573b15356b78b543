"""Memory stays flat: scoring 10,000 texts, and drawing 100,000 samples.

    python benchmarks/memory.py    # about 6 minutes on 2 cores; needs data/raw/gsm8k_train.jsonl

Resident memory is read after every progress report, which is after every batch.
"""

import json

import psutil
from record import THREADS, shared_data, small_model, smollm2, write

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.sampling import sample
from alignment_extraction.engine.scoring import score

TEXTS = 10_000
SAMPLES = 100_000
SHARD = 2_000
TOKENS = 12


class Watch:
    """Resident memory over time, in MB."""

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.megabytes: list[float] = []

    def __call__(self, _done: int = 0, _tokens: int = 0) -> None:
        self.megabytes.append(self.process.memory_info().rss / 1e6)

    def figures(self) -> dict[str, float]:
        """Start (after a tenth of the run), end and peak."""
        settled = self.megabytes[len(self.megabytes) // 10]
        values = {"after a tenth": settled, "end": self.megabytes[-1], "peak": max(self.megabytes)}
        return {f"{key}, MB": round(value) for key, value in values.items()}


def scoring() -> dict[str, float]:
    """10,000 texts, the beginnings of GSM8K questions, under SmolLM2."""
    lines = shared_data("gsm8k_train.jsonl").read_text().splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    watch = Watch()
    with Model(smollm2(), threads=THREADS) as model:
        tokens = [model.tokenize(question, special=False)[:TOKENS] for question in questions]
        texts = [([0], tokens[i % len(tokens)]) for i in range(TEXTS)]
        score(model, texts, progress=watch)
    return watch.figures()


def sampling() -> dict[str, float]:
    """100,000 samples of the small model in shards, as the workflow draws them."""
    watch = Watch()
    with Model(small_model(), threads=THREADS) as model:
        prefix = model.tokenize("<|im_start|>user\n")
        for first in range(0, SAMPLES, SHARD):
            sample(model, prefix, SHARD, seed=1, first=first, max_tokens=TOKENS, slots=64)
            watch()
    return watch.figures()


if __name__ == "__main__":
    write(
        "memory",
        {
            f"scoring {TEXTS:,} texts, SmolLM2": scoring(),
            f"sampling {SAMPLES:,} generations, 5.6M parameters": sampling(),
        },
    )
