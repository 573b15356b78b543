"""Scoring against llama-perplexity, and against llama-cpp-python's logits with numpy.

    python benchmarks/scoring.py    # about 4 minutes on 2 cores; needs data/raw/gsm8k_train.jsonl

All three score the same GSM8K questions under the same model with the same threads, in turns.
"""

import json
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from llama_cpp import Llama
from peers import build
from record import THREADS, median, shared_data, smollm2, write

from alignment_extraction.model import Model
from alignment_extraction.scoring import score

REPEATS = 3
TEXTS = 250


def perplexity(model: Path, texts: list[str]) -> float:
    """llama-perplexity's rate at a context of 512, in tokens/s."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(texts))
        file.flush()
        command = [
            *(str(build()["llama-perplexity"]), "--model", str(model), "--file", file.name),
            *("--ctx-size", "512", "--batch-size", "512", "--threads", str(THREADS)),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(
        r"prompt eval time.*?([\d.]+) tokens per second", result.stderr + result.stdout
    )
    assert found, result.stderr[-2000:]
    return float(found[1])


def engine(path: Path, texts: list[str]) -> float:
    """The engine's rate, in target tokens/s, tokenising included."""
    with Model(path, threads=THREADS) as model:
        start = time.perf_counter()
        context = [model.eos if model.bos is None else model.bos]
        pairs = [(context, model.tokenize(text, special=False)) for text in texts]
        scores = score(model, pairs)
        return len(scores.log_probabilities) / (time.perf_counter() - start)


def logits_all(path: Path, texts: list[str]) -> float:
    """`Llama(logits_all=True)` and a log-softmax in numpy, one text at a time, in tokens/s."""
    llama = Llama(
        str(path),
        n_ctx=512,
        n_threads=THREADS,
        n_threads_batch=THREADS,
        logits_all=True,
        verbose=False,
    )
    start, tokens = time.perf_counter(), 0
    for text in texts:
        ids = [llama.token_bos(), *llama.tokenize(text.encode(), add_bos=False, special=False)]
        llama.reset()
        llama.eval(ids)
        logits = llama.scores[: len(ids) - 1]
        shifted = logits - logits.max(axis=1, keepdims=True)
        normaliser = np.log(np.exp(shifted).sum(axis=1))
        (shifted[np.arange(len(ids) - 1), ids[1:]] - normaliser).sum()
        tokens += len(ids) - 1
    return tokens / (time.perf_counter() - start)


def main() -> None:
    lines = shared_data("gsm8k_train.jsonl").read_text().splitlines()[:TEXTS]
    texts = [json.loads(line)["question"] for line in lines]
    path = smollm2()
    rates: dict[str, list[float]] = {"peer": [], "engine": [], "numpy": []}
    for _ in range(REPEATS):
        rates["peer"].append(perplexity(path, texts))
        rates["engine"].append(engine(path, texts))
        rates["numpy"].append(logits_all(path, texts))
    middle = {key: median(values) for key, values in rates.items()}
    write(
        "scoring",
        {
            "GSM8K questions": TEXTS,
            "llama-perplexity, tokens/s": middle["peer"],
            "Llama(logits_all=True) and numpy, tokens/s": middle["numpy"],
            "engine, tokens/s": middle["engine"],
            "ratio to llama-perplexity": round(middle["engine"] / middle["peer"], 3),
            "ratio to Llama and numpy": round(middle["engine"] / middle["numpy"], 2),
            "repeats": rates,
        },
    )


if __name__ == "__main__":
    main()
