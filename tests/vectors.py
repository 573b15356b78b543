"""Vectors in the files that the embedding step writes, without an embedder."""

from pathlib import Path

import numpy as np

from alignment_extraction.files import write_json
from alignment_extraction.search.embedding import hash_texts


def write_vectors(vectors: np.ndarray, texts: list[str], identity: str, path: Path) -> None:
    """Write `vectors` of `texts`, as the embedder `identity` would have given them."""
    np.save(path, vectors)
    about = {"embedder": identity, "texts": hash_texts(texts)}
    rows, dimension = vectors.shape
    write_json({**about, "rows": rows, "dimension": dimension}, path.with_suffix(".json"))
