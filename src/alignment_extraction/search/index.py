"""Nearest-neighbour search behind one protocol, by Annoy or exactly.

    index = open_index("exact", vectors, device="cuda")
    index.search(queries).cosine  # of the nearest row of each query

`Annoy` finds candidates in trees on disk and scores them exactly; `Exact` compares every query with
every row, on a GPU where there is one. A third kind is a class with `search` and a line in
`open_index`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from annoy import AnnoyIndex

from alignment_extraction.files import InputError, atomic_path, read_json, write_json
from alignment_extraction.search.embedding import Vectors, short_identity

Positions = np.ndarray[Any, np.dtype[np.int64]]

_BLOCK = 1024
"""Queries handled at once."""
_ROWS = 16_384
"""Rows that exact search compares them with at once: 64 MB of scores."""
_DEVICE_BLOCK = 65_536
"""Queries that a GPU compares with those rows at once: 4 GB of scores."""
_ROUNDING = 1e-6
"""Cosines that differ by less are equal."""


class Neighbours(NamedTuple):
    """The nearest row of each query."""

    position: Positions
    """Row numbers, shape (queries,)."""
    cosine: Vectors
    """Cosine similarities in [-1, 1], shape (queries,)."""


Kind = Literal["annoy", "exact"]
"""Kinds of index, as settings name them."""


class Index(Protocol):
    """What finds the nearest row of each query."""

    def search(self, queries: Vectors) -> Neighbours:
        """The nearest row of each query (unit-length float32, shape (queries, dimension))."""
        ...


def open_index(
    kind: Kind,
    vectors: Vectors,
    *,
    path: Path | None = None,
    identity: str = "",
    candidates: int = 50,
    search_k: int = -1,
    device: str = "cpu",
) -> Index:
    """The index of this kind over `vectors`; see `Annoy` and `Exact` for the arguments.

    Raises:
        InputError: see `Annoy`.
    """
    if kind == "exact":
        return Exact(vectors, device=device)
    if path is None:
        raise ValueError("an Annoy index needs the path that build_index wrote it to")
    return Annoy(path, vectors, identity=identity, candidates=candidates, search_k=search_k)


def build_index(vectors: Vectors, path: Path, *, trees: int, seed: int, identity: str) -> None:
    """Build an angular Annoy index over the rows of `vectors`, on disk.

    One thread and a fixed seed, so that the same vectors give the same file.

    Args:
        vectors: unit-length float32, shape (rows, dimension), at least one row.
        path: the index; the .json beside it records embedder, rows, dimension, trees, seed and the
            index's size.
        trees: number of trees; more find better and take more disk.
        seed: of the random splits.
        identity: the embedder of `vectors`.

    Raises:
        InputError: no rows.
    """
    if not len(vectors):
        raise InputError(f"{path}: no vectors to index; the corpus group is empty")
    rows, dimension = vectors.shape
    with atomic_path(path) as partial:
        index = AnnoyIndex(dimension, "angular")
        index.set_seed(seed)
        index.on_disk_build(str(partial))
        for row, vector in enumerate(vectors):
            index.add_item(row, vector.tolist())
        index.build(trees, n_jobs=1)
        index.unload()
    write_json(
        {
            "embedder": identity,
            "rows": rows,
            "dimension": dimension,
            "trees": trees,
            "seed": seed,
            "bytes": path.stat().st_size,
        },
        path.with_suffix(".json"),
    )


class Annoy:
    """Annoy's candidates, scored again exactly.

    Args:
        path: an index that `build_index` made of `vectors`.
        vectors: what the index was built over, shape (rows, dimension).
        identity: embedder of the queries.
        candidates: neighbours asked of Annoy for each query.
        search_k: nodes that Annoy inspects; -1 is trees x candidates.

    Raises:
        InputError: the index was built with another embedder or over other rows, or is missing,
            truncated or something else.
    """

    def __init__(
        self, path: Path, vectors: Vectors, *, identity: str, candidates: int, search_k: int = -1
    ) -> None:
        self._trees = _load(path, vectors, identity)
        self._vectors = vectors
        self._candidates = min(candidates, len(vectors))
        self._search_k = search_k

    def search(self, queries: Vectors) -> Neighbours:
        """The nearest of each query's candidates; see `Index`."""
        position = np.zeros(len(queries), np.int64)
        cosine = np.zeros(len(queries), np.float32)
        k = self._candidates
        for start in range(0, len(queries), _BLOCK):
            block = queries[start : start + _BLOCK]
            found = np.zeros((len(block), k), np.int64)
            for i, query in enumerate(block):
                near = self._trees.get_nns_by_vector(query.tolist(), k, self._search_k)
                # Annoy may find fewer than k; repeating the first leaves the maximum as it is.
                found[i] = near + near[:1] * (k - len(near)) if near else 0
            scores = np.einsum("qkd,qd->qk", self._vectors[found], block)
            best = scores.argmax(axis=1)
            rows = np.arange(len(block))
            position[start : start + _BLOCK] = found[rows, best]
            cosine[start : start + _BLOCK] = scores[rows, best]
        return Neighbours(position, np.clip(cosine, -1, 1))


