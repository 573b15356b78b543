"""Nearest-neighbour search, by Annoy or exactly.

`Annoy` finds candidates in trees on disk and scores them exactly; `Exact` compares every query with
every row, on a GPU where there is one. A third kind is a class with `search` and a line in
`matching.match`.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from annoy import AnnoyIndex
from tqdm import tqdm

from alignment_extraction.files import InputError, atomic_path, read_json, write_json
from alignment_extraction.search.embedding import Vectors

Positions = np.ndarray[Any, np.dtype[np.int64]]

_BLOCK = 1024  # queries handled at once
_ROWS = 16_384  # rows that exact search compares them with at once: 64 MB of scores
_DEVICE_BLOCK = 65_536  # queries that a GPU compares with those rows at once: 4 GB of scores
_ROUNDING = 1e-6  # cosines that differ by less are equal


class Neighbours(NamedTuple):
    """The nearest row of each query."""

    position: Positions
    """Row numbers, shape (queries,)."""
    cosine: Vectors
    """Cosine similarities in [-1, 1], shape (queries,)."""
    candidates: Positions
    """Rows that are near, the nearest among them, shape (queries, candidates)."""


def build_index(vectors: Vectors, path: Path, *, trees: int, seed: int, identity: str) -> None:
    """Build an angular Annoy index over the rows of `vectors`, on disk.

    One thread and a fixed seed, so that the same vectors give the same file.

    Args:
        vectors: unit-length float32, shape (rows, dimension), at least one row.
        path: the index; the .json beside it has the other arguments, its shape and its size.
        trees: more find better and take more disk.
        seed: of the random splits.
        identity: the embedder of `vectors`.
    """
    rows, dimension = vectors.shape
    with atomic_path(path) as partial:
        index = AnnoyIndex(dimension, "angular")
        index.set_seed(seed)
        index.on_disk_build(str(partial))
        for row, vector in enumerate(vectors):
            index.add_item(row, vector.tolist())
        index.build(trees, n_jobs=1)
        index.unload()
    about = {"embedder": identity, "rows": rows, "dimension": dimension, "trees": trees}
    write_json({**about, "seed": seed, "bytes": path.stat().st_size}, path.with_suffix(".json"))


class Annoy:
    """Annoy's candidates, scored again exactly.

    Args:
        path: an index that `build_index` made of `vectors`.
        vectors: what the index was built over, shape (rows, dimension).
        identity: embedder of the queries.
        candidates, search_k: see `IndexSettings`.
        threads: that search, each for other queries.

    Raises:
        InputError: the index was built with another embedder or over other rows, or is missing,
            truncated or something else.
    """

    def __init__(
        self,
        path: Path,
        vectors: Vectors,
        *,
        identity: str,
        candidates: int,
        search_k: int = -1,
        threads: int = 1,
    ) -> None:
        about = read_json(path.with_suffix(".json"))
        was = about if isinstance(about, dict) else {}
        # Annoy maps the file and would read beyond its end, or search fewer trees, without a word.
        size = path.stat().st_size if path.is_file() else 0
        rows, dimension = vectors.shape
        now = {"embedder": identity, "rows": rows, "dimension": dimension, "bytes": size}
        if other := next((key for key in now if was.get(key) != now[key]), None):
            raise InputError(
                f"{path}: {other} is {now[other]} but was {was.get(other)} when the index was "
                "built; build the index again"
            )
        self._trees = AnnoyIndex(dimension, "angular")
        self._trees.load(str(path))
        self._vectors, self._search_k, self._threads = vectors, search_k, threads
        self._candidates = min(candidates, len(vectors))

    def search(self, queries: Vectors) -> Neighbours:
        """The nearest candidate of each query (unit-length float32, (queries, dimension))."""
        position, cosine = np.zeros(len(queries), np.int64), np.zeros(len(queries), np.float32)
        candidates = np.zeros((len(queries), self._candidates), np.int64)

        def near(query: Vectors) -> list[int]:
            k = self._candidates
            found = self._trees.get_nns_by_vector(query.tolist(), k, self._search_k)
            # Annoy may find fewer than k; repeating the first leaves the maximum as it is.
            return (found + found[:1] * (k - len(found))) or [0] * k

        with ThreadPoolExecutor(self._threads) as pool:
            for start in tqdm(range(0, len(queries), _BLOCK), "by embedding", unit_scale=_BLOCK):
                here = slice(start, start + _BLOCK)
                found = np.array(list(pool.map(near, queries[here])), np.int64)
                scores = np.einsum("qkd,qd->qk", self._vectors[found], queries[here])
                best, rows = scores.argmax(axis=1), np.arange(len(found))
                candidates[here], position[here] = found, found[rows, best]
                cosine[here] = scores[rows, best]
        return Neighbours(position, np.clip(cosine, -1, 1), candidates)


class Exact:
    """Matrix products in blocks, so that memory stays bounded.

    Of rows whose cosines are equal but for rounding (1e-6), the first is named: a matrix product
    rounds by where a row lies in it.

    Args:
        vectors: unit-length float32, shape (rows, dimension); may be memory-mapped.
        device: "cpu", or another of PyTorch's, such as "cuda".
        candidates: how many near rows are given; more than one take PyTorch on a processor too.
    """

    def __init__(self, vectors: Vectors, *, device: str = "cpu", candidates: int = 1) -> None:
        self._vectors, self._device = vectors, device
        self._candidates = min(candidates, len(vectors))

    def search(self, queries: Vectors) -> Neighbours:
        """The nearest row of each query (unit-length float32, (queries, dimension))."""
        position = np.zeros(len(queries), np.int64)
        cosine = np.full(len(queries), -np.inf, np.float32)
        candidates = np.zeros((len(queries), self._candidates), np.int64)
        # A device takes all queries that fit beside a block of rows, which travel to it once.
        size = _BLOCK if self._device == "cpu" else _DEVICE_BLOCK
        for start in range(0, len(queries), size):
            here = slice(start, start + size)
            block = self._moved(queries[here])
            near: Any = np.empty((len(block), 0), np.int64)
            values: Any = np.empty((len(block), 0), np.float32)
            for row in range(0, len(self._vectors), _ROWS):
                rows = self._moved(self._vectors[row : row + _ROWS])
                best, value, *top = _nearest(block, rows, self._candidates)
                better = value > cosine[here] + _ROUNDING
                position[here] = np.where(better, best + row, position[here])
                cosine[here] = np.where(better, value, cosine[here])
                near, values = np.hstack([near, top[0] + row]), np.hstack([values, top[1]])
                kept = np.argsort(-values, axis=1, kind="stable")[:, : self._candidates]
                near, values = (np.take_along_axis(each, kept, axis=1) for each in (near, values))
            lacking = (near != position[here][:, None]).all(axis=1)  # the first of many equals
            near[lacking, -1] = position[here][lacking]
            candidates[here] = near
        return Neighbours(position, np.clip(cosine, -1, 1), candidates)

    def _moved(self, vectors: Vectors) -> Any:
        if self._device == "cpu" and self._candidates == 1:
            return vectors  # numpy, as importing PyTorch takes longer than a small search
        import torch

        return torch.from_numpy(np.array(vectors)).to(self._device)


def _nearest(queries: Any, rows: Any, candidates: int) -> tuple[Any, ...]:
    """The nearest row of each query and its cosine, and so many near ones and theirs.

    Queries and rows are arrays of numpy, for one candidate, or of PyTorch; the results numpy's.
    """
    products = queries @ rows.T
    if isinstance(products, np.ndarray):
        best = (products >= products.max(axis=1, keepdims=True) - _ROUNDING).argmax(axis=1)
        value = products[np.arange(len(best)), best]
        return best, value, best[:, None], value[:, None]
    top, near = products.topk(min(candidates, len(rows)), dim=1)
    equal = products >= top[:, :1] - _ROUNDING
    best = equal.byte().argmax(dim=1, keepdim=True)
    found = best[:, 0], products.gather(1, best)[:, 0], near, top
    return tuple(each.cpu().numpy() for each in found)


def recall_at_1(found: Vectors, exact: Vectors) -> float:
    """Share of queries for which a row as near as the exactly nearest was found, by its cosine."""
    return float(np.mean(found >= exact - _ROUNDING))
