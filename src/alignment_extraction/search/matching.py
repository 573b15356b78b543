"""The nearest corpus items of every generated text, by embedding and by string.

The corpus is searched group by group (a source, or a split of one), so that the same generations
can be held against members and against held-out items.
"""

from collections.abc import Mapping, Sequence
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

_SCORE_SCHEMA: dict[str, pl.DataType] = {
    "match_id": pl.String(),
    "cosine": pl.Float32(),
    "levenshtein": pl.Float32(),
    "indel": pl.Float32(),
    "levenshtein_best_id": pl.String(),
    "levenshtein_best": pl.Float32(),
    "indel_best_id": pl.String(),
    "indel_best": pl.Float32(),
}

MATCH_SCHEMA: dict[str, pl.DataType] = {
    "text": pl.String(),
    "part": pl.String(),
    "group": pl.String(),
    **_SCORE_SCHEMA,
}
"""One row for each distinct text x part x group: its embedding match with the three scores against
it, and each string metric's own best match in the group (null below 0.5)."""

HELD_OUT_SCHEMA: dict[str, pl.DataType] = {
    "id": pl.String(),
    "part": pl.String(),
    "own_group": pl.String(),
    "characters": pl.Int64(),
    "group": pl.String(),
    **_SCORE_SCHEMA,
}
"""One row for each held-out row x part x group searched: the row's own group and the length of its
text, and the scores as in `MATCH_SCHEMA`."""

SUSPECTED_ROLES = ("member", "unknown")
"""Roles of the groups that extraction is about: what was trained on, or may have been."""


class Group(NamedTuple):
    """One group of a corpus, ready to be searched for one part."""

    ids: list[str]
    texts: list[str]
    vectors: Vectors


def read_group(
    corpus: pl.DataFrame, group: str, part: str, vectors_path: Path, identity: str | None = None
) -> Group:
    """The rows of `group` that have `part`, with their vectors.

    Args:
        corpus: the whole corpus, in file order.
        group: see `groups_of`.
        part: `question`, `answer` or `both`.
        vectors_path: embeddings of the whole corpus's `part` (see `corpus_texts`).
        identity: the embedder they must have been made with; None takes any.

    Raises:
        InputError: no such group, or it has no row with that part, or see `read_vectors`.
    """
    texts, rows = corpus_texts(corpus, part)
    vectors = read_vectors(vectors_path, texts, identity)
    chosen = (groups_of(corpus)[rows] == group).to_numpy()
    if not chosen.any():
        known = ", ".join(groups_of(corpus).unique(maintain_order=True))
        raise InputError(
            f"group {group!r} has no row with a {part} in the corpus (its groups: {known})"
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
    part: str,
    vectors_path: Path,
    output: Path,
    *,
    trees: int,
    seed: int,
) -> None:
    """Build the Annoy index of one group and part (see `index.build_index`)."""
    vectors = read_group(corpus, group, part, vectors_path).vectors
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
    part = Neighbours(found.position[sample], found.cosine[sample])
    return {"queries": len(sample), "recall_at_1": recall_at_1(part, exact)}


