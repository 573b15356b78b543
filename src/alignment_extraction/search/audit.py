"""Annoy against exact search, by number of trees and search_k: recall, effect on rates, speed."""

import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from annoy import AnnoyIndex

from alignment_extraction.extraction.scores import TOLERANCE
from alignment_extraction.search.embedding import Vectors
from alignment_extraction.search.index import build_index
from alignment_extraction.statistics import Array, wilson

NEIGHBOURS = 10
"""The more neighbours at which recall is measured, beside one."""

_REPEATS = 3  # timings of each setting
_ROWS = 16_384  # rows of exact search at once
_TIE = 1e-6  # cosines nearer to each other are of equal texts


class SearchAudit(NamedTuple):
    """What `audit` found; see docs/files.md for the columns."""

    neighbours: pl.DataFrame
    """A row for each number of trees, search_k and query: cosine of the best row that Annoy found,
    that of the exact best, and which shares of the best one and the best ten were found. The same
    inputs give the same rows."""
    speed: pl.DataFrame
    """The same settings and exact search (trees and search_k null): queries a second, with the
    slowest and the fastest of three passes; build seconds and megabytes of the index. Measured,
    so never twice the same."""


def exact_cosines(vectors: Vectors, queries: Vectors, count: int) -> Vectors:
    """The highest cosines of each query, in descending order, shape (queries, count).

    By matrix products in blocks of rows, so that memory stays bounded.

    Args:
        vectors: unit length, shape (rows, dimension), at least `count` rows.
        queries: unit length, shape (queries, dimension).
        count: how many.
    """
    best = np.full((len(queries), 0), -np.inf, np.float32)
    for row in range(0, len(vectors), _ROWS):
        scores = np.concatenate([best, queries @ vectors[row : row + _ROWS].T], axis=1)
        keep = min(count, scores.shape[1])
        best = np.partition(scores, -keep, axis=1)[:, -keep:]
    ordered: Vectors = -np.sort(-best, axis=1)
    return ordered


def annoy_cosines(
    index: Any, vectors: Vectors, queries: Vectors, count: int, candidates: int, search_k: int
) -> Vectors:
    """The highest cosines among Annoy's candidates, scored again exactly, as in `index.search`.

    Returns:
        Shape (queries, count), in descending order; minus infinity where Annoy gave fewer.
    """
    found = np.full((len(queries), count), -np.inf, np.float32)
    for i, query in enumerate(queries):
        near = index.get_nns_by_vector(query.tolist(), max(candidates, count), search_k)
        scores = np.sort(vectors[near] @ query)[::-1][:count]
        found[i, : len(scores)] = scores
    return found


def recall(found: Vectors, exact: Vectors) -> Array:
    """Share of each query's exact neighbours that were found, shape (queries,).

    Neighbours are told apart by their cosines, so that of several equal texts any one counts.

    Args:
        found: cosines in descending order, shape (queries, neighbours).
        exact: likewise.
    """
    share: Array = (found >= exact[:, -1:] - _TIE).mean(axis=1)
    return share


