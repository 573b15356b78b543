"""The nearest corpus items of every generated text, by embedding and by string.

The corpus is searched group by group (the rows of one source and role), so that the same
generations can be held against members and against their twins.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rapidfuzz import process

from alignment_extraction.corpora.texts import searched_rows, unique_texts
from alignment_extraction.files import InputError
from alignment_extraction.gpu import torch_device
from alignment_extraction.search.embedding import Vectors, identity_of, read_vectors
from alignment_extraction.search.index import Annoy, Exact, Neighbours, build_index, recall_at_1
from alignment_extraction.search.string_search import SCORERS, best_among, best_matches
from alignment_extraction.settings.studies import IndexSettings
from alignment_extraction.statistics import named_seed
from alignment_extraction.vocabulary import MATCHES

_COPY = 0.9  # Levenshtein similarity from which an audit counts a row as copied


def group_of(rows: pl.DataFrame, name: str, vectors: Vectors) -> tuple[pl.DataFrame, Vectors]:
    """The rows of one group of `searched_rows`, and their part of the vectors of all.

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
    return rows[at], vectors[at[0] : at[-1] + 1] if adjacent else np.asarray(vectors[at])


def index_group(
    corpus: pl.DataFrame, group: str, field: str, vectors: Path, output: Path, **options: int
) -> None:
    """Build the Annoy index of one group and field of a corpus, from its embeddings.

    `options` are `trees` and `seed` of `build_index`. Raises as `group_of` and `read_vectors` do.
    """
    rows = searched_rows(corpus, field)
    _, own = group_of(rows, group, read_vectors(vectors, rows["compared"].to_list()))
    build_index(own, output, identity=identity_of(vectors), **options)


def match(
    generations: pl.DataFrame,
    corpus: pl.DataFrame,
    *,
    generation_vectors: Mapping[str, Path],
    corpus_vectors: Mapping[str, Path],
    indexes: Mapping[tuple[str, str], Path | None],
    settings: IndexSettings,
    seed: int,
    threads: int = 1,
) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
    """Search every distinct generated text in every group of the corpus.

    Args:
        generations: has `question` and `answer`.
        corpus: see `vocabulary.CORPUS`.
        generation_vectors: field -> embeddings of the distinct generated texts.
        corpus_vectors: field -> embeddings of the corpus's `searched_rows`.
        indexes: (group, field) -> Annoy index, or None for exact search.
        settings: how Annoy is asked, which rows strings are compared with, and how many queries of
            the `audit` are searched exactly too.
        seed: of the audit's sample.
        threads: of Annoy and the string search.

    Returns:
        The matches (`vocabulary.MATCHES`), and for each `group/field` the audit's `queries` and
        `recall_at_1`; of exact search, all queries and 1. With strings of near rows alone `copies`,
        the queries with a row at Levenshtein 0.9 or more, and `copies_found`, those found as well.

    Raises:
        InputError: a group or field that the corpus lacks, or embeddings and indexes of other
            texts, of another embedder, or damaged.
    """
    frames, near = [pl.DataFrame(schema=MATCHES)], settings.strings == "near"
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
            group, own = group_of(rows, name, vectors)
            key, path = f"{name}/{field}", indexes[name, field]
            stream = np.random.default_rng(named_seed(seed, f"audit/{key}"))
            size = min(settings.audit, len(queries))
            sample = np.sort(stream.choice(len(queries), size, replace=False))
            if path is None:
                candidates = settings.candidates if near else 1
                device = torch_device("exact search")
                found = Exact(own, device=device, candidates=candidates).search(queries)
                audits[key] = {"queries": len(queries), "recall_at_1": 1.0}
            else:
                options = settings.model_dump(include={"candidates", "search_k"})
                options |= {"identity": identity, "threads": threads}
                found = Annoy(path, own, **options).search(queries)
                if size:
                    nearest = Exact(own).search(queries[sample]).cosine
                    recall = recall_at_1(found.cosine[sample], nearest)
                    audits[key] = {"queries": size, "recall_at_1": recall}
            frames.append(_matches(texts, field, group, found, threads, near))
            if near and size:
                written = frames[-1]["levenshtein_best"].to_numpy()[sample]
                known = group["compared"].to_list()
                audits[key] |= _copies([texts[i] for i in sample], written, known, threads)
    return pl.concat(frames), audits


def _copies(texts: list[str], written: Any, rows: list[str], threads: int) -> dict[str, int]:
    """How many texts copy any of the rows, and how many such have as good a match in `written`."""
    options: Any = {"score_cutoff": _COPY, "dtype": np.float32, "workers": threads}
    pieces = [texts[i : i + 8] for i in range(0, len(texts), 8)]  # a million scores of each
    scorer = SCORERS["levenshtein"]
    best = np.hstack([process.cdist(p, rows, scorer=scorer, **options).max(axis=1) for p in pieces])
    same = (best > 0) & (written >= best)
    return {"copies": int((best > 0).sum()), "copies_found": int(same.sum())}


def match_exactly(
    texts: Sequence[str],
    corpus: pl.DataFrame,
    field: str,
    embed: Callable[[Sequence[str]], Vectors],
    threads: int = 1,
) -> pl.DataFrame:
    """`match` distinct texts of one field without files; `embed` gives unit vectors of texts."""
    rows = searched_rows(corpus, field)
    queries, vectors = embed(texts), embed(rows["compared"].to_list())
    frames = [pl.DataFrame(schema=MATCHES)]
    for name in rows["group"].unique().sort():
        group, own = group_of(rows, name, vectors)
        frames.append(_matches(texts, field, group, Exact(own).search(queries), threads))
    return pl.concat(frames)


def _matches(
    texts: Sequence[str],
    field: str,
    group: pl.DataFrame,
    found: Neighbours,
    threads: int,
    near: bool = False,
) -> pl.DataFrame:
    """The matches of texts in one group (`vocabulary.MATCHES`), in the order of `texts`."""
    ids, rows, name = group["id"], group["compared"].to_list(), group["group"][0]
    columns: dict[str, Any] = {
        "text": texts,
        "field": field,
        "group": name,
        "match_id": ids[found.position],
        "cosine": found.cosine,
    }
    matched = [rows[i] for i in found.position]
    label = f"strings, {name}, {field}"
    if near:
        best = best_among(texts, rows, found.candidates, threads)
    else:
        best = best_matches(texts, rows, threads, progress=label)
    for metric, scorer in SCORERS.items():
        columns[metric] = process.cpdist(
            texts, matched, scorer=scorer, dtype=np.float32, workers=threads
        )
        position = pl.Series(best[metric].position).replace(-1, None)
        columns[f"{metric}_best_id"] = ids.gather(position)
        columns[f"{metric}_best"] = best[metric].similarity
    return pl.DataFrame(columns, schema=MATCHES).fill_nan(None)
