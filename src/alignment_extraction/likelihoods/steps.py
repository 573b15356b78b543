"""The step of likelihood, as rules and verbs run it: settings in, a table on disk."""

from pathlib import Path

import polars as pl

from alignment_extraction.files import unchanged, write_parquet
from alignment_extraction.generations.steps import literal
from alignment_extraction.gpu import usable_gpu_layers
from alignment_extraction.likelihoods.likelihood import likelihood
from alignment_extraction.settings.studies import LiteralPrefix, PrefixForm


def write_likelihood(
    model: Path,
    rows: pl.DataFrame,
    output: Path,
    *,
    prefix: PrefixForm | LiteralPrefix,
    template_of: Path | None = None,
    threads: int | None = None,
    gpu_layers: int = 0,
    sha256: str | None = None,
) -> None:
    """Score every row of a corpus under one model and write the table.

    Args:
        model: the GGUF.
        rows: of the corpus; see `likelihood.select_rows`.
        output: Parquet to write.
        prefix: an entry of a study's `prefixes`, before the question.
        template_of: a GGUF whose chat template is used instead of the model's own.
        threads: of llama.cpp; None uses every core.
        gpu_layers: layers wanted on a GPU; -1 is all.
        sha256: what the GGUF must be; None takes any.

    Raises:
        InputError: see `likelihood.likelihood`, and the GGUF is another one or was replaced.
    """
    name, text, end = literal(prefix)
    with unchanged(model, sha256) as found:
        frame = likelihood(
            model,
            rows,
            prefix=name,
            prefix_text=text,
            end_text=end,
            template_of=template_of,
            threads=threads,
            gpu_layers=usable_gpu_layers(gpu_layers),
        )
    write_parquet(frame, output, {"model": f"{model.name} {found}"})
