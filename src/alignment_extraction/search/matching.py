"""The nearest corpus items of every generated text, by embedding and by string.

The corpus is searched group by group (the rows of one source and role), so that the same
generations can be held against members and against their twins.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from alignment_extraction.corpora.texts import corpus_texts, groups_of, unique_texts
from alignment_extraction.files import InputError
from alignment_extraction.gpu import torch_device
from alignment_extraction.search.embedding import Vectors, identity_of, read_vectors
from alignment_extraction.search.index import (
    Neighbours,
    build_index,
    exact_search,
    open_index,
    recall_at_1,
)
from alignment_extraction.search.string_search import best_matches
from alignment_extraction.search.strings import METRICS, pairwise
from alignment_extraction.statistics import named_seed
from alignment_extraction.vocabulary import MATCHES, SEARCHED_ROLES

_SIMILARITIES = {n: t for n, t in MATCHES.items() if n not in ("text", "field", "group")}


class Group(NamedTuple):
    """One group of a corpus, ready to be searched for one field."""

    ids: list[str]
    texts: list[str]
    vectors: Vectors


def read_group(
    corpus: pl.DataFrame, group: str, field: str, vectors_path: Path, identity: str | None = None
) -> Group:
    """The rows of `group` that have `field`, with their vectors.

    Args:
        corpus: the whole corpus, in file order.
        group: see `groups_of`.
        field: `question`, `answer` or `both`.
        vectors_path: embeddings of the whole corpus's `field` (see `corpus_texts`).
        identity: the embedder they must have been made with; None takes any.

    Raises:
        InputError: no such group, or it has no row with that field, or see `read_vectors`.
    """
    texts, rows = corpus_texts(corpus, field)
    vectors = read_vectors(vectors_path, texts, identity)
    chosen = (groups_of(corpus)[rows] == group).to_numpy()
    if not chosen.any():
        known = ", ".join(groups_of(corpus).unique(maintain_order=True))
        raise InputError(
            f"group {group!r} has no row with a {field} in the corpus (its groups: {known})"
        )
    positions = np.flatnonzero(chosen)
    # Of neighbouring rows the memory-mapped vectors themselves; others are copied.
    first, last = int(positions[0]), int(positions[-1])
    adjacent = last - first + 1 == len(positions)
    return Group(
        ids=corpus["id"][rows][positions].to_list(),
        texts=[texts[i] for i in positions],
        vectors=vectors[first : last + 1] if adjacent else np.asarray(vectors[positions]),
    )


def index_group(
    corpus: pl.DataFrame,
    group: str,
    field: str,
    vectors_path: Path,
    output: Path,
    *,
    trees: int,
    seed: int,
) -> None:
    """Build the Annoy index of one group and field (see `index.build_index`)."""
    vectors = read_group(corpus, group, field, vectors_path).vectors
    build_index(vectors, output, trees=trees, seed=seed, identity=identity_of(vectors_path))


def _neighbours(
    index: Path | None,
    vectors: Vectors,
    queries: Vectors,
    *,
    identity: str,
    candidates: int,
    search_k: int,
) -> Neighbours:
    """The nearest row of each query, by `index`, or exactly where there is none."""
    return open_index(
        "annoy" if index else "exact",
        vectors,
        path=index,
        identity=identity,
        candidates=candidates,
        search_k=search_k,
        device="cpu" if index else torch_device("exact search"),
    ).search(queries)


def _audit(
    found: Neighbours, vectors: Vectors, queries: Vectors, size: int, seed: int
) -> dict[str, float]:
    """Annoy's recall@1 on a random sample of the queries, measured against exact search."""
    stream = np.random.default_rng(seed)
    sample = np.sort(stream.choice(len(queries), min(size, len(queries)), replace=False))
    exact = exact_search(vectors, queries[sample])
    field = Neighbours(found.position[sample], found.cosine[sample])
    return {"queries": len(sample), "recall_at_1": recall_at_1(field, exact)}


