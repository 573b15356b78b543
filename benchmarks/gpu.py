"""Sampling, embedding and exact search on one machine; called by gpu.sh.

Every figure is measured in a process of its own, one after another, for as long as there is time.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from record import BUILD, THREADS, small_model, smollm2, write

SLOTS = (64, 128, 256)
STEPS = (
    *(f"sample {model} {slots}" for model in ("smollm2", "small") for slots in SLOTS),
    "whole-run",
    *(f"embed {dtype}" for dtype in ("float32", "auto")),
    "exact",
    *(f"peer {model} {slots}" for model in ("smollm2", "small") for slots in SLOTS),
)


def draw(path: Path, slots: int, samples: int, max_tokens: int, layers: int) -> dict[str, Any]:
    """Tokens/s, texts included, of samples that all reach their limit."""
    from alignment_extraction.engine.model import Model
    from alignment_extraction.engine.sampling import sample

    with Model(path, threads=THREADS, gpu_layers=layers) as model:
        model.eog = frozenset()
        prefix = model.tokenize("<|im_start|>user\n")
        sample(model, prefix, slots, seed=0, max_tokens=4, slots=slots)
        start = time.perf_counter()
        sample(model, prefix, samples, seed=1, max_tokens=max_tokens, slots=slots)
        seconds = time.perf_counter() - start
    return {"tokens/s": round(samples * max_tokens / seconds, 1), "seconds": round(seconds, 1)}


def peer(path: Path, slots: int, small: bool, layers: int) -> dict[str, Any]:
    """llama-batched-bench's tokens/s, where peers.py has built it."""
    from peers import tool_path

    tool = tool_path("llama-batched-bench")
    if not tool.is_file():
        return {"left out": "llama-batched-bench is not built; run benchmarks/peers.py"}
    length = 16 if small else 128
    command = [str(tool), "-m", str(path), "-t", str(THREADS), "-c", str(slots * 256)]
    command += ["-b", "2048", "-ub", "512", "-npp", "32", "-ntg", str(length), "-npl", str(slots)]
    command += ["-ngl", str(999 if layers else 0), "--output-format", "jsonl"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    return {"tokens/s": float(json.loads(lines[-1])["speed_tg"])}


def embed(dtype: str, texts: int) -> dict[str, Any]:
    """Texts/s of MiniLM, and the largest change of a cosine near a threshold."""
    from alignment_extraction.models import sources
    from alignment_extraction.search.embedding import Embedder
    from alignment_extraction.settings import config

    folder = BUILD.parents[1] / "data" / "embedders" / "minilm"
    if not folder.is_dir():
        sources.fetch(config.load(Path("params.yaml")).embedders["minilm"].source, folder)
    model = Embedder(folder, dtype=dtype, batch_size=256)  # type: ignore[arg-type]
    numbers = np.random.default_rng(0).integers(2, 10_000, (texts, 6))
    given = [
        f"A shop sells {a} pens at {b} cents and {c} books at {d} cents each. On day {e} it gave a "
        f"discount of {f} cents on every book; how much did it take in, if all of them were sold?"
        for a, b, c, d, e, f in numbers
    ]
    model.embed(given[:512])
    start = time.perf_counter()
    model.embed(given)
    rate = texts / (time.perf_counter() - start)
    return {"dtype": model.dtype, "texts/s": round(rate, 1)}


def exact(rows: int, queries: int, dimension: int, device: str) -> dict[str, Any]:
    """Seconds of exact search, the copying of rows included."""
    from alignment_extraction.search.index import Exact

    stream = np.random.default_rng(0)
    vectors, asked = (stream.standard_normal((n, dimension), np.float32) for n in (rows, queries))
    Exact(vectors[:1000], device=device).search(asked[:100])
    start = time.perf_counter()
    Exact(vectors, device=device).search(asked)
    seconds = time.perf_counter() - start
    return {
        **{"rows": rows, "queries": queries, "dimension": dimension},
        **{"seconds": round(seconds, 2), "queries/s": round(queries / seconds, 1)},
    }


def run(step: str, cpu: bool) -> dict[str, Any]:
    """One figure."""
    layers = 0 if cpu else -1
    kind, *words = step.split()
    if kind in ("sample", "peer"):
        path, slots = (
            (smollm2() if words[0] == "smollm2" else small_model()),
            int(words[1]) // (8 if cpu else 1),
        )
        if kind == "peer":
            return peer(path, slots, cpu, layers)
        return draw(path, slots, slots if cpu else 4 * slots, 8 if cpu else 128, layers)
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "whole-run": lambda: draw(
            small_model(), 256, 256 if cpu else 100_000, 8 if cpu else 48, layers
        ),
        "embed": lambda: embed(words[0], 256 if cpu else 20_000),
        "exact": lambda: exact(
            *((20_000, 200, 64) if cpu else (1_000_000, 100_000, 1024)), "cpu" if cpu else "cuda"
        ),
    }
    return work[kind]()


def card() -> str:
    """The card's name and memory, as nvidia-smi gives them."""
    command = [
        "nvidia-smi",
        "--query-gpu=name,memory.total,driver_version",
        "--format=csv,noheader",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cpu", action="store_true", help="small sizes, an eighth of the sequences, no card"
    )
    parser.add_argument(
        "--until", type=float, default=time.time() + 500, help="Unix time to end at"
    )
    parser.add_argument("--step", help="one figure, as JSON on standard output")
    given = parser.parse_args()
    if given.step:
        print(json.dumps(run(given.step, given.cpu)))
        return
    found: dict[str, Any] = {}
    for step in STEPS:
        left = given.until - time.time()
        command = [sys.executable, __file__, "--step", step, *(["--cpu"] if given.cpu else [])]
        try:
            if left < 10:
                raise subprocess.TimeoutExpired(command, left)
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, timeout=left, check=True
            )
            found[step] = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            found[step] = "left out: no time"
        except subprocess.CalledProcessError as error:
            found[step] = f"failed with status {error.returncode}"
        print(f"{step}: {found[step]}", file=sys.stderr, flush=True)
    write(
        "gpu-cpu-path" if given.cpu else "gpu", {"card": "none" if given.cpu else card(), **found}
    )


if __name__ == "__main__":
    main()
