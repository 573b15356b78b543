"""Embedding with MiniLM in float32 and bfloat16, against sentence-transformers as it comes.

    python benchmarks/embedding.py    # needs data/raw/gsm8k_train.jsonl

Texts a second in the fastest of several rounds, by the clock and by the processor's own time (on a
busy machine the second is what compares), and by how much each form moves the cosines of texts with
versions of themselves.
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

TEXTS = 400
REPEATS = 5
PEER = "sentence-transformers, float32, batches of 64"
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


def main() -> None:
    stream = random.Random(0)
    lines = shared_data("gsm8k_train.jsonl").read_text().splitlines()[: TEXTS // 4]
    own = [json.loads(line)["question"] for line in lines]
    texts = own + [edited(text, edits, stream) for text in own for edits in (1, 3, 8)]
    folder = ROOT / "data" / "embedders" / "minilm"
    peer = SentenceTransformer(str(folder), local_files_only=True)
    forms: dict[str, Callable[[list[str]], Any]] = {
        PEER: lambda given: peer.encode(given, batch_size=64, normalize_embeddings=True),
        **{dtype: Embedder(folder, dtype=dtype).embed for dtype in ("float32", "bfloat16")},
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    vectors = {}
    for _ in range(REPEATS):
        for name, encode in forms.items():
            clock, processor = time.perf_counter(), time.process_time()
            vectors[name] = encode(texts)
            taken = (time.perf_counter() - clock, time.process_time() - processor)
            seconds[name].append(taken)
    pairs = np.triu_indices(len(texts), 1)
    right = (vectors[PEER] @ vectors[PEER].T)[pairs]
    figures: dict[str, Any] = {}
    for name, found in vectors.items():
        clock, processor = (min(times) for times in zip(*seconds[name], strict=True))
        figures[name] = {
            "texts/s": round(len(texts) / clock, 1),
            "texts per processor second": round(len(texts) / processor, 1),
        }
        change = np.abs((found @ found.T)[pairs] - right)
        for low, high in BANDS if name != PEER else ():
            inside = change[(right > low) & (right <= high)].astype(np.float64)
            figures[name][f"cosine {low} to {high}"] = {
                "pairs": len(inside),
                "largest change": float(f"{inside.max():.2g}"),
                "root mean square": float(f"{np.sqrt((inside**2).mean()):.2g}"),
            }
    write("embedding", {"texts": len(texts), "threads": THREADS, "repeats": REPEATS, **figures})


if __name__ == "__main__":
    main()
