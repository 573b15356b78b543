"""Embedding with MiniLM in each form, against sentence-transformers as it comes.

    python benchmarks/embedding.py    # needs data/raw/gsm8k_train.jsonl

Texts a second, by the clock and by the processor's own time (on a busy machine the second is what
compares), and by how much each form moves the cosines of texts with versions of themselves.
"""

import json
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from record import ROOT, THREADS, shared_data, write
from sentence_transformers import SentenceTransformer

from alignment_extraction.search.embedding import Embedder

TEXTS = 800
BANDS = ((-1.0, 0.5), (0.5, 0.9), (0.9, 0.94), (0.94, 0.96), (0.96, 1.0))


def edited(text: str, edits: int, stream: random.Random) -> str:
    """The text with so many words changed, dropped or put in."""
    words = text.split()
    for _ in range(edits):
        place = stream.randrange(len(words))
        kind = stream.random()
        if kind < 0.4:
            words[place] = str(stream.randrange(100))
        elif kind < 0.7 and len(words) > 4:
            del words[place]
        else:
            words.insert(place, stream.choice(["red", "seven", "house", "teacher", "yesterday"]))
    return " ".join(words)


def timed(encode: Callable[[list[str]], Any], texts: list[str]) -> tuple[Any, dict[str, float]]:
    encode(texts[:64])
    clock, own = time.perf_counter(), time.process_time()
    vectors = encode(texts)
    seconds, own = time.perf_counter() - clock, time.process_time() - own
    return vectors, {
        "texts/s": round(len(texts) / seconds, 1),
        "texts per processor second": round(len(texts) / own, 1),
    }


def main() -> None:
    stream = random.Random(0)
    lines = shared_data("gsm8k_train.jsonl").read_text().splitlines()[: TEXTS // 4]
    own = [json.loads(line)["question"] for line in lines]
    texts = own + [edited(text, edits, stream) for text in own for edits in (1, 3, 8)]
    folder = ROOT / "data" / "embedders" / "minilm"
    peer = SentenceTransformer(str(folder), local_files_only=True)
    exact, rate = timed(lambda t: peer.encode(t, batch_size=64, normalize_embeddings=True), texts)
    figures: dict[str, Any] = {"sentence-transformers, float32, batches of 64": rate}
    pairs = np.triu_indices(len(texts), 1)
    right = (exact @ exact.T)[pairs]
    for dtype in ("float32", "bfloat16"):
        vectors, rate = timed(Embedder(folder, dtype=dtype).embed, texts)
        change = np.abs((vectors @ vectors.T)[pairs] - right)
        for low, high in BANDS:
            inside = change[(right > low) & (right <= high)].astype(np.float64)
            rate[f"cosine {low} to {high}"] = {  # type: ignore[assignment]
                "pairs": len(inside),
                "largest change": float(f"{inside.max():.2g}"),
                "root mean square": float(f"{np.sqrt((inside**2).mean()):.2g}"),
            }
        figures[f"OpenVINO, {dtype}"] = rate
    write("embedding", {"texts": len(texts), "threads": THREADS, **figures})


if __name__ == "__main__":
    main()
