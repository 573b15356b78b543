"""String similarity: normalised Levenshtein and Indel.

Both are 1 - distance / largest possible distance, in [0, 1]: Levenshtein counts insertions,
deletions and substitutions (largest: the longer length); Indel counts insertions and deletions
(largest: the sum of lengths). Computed by rapidfuzz.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Indel, Levenshtein

Metric = Literal["levenshtein", "indel"]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Positions = np.ndarray[Any, np.dtype[np.int64]]

METRICS: tuple[Metric, ...] = ("levenshtein", "indel")

SCORERS: dict[Metric, Any] = {
    "levenshtein": Levenshtein.normalized_similarity,
    "indel": Indel.normalized_similarity,
}


def pairwise(metric: Metric, left: Sequence[str], right: Sequence[str], threads: int = 1) -> Floats:
    """Similarity of left[i] to right[i], float32 in [0, 1], shape (texts,)."""
    scores: Floats = process.cpdist(
        left, right, scorer=SCORERS[metric], dtype=np.float32, workers=threads
    )
    return scores
