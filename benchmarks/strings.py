"""The search for best string matches against rapidfuzz's cdist over every pair.

    python benchmarks/strings.py          # about 5 minutes on 2 cores
    python benchmarks/strings.py quick    # 600 queries, 20,000 rows; prints, writes nothing

The corpus is reasoning-gym problems of many kinds, half of them GSM-Symbolic as in the project's
own corpus. Of the queries, a third are corpus rows with up to half of their characters edited, a
third are other problems of the same kinds, and a third are problems of kinds that the corpus lacks,
the hardest: few have a match that would spare the others. The peer computes both similarities of
every pair; as that would take hours, it is timed on a random sample of the queries against the
whole corpus, and compared by the time a pair takes. It runs twice, as it comes and with the score
cutoff 0.5. What it finds must be what the search found.
"""

import contextlib
import random
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import reasoning_gym
from rapidfuzz import process
from record import THREADS, write

from alignment_extraction.search.string_search import (
    LEAST_SIMILARITY,
    METRICS,
    SCORERS,
    Metric,
    StringMatches,
    best_matches,
)

REPEATS = 3
HALF = "gsm_symbolic"
KINDS = (
    *("basic_arithmetic", "spell_backward", "letter_counting", "leg_counting", "syllogism"),
    *("knights_knaves", "family_relationships", "course_schedule", "time_intervals", "dice"),
    *("word_sequence_reversal", "number_sorting", "binary_matrix", "simple_geometry"),
    *("propositional_logic", "shortest_path", "caesar_cipher", "calendar_arithmetic"),
)
OTHER_KINDS = (
    *("aiw", "self_reference", "letter_jumble", "ransom_note", "number_format"),
    *("bitwise_arithmetic", "sentence_reordering", "coin_flip", "products"),
)


def problems(kinds: Sequence[str], size: int, seed: int) -> list[str]:
    """The same number of each kind, `size` in all."""
    texts: list[str] = []
    for number, kind in enumerate(kinds):
        share = size * (number + 1) // len(kinds) - size * number // len(kinds)
        drawn = reasoning_gym.create_dataset(kind, seed=seed, size=share)
        for index in range(share):
            # A few generators divide by a zero that they drew themselves.
            with contextlib.suppress(Exception):
                texts.append(str(drawn[index]["question"]))
    return texts


def mixture(size: int, seed: int) -> list[str]:
    """Problems of the corpus's kinds."""
    return problems([HALF], size // 2, seed) + problems(KINDS, size - size // 2, seed)


def edited(text: str, stream: random.Random) -> str:
    """The text after insertions, deletions and substitutions at up to half of its characters."""
    letters = list(text)
    for _ in range(stream.randrange(len(letters) // 2 + 1)):
        at = stream.randrange(len(letters) + 1)
        letters[at : at + stream.randrange(2)] = stream.choices(text, k=stream.randrange(2))
    return "".join(letters)


def peer(
    queries: Sequence[str], corpus: Sequence[str], cutoff: float | None
) -> tuple[float, dict[Metric, StringMatches]]:
    """Seconds that cdist takes for both similarities of all pairs, and the matches it finds."""
    seconds, found = 0.0, {}
    for metric in METRICS:
        start = time.perf_counter()
        scores = process.cdist(
            queries, corpus, scorer=SCORERS[metric], score_cutoff=cutoff, workers=THREADS
        )
        seconds += time.perf_counter() - start
        best = scores.max(axis=1)
        reached = best >= LEAST_SIMILARITY
        found[metric] = StringMatches(
            np.where(reached, scores.argmax(axis=1), -1), np.where(reached, best, np.nan)
        )
    return seconds, found


def compare(queries: Sequence[str], corpus: Sequence[str], sample: int) -> dict[str, float]:
    """Nanoseconds a pair that the search and the peer take; their matches are the same."""
    start = time.perf_counter()
    matches = best_matches(queries, corpus, THREADS)
    times = {"search": (time.perf_counter() - start) / len(queries)}
    some = queries[:sample]
    for name, cutoff in (("cdist", None), ("cdist with cutoff", LEAST_SIMILARITY)):
        seconds, found = peer(some, corpus, cutoff)
        times[name] = seconds / len(some)
        for metric in METRICS:
            for ours, theirs in zip(matches[metric], found[metric], strict=True):
                np.testing.assert_array_equal(ours[: len(some)], theirs, f"{name}, {metric}")
    return {name: each / len(corpus) * 1e9 for name, each in times.items()}


def main(rows: int, queries: int, sample: int) -> dict[str, Any]:
    corpus = mixture(rows, seed=1)
    stream = random.Random(0)
    stream.shuffle(corpus)
    share = queries // 3
    kinds = {
        "edited rows": [edited(text, stream) for text in stream.sample(corpus, share)],
        "same kinds": mixture(share, seed=2),
        "other kinds": problems(OTHER_KINDS, share, seed=3),
    }
    times: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for texts in kinds.values():
        stream.shuffle(texts)
    for repeat in range(REPEATS):
        for kind, texts in kinds.items():
            times[kind].append(compare(texts[repeat::REPEATS], corpus, sample))
    figures: dict[str, Any] = {
        "corpus rows": len(corpus),
        "queries": sum(map(len, kinds.values())),
        "queries that cdist is timed on": len(kinds) * REPEATS * sample,
    }
    methods = ("search", "cdist", "cdist with cutoff")
    middle = {
        kind: {name: statistics.median(part[name] for part in parts) for name in methods}
        for kind, parts in times.items()
    }
    # A third of the queries each: the mean is the time over all.
    middle["all"] = {
        name: statistics.mean(middle[kind][name] for kind in kinds) for name in methods
    }
    for kind, each in middle.items():
        figures[kind] = {f"{name}, ns/pair": round(each[name], 1) for name in methods}
        for name in methods[1:]:
            figures[kind][f"ratio to {name}"] = round(each[name] / each["search"], 1)
    return {**figures, "repeats": times}


if __name__ == "__main__":
    if sys.argv[1:] == ["quick"]:
        print(main(rows=20_000, queries=600, sample=5))
    else:
        write("strings", main(rows=100_000, queries=20_000, sample=40))
