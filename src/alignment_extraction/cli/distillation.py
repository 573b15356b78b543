"""The verb that makes a data set for training out of generations."""

from typing import Annotated, Literal

import typer

from alignment_extraction.cli.options import Output, Shards, read_shards
from alignment_extraction.files import atomic_path, write_parquet

app = typer.Typer()


@app.command()
def curate(
    generations: Shards,
    output: Output,
    near_duplicate: Annotated[
        float, typer.Option(min=0.01, max=1, help="Jaccard similarity of word 5-grams")
    ] = 0.8,
    trl: Annotated[
        Literal["sft", "rl"] | None,
        typer.Option(help="write the columns that `trl sft` or `trl grpo` reads"),
    ] = None,
) -> None:
    """Make a data set for training out of any model's generations with answers.

    Beside it lies its card, OUTPUT.md, with what each step dropped.

    Example: alignment-extraction curate data/generations/mine/sft/user/seed-0/*.parquet --output
    extracted.parquet
    """
    import polars as pl

    from alignment_extraction.distillation import card, curation

    curated = curation.curate(read_shards(generations), near_duplicate)
    rows = curation.trl_columns(curated.rows, trl) if trl else curated.rows
    counts = curated.counts.select(pl.lit(output.stem).alias("data_set"), "*")
    about = card.card(output.stem, counts, {"generations": card.origin(generations)})
    write_parquet(rows, output)
    with atomic_path(output.with_suffix(".md")) as partial:
        partial.write_text(about)
