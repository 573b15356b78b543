"""Scoring against llama-perplexity, and against llama-cpp-python's logits with numpy.

    python benchmarks/scoring.py    # about 9 minutes on 2 cores; needs data/raw/gsm8k_train.jsonl

All score the same GSM8K questions under the same model with the same threads, in turns.
llama-perplexity and the engine run with flash attention, as llama-perplexity comes, and with plain
attention, which is what the workflow scores with. llama-perplexity computes the logits of the
second half of its tokens only. The engine does the same work where each question's first half is
its context; and it scores whole questions, as the workflow does, which is more.
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
REPEATS = 5
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


def engine(path: Path, texts: list[str], *, flash_attention: bool, halves: bool = False) -> float:
    """The engine's rate, in the questions' tokens/s, tokenising included.

    With `halves` only the second half of each question's tokens is scored; all count.
    """
    with Model(path, threads=THREADS) as model:
        start = time.perf_counter()
        first = [model.eos if model.bos is None else model.bos]
        tokens = [model.tokenize(text, special=False) for text in texts]
        splits = [len(text) // 2 if halves else 0 for text in tokens]
        pairs = [(first + text[:at], text[at:]) for text, at in zip(tokens, splits, strict=True)]
        score(model, pairs, flash_attention=flash_attention)
        return sum(map(len, tokens)) / (time.perf_counter() - start)


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
    rates: dict[str, list[float]] = {}

    def note(name: str, rate: float) -> None:
        rates.setdefault(name, []).append(rate)

    for _ in range(REPEATS):
        for attention, flash in (("flash attention", True), ("plain attention", False)):
            peer = perplexity(path, texts, "auto" if flash else "off")
            note(f"llama-perplexity, {attention}", peer)
            for work, halves in (("second halves", True), ("all", False)):
                rate = engine(path, texts, flash_attention=flash, halves=halves)
                note(f"engine, {attention}, {work}", rate)
        note("Llama(logits_all=True) and numpy", logits_all(path, texts))
    middle = {name: median(values) for name, values in rates.items()}

    def ratio(ours: str, peer: str) -> float:
        return round(middle[ours] / middle[peer], 3)

    flash, plain = (f"llama-perplexity, {kind} attention" for kind in ("flash", "plain"))
    numpy = "Llama(logits_all=True) and numpy"
    write(
        "scoring",
        {
            "GSM8K questions": TEXTS,
            **{f"{name}, tokens/s": rate for name, rate in middle.items()},
            "ratio to llama-perplexity, same work, flash attention": ratio(
                "engine, flash attention, second halves", flash
            ),
            "ratio to llama-perplexity, same work, plain attention": ratio(
                "engine, plain attention, second halves", plain
            ),
            "ratio to llama-perplexity, all logits, flash attention": ratio(
                "engine, flash attention, all", flash
            ),
            "ratio to llama-perplexity, all logits, plain attention": ratio(
                "engine, plain attention, all", plain
            ),
            "ratio to llama-perplexity as it comes": ratio("engine, plain attention, all", flash),
            "ratio to Llama and numpy": ratio("engine, plain attention, all", numpy),
            "ratio to Llama and numpy, flash attention": ratio(
                "engine, flash attention, all", numpy
            ),
            "repeats": rates,
        },
    )


if __name__ == "__main__":
    main()
