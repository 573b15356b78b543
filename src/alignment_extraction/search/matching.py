"""The nearest corpus items of every generated text, by embedding and by string.

The corpus is searched group by group (the rows of one source and role), so that the same
generations can be held against members and against their twins.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from rapidfuzz import process

from alignment_extraction.corpora.texts import searched_rows, unique_texts
from alignment_extraction.files import InputError
from alignment_extraction.gpu import torch_device
from alignment_extraction.search.embedding import Vectors, identity_of, read_vectors
from alignment_extraction.search.index import (
    Annoy,
    Exact,
    Index,
    Neighbours,
    build_index,
    recall_at_1,
)
from alignment_extraction.search.string_search import SCORERS, best_matches
from alignment_extraction.statistics import named_seed
from alignment_extraction.vocabulary import MATCHES


class Group(NamedTuple):
    """One group of a corpus, ready to be searched for one field."""

    name: str
    ids: list[str]
    texts: list[str]
    vectors: Vectors


def group_of(rows: pl.DataFrame, name: str, vectors: Vectors) -> Group:
    """One group of `searched_rows`, with its part of their vectors.

    Raises:
        InputError: no such group, or it has no row with that field.
    """
    at = np.flatnonzero((rows["group"] == name).to_numpy())
    if not len(at):
        known = ", ".join(rows["group"].unique(maintain_order=True))
        raise InputError(
            f"group {name!r} has no row with that field in the corpus (it has: {known})"
        )
    # Of neighbouring rows the memory-mapped vectors themselves; others are copied.
    adjacent = at[-1] - at[0] + 1 == len(at)
    own = rows[at]
    return Group(
        name,
        own["id"].to_list(),
        own["compared"].to_list(),
        vectors[at[0] : at[-1] + 1] if adjacent else np.asarray(vectors[at]),
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
    """Build the Annoy index of one group and field (see `index.build_index`).

    Args:
        corpus: the whole corpus, in file order.
        group: source and role, `sft.member`.
        field: `question`, `answer` or `both`.
        vectors_path: embeddings of the corpus's `searched_rows`.
        output: the index; a .json beside it describes it.
        trees: see `build_index`.
        seed: see `build_index`.

    Raises:
        InputError: see `group_of` and `read_vectors`.
    """
    rows = searched_rows(corpus, field)
    vectors = group_of(rows, group, read_vectors(vectors_path, rows["compared"].to_list())).vectors
    build_index(vectors, output, trees=trees, seed=seed, identity=identity_of(vectors_path))


def match(
    generations: pl.DataFrame,
    corpus: pl.DataFrame,
    *,
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
        generation_vectors: field -> embeddings of the distinct generated texts.
        corpus_vectors: field -> embeddings of the corpus's `searched_rows`.
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
    frames = [pl.DataFrame(schema=MATCHES)]
    audits: dict[str, dict[str, float]] = {}
    for field, embedded in generation_vectors.items():
        texts = unique_texts(generations, field)
        if not texts:
            continue
        identity = identity_of(embedded)
        queries = np.asarray(read_vectors(embedded, texts))
        rows = searched_rows(corpus, field)
        vectors = read_vectors(corpus_vectors[field], rows["compared"].to_list(), identity)
        for name in sorted(group for group, of in indexes if of == field):
            group, path = group_of(rows, name, vectors), indexes[name, field]
            search: Index
            if path is None:
                search = Exact(group.vectors, device=torch_device("exact search"))
            else:
                search = Annoy(
                    path,
                    group.vectors,
                    identity=identity,
                    candidates=candidates,
                    search_k=search_k,
                )
            found = search.search(queries)
            frames.append(_matches(texts, field, group, found, threads))
            key = f"{name}/{field}"
            if path is None:
                audits[key] = {"queries": len(queries), "recall_at_1": 1.0}
            elif audit:
                stream = np.random.default_rng(named_seed(seed, f"audit/{key}"))
                size = min(audit, len(queries))
                sample = np.sort(stream.choice(len(queries), size, replace=False))
                exact = Exact(group.vectors).search(queries[sample])
                sampled = Neighbours(found.position[sample], found.cosine[sample])
                audits[key] = {"queries": size, "recall_at_1": recall_at_1(sampled, exact)}
    return pl.concat(frames), audits


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
    rows = searched_rows(corpus, field)
    queries, vectors = embed(texts), embed(rows["compared"].to_list())
    frames = [pl.DataFrame(schema=MATCHES)]
    for name in rows["group"].unique().sort():
        group = group_of(rows, name, vectors)
        found = Exact(group.vectors).search(queries)
        frames.append(_matches(texts, field, group, found, threads))
    return pl.concat(frames)


def _matches(
    texts: Sequence[str], field: str, group: Group, found: Neighbours, threads: int
) -> pl.DataFrame:
    """The matches of texts in one group (`vocabulary.MATCHES`), in the order of `texts`."""
    columns: dict[str, Any] = {
        "text": texts,
        "field": [field] * len(texts),
        "group": [group.name] * len(texts),
        "match_id": [group.ids[i] for i in found.position],
        "cosine": found.cosine,
    }
    matched = [group.texts[i] for i in found.position]
    label = f"strings, {group.name}, {field}"
    best = best_matches(texts, group.texts, threads, progress=label)
    for metric, scorer in SCORERS.items():
        columns[metric] = process.cpdist(
            texts, matched, scorer=scorer, dtype=np.float32, workers=threads
        )
        ids = [group.ids[i] if i >= 0 else None for i in best[metric].position]
        columns[f"{metric}_best_id"] = ids
        columns[f"{metric}_best"] = best[metric].similarity
    return pl.DataFrame(columns, schema=MATCHES).fill_nan(None)
