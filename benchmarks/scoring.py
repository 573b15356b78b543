"""Scoring against llama-perplexity, and against llama-cpp-python's logits with numpy.

    python benchmarks/scoring.py    # about 11 minutes on 2 cores; needs data/raw/gsm8k_train.jsonl

All score the same GSM8K questions under the same model with the same threads, in turns.
llama-perplexity and the engine run twice: with flash attention, as llama-perplexity comes, and with
plain attention, which is what the workflow scores with. llama-perplexity computes the logits of the
second half of its tokens only, the engine those of all.
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

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.scoring import score

# Many short repeats in turns: a machine whose speed drifts is slow for all of them alike.
REPEATS = 7
TEXTS = 60


def perplexity(model: Path, texts: list[str], flash_attention: str) -> float:
    """llama-perplexity's rate at a context of 512, in tokens/s, without loading the model.

    From its total time, its own reduction of the logits included: its "prompt eval time" leaves out
    the first pass, but counts that pass's tokens.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(texts))
        file.flush()
        command = [
            *(str(build()["llama-perplexity"]), "--model", str(model), "--file", file.name),
            *("--ctx-size", "512", "--batch-size", "512", "--threads", str(THREADS)),
            *("--flash-attn", flash_attention, "--log-verbosity", "4"),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"total time = +([\d.]+) ms / +(\d+) tokens", result.stderr + result.stdout)
    assert found, result.stderr[-2000:]
    return int(found[2]) / float(found[1]) * 1000


def engine(path: Path, texts: list[str], *, flash_attention: bool) -> float:
    """The engine's rate, in target tokens/s, tokenising included."""
    with Model(path, threads=THREADS) as model:
        start = time.perf_counter()
        context = [model.eos if model.bos is None else model.bos]
        pairs = [(context, model.tokenize(text, special=False)) for text in texts]
        scores = score(model, pairs, flash_attention=flash_attention)
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
    rates: dict[str, list[float]] = {name: [] for name in ("peer", "engine", "numpy")}
    rates |= {f"{name}, plain": [] for name in ("peer", "engine")}
    for _ in range(REPEATS):
        rates["peer"].append(perplexity(path, texts, "auto"))
        rates["engine"].append(engine(path, texts, flash_attention=True))
        rates["peer, plain"].append(perplexity(path, texts, "off"))
        rates["engine, plain"].append(engine(path, texts, flash_attention=False))
        rates["numpy"].append(logits_all(path, texts))
    middle = {key: median(values) for key, values in rates.items()}

    def ratio(ours: str, peer: str) -> float:
        return round(middle[ours] / middle[peer], 3)

    write(
        "scoring",
        {
            "GSM8K questions": TEXTS,
            "llama-perplexity, tokens/s": middle["peer"],
            "llama-perplexity, plain attention, tokens/s": middle["peer, plain"],
            "Llama(logits_all=True) and numpy, tokens/s": middle["numpy"],
            "engine, flash attention, tokens/s": middle["engine"],
            "engine, tokens/s": middle["engine, plain"],
            "ratio to llama-perplexity, both with flash attention": ratio("engine", "peer"),
            "ratio to llama-perplexity, both with plain attention": ratio(
                "engine, plain", "peer, plain"
            ),
            "ratio to llama-perplexity as it comes": ratio("engine, plain", "peer"),
            "ratio to Llama and numpy": ratio("engine, plain", "numpy"),
            "ratio to Llama and numpy, flash attention": ratio("engine", "numpy"),
            "repeats": rates,
        },
    )


if __name__ == "__main__":
    main()