class Exact:
    """Exact search; see `exact_search`."""

    def __init__(self, vectors: Vectors, *, device: str = "cpu") -> None:
        self._vectors, self._device = vectors, device

    def search(self, queries: Vectors) -> Neighbours:
        """The nearest row of each query; see `Index`."""
        return exact_search(self._vectors, queries, device=self._device)


def _load(path: Path, vectors: Vectors, identity: str) -> Any:
    """The Annoy index in `path`, checked against what it is to search."""
    about = read_json(path.with_suffix(".json"))
    keys = {"embedder", "rows", "dimension", "bytes"}
    if not isinstance(about, dict) or not about.keys() >= keys:
        raise InputError(
            f"{path.with_suffix('.json')}: does not describe an index; build the index again"
        )
    if about["embedder"] != identity:
        raise InputError(
            f"{path}: built with the embedder {short_identity(about['embedder'])}, but the "
            f"generations were embedded with {short_identity(identity)}; build the index again "
            "with one model"
        )
    if (about["rows"], about["dimension"]) != vectors.shape:
        raise InputError(f"{path}: built over other vectors; build the index again")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); build it first") from None
    # Annoy maps the file and would read beyond its end, or search fewer trees, without a word.
    if size != about["bytes"]:
        raise InputError(
            f"{path}: has {size} bytes where {about['bytes']} were written; build the index again"
        )
    index = AnnoyIndex(about["dimension"], "angular")
    index.load(str(path))
    return index


def exact_search(vectors: Vectors, queries: Vectors, *, device: str = "cpu") -> Neighbours:
    """The nearest row of each query by matrix products in blocks; memory stays bounded.

    Of rows whose cosines are equal but for rounding (1e-6), the first is named: a matrix product
    rounds by where a row lies in it.

    Args:
        vectors: unit-length float32, shape (rows, dimension); may be memory-mapped.
        queries: unit-length float32, shape (queries, dimension).
        device: "cpu" for numpy, or one of PyTorch's, such as "cuda".
    """
    position = np.zeros(len(queries), np.int64)
    cosine = np.full(len(queries), -np.inf, np.float32)
    nearest = _nearest if device == "cpu" else _nearest_on(device)
    # A device takes all queries that fit beside a block of rows, so that rows travel to it once.
    size = _BLOCK if device == "cpu" else _DEVICE_BLOCK
    for start in range(0, len(queries), size):
        find = nearest(queries[start : start + size])
        here = slice(start, start + size)
        for row in range(0, len(vectors), _ROWS):
            best, value = find(vectors[row : row + _ROWS])
            better = value > cosine[here] + _ROUNDING
            position[here] = np.where(better, best + row, position[here])
            cosine[here] = np.where(better, value, cosine[here])
    return Neighbours(position, np.clip(cosine, -1, 1))


_Find = Callable[[Vectors], tuple[Positions, Vectors]]
"""From rows to the nearest of them to each query, and its cosine."""


def _nearest(queries: Vectors) -> _Find:
    def find(rows: Vectors) -> tuple[Positions, Vectors]:
        scores = queries @ rows.T
        best = (scores >= scores.max(axis=1, keepdims=True) - _ROUNDING).argmax(axis=1)
        return best, scores[np.arange(len(queries)), best]

    return find


def _nearest_on(device: str) -> Callable[[Vectors], _Find]:
    import torch

    def nearest(queries: Vectors) -> _Find:
        here = torch.from_numpy(np.array(queries)).to(device)

        def find(rows: Vectors) -> tuple[Positions, Vectors]:
            products = here @ torch.from_numpy(np.array(rows)).to(device).T
            least = products.max(dim=1, keepdim=True).values - _ROUNDING
            best = (products >= least).to(torch.uint8).argmax(dim=1, keepdim=True)
            value = products.gather(1, best)
            return best[:, 0].cpu().numpy(), value[:, 0].cpu().numpy()

        return find

    return nearest


def recall_at_1(found: Neighbours, exact: Neighbours) -> float:
    """Share of queries whose exact nearest neighbour was found; equal scores count as found."""
    return float(
        np.mean((found.position == exact.position) | (found.cosine >= exact.cosine - 1e-6))
    )
