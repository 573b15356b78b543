"""Sampling against llama.cpp's own batched benchmark and against llama-cpp-python's loop.

    python benchmarks/sampling.py             # steady rates, about 15 minutes on 2 cores
    python benchmarks/sampling.py whole-run   # 2,000 samples from the first to the last
    python benchmarks/sampling.py fastest     # the same weights in Q8_0, about 10 minutes

Peer and engine run in turns with the same model and threads; the figures are medians.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from llama_cpp import Llama
from peers import build
from record import BUILD, THREADS, median, small_model, smollm2, write

from alignment_extraction.engine.forms import FAST
from alignment_extraction.engine.model import Model
from alignment_extraction.engine.quantisation import quantise
from alignment_extraction.engine.sampling import sample
from alignment_extraction.generations.prefix import prefix_tokens

REPEATS = 3


def batched_bench(model: Path, sequences: int) -> float:
    """llama-batched-bench's generation rate, in tokens/s."""
    command = [
        *(str(build()["llama-batched-bench"]), "--model", str(model), "--threads", str(THREADS)),
        *("--ctx-size", str(sequences * 256), "--batch-size", "2048", "--ubatch-size", "512"),
        *("-npp", "32", "-ntg", "128", "-npl", str(sequences), "--output-format", "jsonl"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    return float(json.loads(lines[-1])["speed_tg"])


def engine(path: Path, sequences: int, samples: int) -> float:
    """The engine's rate while all slots are full, 128 tokens a sample, in tokens/s.

    No token ends a turn, so that every sample has the peer's length.
    """
    times: list[tuple[float, int, int]] = []

    def progress(done: int, tokens: int) -> None:
        times.append((time.perf_counter(), done, tokens))

    with Model(path, threads=THREADS) as model:
        model.eog = frozenset()
        prefix = (prefix_tokens(model, "full") * 32)[:32]
        sample(model, prefix, samples, seed=1, max_tokens=128, slots=sequences, progress=progress)
    full = [entry for entry in times if entry[1] <= samples - sequences]
    (start, _, first), (stop, _, last) = full[0], full[-1]
    return (last - first) / (stop - start)


def completion_loop(path: Path, samples: int) -> float:
    """A loop over `Llama.create_completion`, in tokens/s."""
    llama = Llama(str(path), n_ctx=512, n_threads=THREADS, verbose=False, seed=1)
    start, tokens = time.perf_counter(), 0
    for _ in range(samples):
        made = llama.create_completion(
            "<|im_start|>user\n", max_tokens=128, temperature=1, top_k=0, top_p=1, min_p=0
        )
        tokens += made["usage"]["completion_tokens"]
    return tokens / (time.perf_counter() - start)


def steady() -> None:
    """Rates with all slots full."""
    big, small = smollm2(), small_model()
    rates: dict[str, list[float]] = {key: [] for key in ("peer", "engine", "loop", "p6m", "e6m")}
    for _ in range(REPEATS):
        rates["peer"].append(batched_bench(big, 64))
        rates["engine"].append(engine(big, 64, 512))
        rates["loop"].append(completion_loop(big, 8))
        rates["p6m"].append(batched_bench(small, 32))
        rates["e6m"].append(engine(small, 32, 2048))
        print(rates, file=sys.stderr, flush=True)
    middle = {key: median(values) for key, values in rates.items()}
    write(
        "sampling",
        {
            "SmolLM2-135M Q4_1, 64 sequences": {
                "llama-batched-bench, tokens/s": middle["peer"],
                "engine, tokens/s": middle["engine"],
                "ratio": round(middle["engine"] / middle["peer"], 3),
                "Llama.create_completion, tokens/s": middle["loop"],
                "ratio to it": round(middle["engine"] / middle["loop"], 2),
            },
            "5.6M parameters Q8_0, 32 sequences": {
                "llama-batched-bench, tokens/s": middle["p6m"],
                "engine, tokens/s": middle["e6m"],
                "ratio": round(middle["e6m"] / middle["p6m"], 3),
            },
            "repeats": rates,
        },
    )


def fastest() -> None:
    """The same weights in Q8_0, beside the peer on the file as it was published."""
    published, fast = smollm2(), BUILD / "smollm2-q8.gguf"
    if not fast.exists():
        quantise(published, fast, FAST)
    rates: dict[str, list[float]] = {key: [] for key in ("peer", "fast peer", "fast engine")}
    for _ in range(REPEATS):
        rates["peer"].append(batched_bench(published, 64))
        rates["fast peer"].append(batched_bench(fast, 64))
        rates["fast engine"].append(engine(fast, 64, 384))
        print(rates, file=sys.stderr, flush=True)
    peer, same, own = (median(values) for values in rates.values())
    write(
        "sampling-fastest",
        {
            "SmolLM2-135M Q4_1, llama-batched-bench, tokens/s": peer,
            "in Q8_0, llama-batched-bench, tokens/s": same,
            "in Q8_0, engine, tokens/s": own,
            "engine in Q8_0 to llama-batched-bench in Q8_0": round(own / same, 3),
            "engine in Q8_0 to llama-batched-bench in Q4_1": round(own / peer, 2),
            "repeats": rates,
        },
    )


def whole_run(samples: int = 2000) -> None:
    """One run from loading the prefix to the last text, samples ending where they end."""
    path = smollm2()
    before = batched_bench(path, 64)
    with Model(path, threads=THREADS) as model:
        start = time.perf_counter()
        frame = sample(
            model, prefix_tokens(model, "full"), samples, seed=1, max_tokens=128, slots=64
        )
        seconds = time.perf_counter() - start
    after = batched_bench(path, 64)
    # The end token is drawn and decoded like any other.
    tokens = int(
        frame["question_tokens"].list.len().sum() + (frame["question_finish"] == "stop").sum()
    )
    peer = median([before, after])
    write(
        "sampling-whole-run",
        {
            "samples": samples,
            "tokens": tokens,
            "seconds": round(seconds, 1),
            "engine, tokens/s": round(tokens / seconds, 1),
            "llama-batched-bench before and after, tokens/s": [before, after],
            "ratio": round(tokens / seconds / peer, 3),
        },
    )


if __name__ == "__main__":
    {"whole-run": whole_run, "fastest": fastest}.get(sys.argv[-1], steady)()