def match(
    generations: pl.DataFrame,
    corpus: pl.DataFrame,
    *,
    fields: Sequence[str],
    generation_vectors: Mapping[str, Path],
    corpus_vectors: Mapping[str, Path],
    indexes: Mapping[tuple[str, str], Path | None],
    candidates: int,
    search_k: int,
    audit: int,
    seed: int,
    threads: int = 1,
) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
    """Search every distinct generated text in every group of the corpus.

    Args:
        generations: has `question` and `answer`.
        corpus: in the corpus schema.
        fields: which fields to compare.
        generation_vectors: field -> embeddings of the distinct generated texts.
        corpus_vectors: field -> embeddings of the corpus.
        indexes: (group, field) -> Annoy index, or None for exact search.
        candidates: neighbours that are re-scored exactly.
        search_k: nodes that Annoy inspects; -1 is trees x candidates.
        audit: queries also searched exactly, for recall@1.
        seed: of the audit's sample.
        threads: for the string search.

    Returns:
        The matches (`vocabulary.MATCHES`), and for each `group/field` the audit's `queries` and
        `recall_at_1`; of exact search, all queries and 1.

    Raises:
        InputError: a group or field that the corpus lacks, or embeddings and indexes of other
            texts, of another embedder, or damaged.
    """
    frames: list[pl.DataFrame] = []
    audits: dict[str, dict[str, float]] = {}
    for field in fields:
        texts = unique_texts(generations, field)
        if not texts:
            continue
        identity = identity_of(generation_vectors[field])
        queries = np.asarray(read_vectors(generation_vectors[field], texts))
        for name in sorted(group for group, of in indexes if of == field):
            # An index is checked against the generations' embedder; without one, the vectors are.
            index = indexes[name, field]
            group = read_group(
                corpus, name, field, corpus_vectors[field], None if index else identity
            )
            found = _neighbours(
                index,
                group.vectors,
                queries,
                identity=identity,
                candidates=candidates,
                search_k=search_k,
            )
            frame = _scored(texts, group, found, threads, f"strings, {name}, {field}")
            frames.append(
                frame.select(
                    pl.Series("text", texts),
                    pl.lit(field).alias("field"),
                    pl.lit(name).alias("group"),
                    pl.all(),
                )
            )
            if index is None:
                audits[f"{name}/{field}"] = {"queries": len(queries), "recall_at_1": 1.0}
            elif audit:
                audits[f"{name}/{field}"] = _audit(
                    found, group.vectors, queries, audit, named_seed(seed, f"audit/{name}/{field}")
                )
    if not frames:
        return pl.DataFrame(schema=MATCHES), audits
    return pl.concat(frames), audits


def _scored(
    texts: Sequence[str], group: Group, found: Neighbours, threads: int, progress: str
) -> pl.DataFrame:
    """The scores of each text in one group: `_SIMILARITIES`, in the order of `texts`."""
    columns: dict[str, Any] = {
        "match_id": [group.ids[i] for i in found.position],
        "cosine": found.cosine,
    }
    matched = [group.texts[i] for i in found.position]
    best = best_matches(texts, group.texts, threads, progress=progress)
    for metric in METRICS:
        columns[metric] = pairwise(metric, texts, matched, threads)
        columns[f"{metric}_best_id"] = [
            group.ids[i] if i >= 0 else None for i in best[metric].position
        ]
        columns[f"{metric}_best"] = best[metric].similarity
    return pl.DataFrame(columns, schema=_SIMILARITIES).fill_nan(None)


def match_exactly(
    texts: Sequence[str],
    corpus: pl.DataFrame,
    field: str,
    embed: Callable[[Sequence[str]], Vectors],
    threads: int = 1,
) -> pl.DataFrame:
    """Search distinct texts in every group of a corpus without files or an index.

    Args:
        texts: distinct texts of `field`.
        corpus: in the corpus schema; groups whose role is not searched are left out.
        field: `question`, `answer` or `both`.
        embed: gives unit vectors of texts, shape (texts, dimension).
        threads: for the string search.

    Returns:
        `vocabulary.MATCHES`.
    """
    searched = corpus.filter(pl.col("role").is_in(SEARCHED_ROLES))
    row_texts, rows = corpus_texts(searched, field)
    groups, ids = groups_of(searched)[rows], searched["id"][rows]
    queries, vectors = embed(texts), embed(row_texts)
    frames = [pl.DataFrame(schema=MATCHES)]
    for name in groups.unique().sort():
        at = np.flatnonzero((groups == name).to_numpy())
        group = Group(ids[at].to_list(), [row_texts[i] for i in at], vectors[at])
        found = exact_search(group.vectors, queries)
        scored = _scored(texts, group, found, threads, f"strings, {name}, {field}")
        frames.append(
            scored.select(
                pl.Series("text", texts, pl.String),
                pl.lit(field).alias("field"),
                pl.lit(name).alias("group"),
                pl.all(),
            )
        )
    return pl.concat(frames)