def match(
    generations: pl.DataFrame,
    corpus: pl.DataFrame,
    *,
    parts: Sequence[str],
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
        parts: which parts to compare.
        generation_vectors: part -> embeddings of the distinct generated texts.
        corpus_vectors: part -> embeddings of the corpus.
        indexes: (group, part) -> Annoy index, or None for exact search.
        candidates: neighbours that are re-scored exactly.
        search_k: nodes that Annoy inspects; -1 is trees x candidates.
        audit: queries also searched exactly, for recall@1.
        seed: of the audit's sample.
        threads: for the string search.

    Returns:
        The matches (`MATCH_SCHEMA`), and for each `group/part` the audit's `queries` and
        `recall_at_1`; of exact search, all queries and 1.

    Raises:
        InputError: a group or part that the corpus lacks, or embeddings and indexes of other texts,
            of another embedder, or damaged.
    """
    frames: list[pl.DataFrame] = []
    audits: dict[str, dict[str, float]] = {}
    for part in parts:
        texts = unique_texts(generations, part)
        if not texts:
            continue
        identity = identity_of(generation_vectors[part])
        queries = np.asarray(read_vectors(generation_vectors[part], texts))
        for name in sorted(group for group, of in indexes if of == part):
            # An index is checked against the generations' embedder; without one, the vectors are.
            index = indexes[name, part]
            group = read_group(
                corpus, name, part, corpus_vectors[part], None if index else identity
            )
            found = _neighbours(
                index,
                group.vectors,
                queries,
                identity=identity,
                candidates=candidates,
                search_k=search_k,
            )
            frame = _scored(texts, group, found, threads, f"strings, {name}, {part}")
            frames.append(
                frame.select(
                    pl.Series("text", texts),
                    pl.lit(part).alias("part"),
                    pl.lit(name).alias("group"),
                    pl.all(),
                )
            )
            if index is None:
                audits[f"{name}/{part}"] = {"queries": len(queries), "recall_at_1": 1.0}
            elif audit:
                audits[f"{name}/{part}"] = _audit(
                    found, group.vectors, queries, audit, named_seed(seed, f"audit/{name}/{part}")
                )
    if not frames:
        return pl.DataFrame(schema=MATCH_SCHEMA), audits
    return pl.concat(frames), audits


def _scored(
    texts: Sequence[str], group: Group, found: Neighbours, threads: int, progress: str
) -> pl.DataFrame:
    """The scores of each text in one group: `_SCORE_SCHEMA`, in the order of `texts`."""
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
    return pl.DataFrame(columns, schema=_SCORE_SCHEMA).fill_nan(None)


def match_held_out(
    corpus: pl.DataFrame,
    *,
    parts: Sequence[str],
    corpus_vectors: Mapping[str, Path],
    indexes: Mapping[tuple[str, str], Path | None],
    candidates: int,
    search_k: int,
    threads: int = 1,
) -> pl.DataFrame:
    """Search every held-out row of the corpus as if a model had written it.

    Each is searched in every group whose role is in `SUSPECTED_ROLES`: no row is in two groups, so
    none can find itself. The indexes, vectors and settings are those that generations meet, so the
    scores are what text that was never trained on reaches by chance.

    Args:
        corpus: in the corpus schema.
        parts: which parts to compare.
        corpus_vectors: part -> embeddings of the corpus; the queries come from them too.
        indexes: (group, part) -> Annoy index, or None for exact search; those of groups of other
            roles are not read.
        candidates: neighbours that are re-scored exactly.
        search_k: nodes that Annoy inspects; -1 is trees x candidates.
        threads: for the string search.

    Returns:
        `HELD_OUT_SCHEMA`; no rows where the corpus has no held-out rows, or nothing to search.

    Raises:
        InputError: embeddings and indexes of other texts, of another embedder, or damaged.
    """
    about = corpus.select("id", "role", group=groups_of(corpus))
    suspected = set(about.filter(pl.col("role").is_in(SUSPECTED_ROLES))["group"])
    frames = [pl.DataFrame(schema=HELD_OUT_SCHEMA)]
    for part in parts:
        texts, rows = corpus_texts(corpus, part)
        held_out = np.flatnonzero((about["role"][rows] == "held-out").to_numpy())
        if not len(held_out):
            continue
        queries = np.asarray(read_vectors(corpus_vectors[part], texts)[held_out])
        texts = [texts[i] for i in held_out]
        own = (
            about[rows][held_out]
            .select("id", own_group="group")
            .with_columns(
                part=pl.lit(part),
                characters=pl.Series([len(text) for text in texts], dtype=pl.Int64),
            )
        )
        for name in sorted(group for group, of in indexes if of == part and group in suspected):
            group = read_group(corpus, name, part, corpus_vectors[part])
            found = _neighbours(
                indexes[name, part],
                group.vectors,
                queries,
                identity=identity_of(corpus_vectors[part]),
                candidates=candidates,
                search_k=search_k,
            )
            scores = _scored(texts, group, found, threads, f"held-out strings, {name}, {part}")
            frames.append(
                pl.concat([own, scores], how="horizontal")
                .with_columns(group=pl.lit(name))
                .select(list(HELD_OUT_SCHEMA))
            )
    return pl.concat(frames)