def audit(
    queries: Vectors,
    vectors: Vectors,
    *,
    trees: Sequence[int],
    search_k: Sequence[int],
    candidates: int,
    seed: int,
) -> SearchAudit:
    """Search the same queries exactly and by Annoy under every setting.

    Args:
        queries: unit-length vectors of generations, a random sample, shape (queries, dimension).
        vectors: unit-length vectors of the corpus, shape (rows, dimension), at least one row.
        trees: numbers of trees; an index is built for each, and removed again.
        search_k: nodes that Annoy inspects; -1 is trees x candidates.
        candidates: neighbours asked of Annoy and scored again exactly.
        seed: of the indexes.
    """
    count = min(NEIGHBOURS, len(vectors))
    exact = exact_cosines(vectors, queries, count)
    neighbours: list[pl.DataFrame] = []
    passes = _timed(lambda: exact_cosines(vectors, queries, count))
    speeds = [_speed(None, None, len(queries), passes, None, vectors.nbytes)]
    for number, path, seconds in _indexes(vectors, trees, seed):
        index = AnnoyIndex(vectors.shape[1], "angular")
        index.load(str(path))
        for k in search_k:

            def search(index: Any = index, k: int = k) -> Vectors:
                return annoy_cosines(index, vectors, queries, count, candidates, k)

            found = search()
            passes = _timed(search)
            speeds.append(_speed(number, k, len(queries), passes, seconds, path.stat().st_size))
            neighbours.append(
                pl.DataFrame(
                    {
                        "cosine": found[:, 0],
                        "exact_cosine": exact[:, 0],
                        "found_at_1": recall(found[:, :1], exact[:, :1]),
                        f"found_at_{NEIGHBOURS}": recall(found, exact),
                    }
                ).select(
                    pl.lit(number, pl.Int64).alias("trees"),
                    pl.lit(k, pl.Int64).alias("search_k"),
                    pl.lit(len(vectors), pl.Int64).alias("rows"),
                    pl.all(),
                )
            )
        index.unload()
    return SearchAudit(pl.concat(neighbours), pl.DataFrame(speeds, infer_schema_length=None))


def summarise(neighbours: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """Recall and extraction rate of each setting, with intervals at 95 %.

    The ten neighbours of one query are found or missed together: Wilson's interval takes each query
    as one trial. The variance of a share is at most that of a trial with the same mean, so that the
    interval is, if anything, too wide.

    Args:
        neighbours: of `audit`.
        threshold: cosine from which a generation counts as extracted.

    Returns:
        A row for each number of trees and search_k: rows (of the corpus), queries, and with _low
        and _high recall_at_1, recall_at_10, rate, exact_rate, missed (extracted by exact search and
        not by Annoy's).
    """
    own = pl.col("cosine") >= threshold - TOLERANCE
    exact = pl.col("exact_cosine") >= threshold - TOLERANCE
    counts = neighbours.group_by("trees", "search_k", "rows", maintain_order=True).agg(
        queries=pl.len().cast(pl.Int64),
        recall_at_1=pl.col("found_at_1").sum(),
        recall_at_10=pl.col(f"found_at_{NEIGHBOURS}").sum(),
        rate=own.sum(),
        exact_rate=exact.sum(),
        # Annoy's best is never above the exact one: what differs was missed.
        missed=(exact & ~own).sum(),
    )
    names = counts.columns[4:]
    intervals = {name: wilson(counts[name], counts["queries"]) for name in names}
    return counts.select(
        *counts.columns[:4],
        *(
            pl.Series(f"{name}{end}", value)
            for name, interval in intervals.items()
            for end, value in zip(("", "_low", "_high"), interval, strict=True)
        ),
    )


def _indexes(
    vectors: Vectors, trees: Sequence[int], seed: int
) -> Iterator[tuple[int, Path, float]]:
    """An index of each number of trees, with the seconds that it took to build."""
    with tempfile.TemporaryDirectory() as folder:
        for number in trees:
            path = Path(folder) / f"{number}.ann"
            start = time.perf_counter()
            build_index(vectors, path, trees=number, seed=seed, identity="audit")
            yield number, path, time.perf_counter() - start


def _timed(search: Any) -> list[float]:
    """Seconds of each pass."""
    seconds = []
    for _ in itertools.repeat(None, _REPEATS):
        start = time.perf_counter()
        search()
        seconds.append(time.perf_counter() - start)
    return seconds


def _speed(
    trees: int | None,
    search_k: int | None,
    queries: int,
    passes: Sequence[float],
    build_seconds: float | None,
    size: int,
) -> dict[str, Any]:
    return {
        "trees": trees,
        "search_k": search_k,
        "queries": queries,
        "queries_per_second": queries / float(np.median(passes)),
        "slowest": queries / max(passes),
        "fastest": queries / min(passes),
        "build_seconds": build_seconds,
        "megabytes": size / 1e6,
    }
