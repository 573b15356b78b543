"""The step of embedding, as rules run it: texts and settings in, vectors on disk."""

from collections.abc import Sequence
from pathlib import Path

from alignment_extraction.gpu import torch_device
from alignment_extraction.search.embedding import Embedder, write_embeddings
from alignment_extraction.settings.config import EmbedderSettings


def embed_file(
    texts: Sequence[str],
    folder: Path,
    settings: EmbedderSettings,
    output: Path,
    *,
    gpu: bool = False,
) -> None:
    """Embed texts and write their vectors, with a description beside them.

    Args:
        texts: in the order of the vectors; equal ones are embedded once.
        folder: of the embedder.
        settings: of the embedder.
        output: .npy to write; see `embedding.write_embeddings`.
        gpu: a GPU is expected: warn where there is none.

    Raises:
        InputError: the embedder cannot be used, or gives a vector that is not finite.
    """
    if gpu:
        torch_device("embedding")
    embedder = Embedder(
        folder,
        max_tokens=settings.max_tokens,
        batch_size=settings.batch_size,
        dtype=settings.dtype,
    )
    write_embeddings(embedder, texts, output, progress=True)
