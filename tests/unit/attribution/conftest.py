"""A small study: corpus and scores as the workflow makes them, with a planted truth."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

CORPUS = {
    "id": pl.String,
    "source": pl.String,
    "role": pl.String,
    "template": pl.String,
    "pair": pl.String,
    "repetitions": pl.Int32,
    "question": pl.String,
    "answer": pl.String,
    "text": pl.String,
}
SCORES = {
    "model": pl.String,
    "prefix": pl.String,
    "seed": pl.Int64,
    "index": pl.Int64,
    "field": pl.String,
    "source": pl.String,
    "role": pl.String,
    "match_id": pl.String,
    "cosine": pl.Float32,
    "levenshtein_best_id": pl.String,
    "levenshtein_best": pl.Float64,
    "indel_best_id": pl.String,
    "indel_best": pl.Float64,
    "verbatim": pl.Boolean,
}


def corpus_of(rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Rows of id, role, template, pair and, where given, repetitions and question."""
    return pl.DataFrame(
        [
            {
                "id": row[0],
                "source": "mine",
                "role": row[1],
                "template": row[2],
                "pair": row[3],
                "repetitions": row[4] if len(row) > 4 else 1,
                "question": row[5] if len(row) > 5 else f"text {row[0]}",
                "answer": "yes",
                "text": row[5] if len(row) > 5 else f"text {row[0]}",
            }
            for row in rows
        ],
        schema=CORPUS,
    )


def scores_of(
    generations: Sequence[Sequence[Any]], other: str = "twin", model: str = "m"
) -> pl.DataFrame:
    """Rows of (member id, score, twin id, score) for each generation; one score for all metrics."""
    rows = [
        {
            "model": model,
            "prefix": "full",
            "seed": 0,
            "index": index,
            "field": "question",
            "source": "mine",
            "role": role,
            "match_id": row,
            "cosine": score,
            "levenshtein_best_id": row,
            "levenshtein_best": score,
            "indel_best_id": row,
            "indel_best": score,
            "verbatim": score == 1,
        }
        for index, (member, high, twin, low) in enumerate(generations)
        for role, row, score in (("member", member, high), (other, twin, low))
    ]
    return pl.DataFrame(rows, schema=SCORES)


@pytest.fixture(scope="session")
def study() -> Callable[..., tuple[pl.DataFrame, pl.DataFrame]]:
    """Make a corpus of pairs in ten templates, and scores of generations that hit them at random.

    Args of the function: seed, pairs, n, planted (extra hits of each member, by repetitions).
    """

    def make(
        seed: int, pairs: int = 200, n: int = 2000, planted: dict[int, int] | None = None
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        stream = np.random.default_rng(seed)
        doses = sorted(planted or {1: 0})
        rows = []
        for pair in range(pairs):
            coin = stream.random() < 0.5
            for side in (False, True):
                role = "member" if side == coin else "twin"
                dose = doses[pair % len(doses)]
                rows.append((f"r{pair}-{int(side)}", role, f"t{pair % 10}", f"p{pair}", dose))
        corpus = corpus_of(rows)
        popularity = stream.pareto(1.2, len(rows))
        hit = stream.choice(len(rows), n, p=popularity / popularity.sum())
        member = (corpus["role"] == "member").to_numpy()
        if planted:
            extra = corpus["repetitions"].replace_strict(planted).to_numpy() * member
            hit = np.append(hit, np.repeat(np.arange(len(rows)), extra))
        score = np.where(stream.random(len(hit)) < 0.5, 1.0, stream.uniform(0.5, 1, len(hit)))
        ids = corpus["id"].to_numpy()
        members, twins = ids[member], ids[~member]
        generations = [
            (ids[row], best, stream.choice(twins), best / 2)
            if member[row]
            else (stream.choice(members), best / 2, ids[row], best)
            for row, best in zip(hit, score, strict=True)
        ]
        return corpus, scores_of(generations)

    return make
