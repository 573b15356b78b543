"""Verbs that do one step by hand: sample, search, score, curate."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from alignment_extraction.files import InputError, read_parquet, write_parquet

app = typer.Typer()
PANEL = "One step by hand"

Output = Annotated[Path, typer.Option(help="file to write")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default")]
GpuLayers = Annotated[int, typer.Option(min=-1, help="layers offloaded to a GPU; -1 is all")]
Shards = Annotated[list[Path], typer.Argument(help="shards of generations")]
Model = Annotated[Path, typer.Argument(help="the model, a GGUF file")]


@app.command(rich_help_panel=PANEL)
def generate(
    model: Model,
    output: Output = Path("generations.parquet"),
    prefix: Annotated[str, typer.Option(help="full, user, bos, none, or a name of your own")] = (
        "user"
    ),
    prefix_text: Annotated[str | None, typer.Option(help="the prefix itself, literally")] = None,
    end_text: Annotated[str, typer.Option(help="a text that ends the question")] = "",
    show_prefix: Annotated[
        bool, typer.Option("--show-prefix", help="print the prefix token by token, and stop")
    ] = False,
    seed: int = 0,
    samples: Annotated[int, typer.Option(min=1)] = 256,
    max_tokens: Annotated[int, typer.Option(min=1, help="limit of the question turn")] = 256,
    max_answer_tokens: Annotated[
        int | None, typer.Option(min=1, help="also draw an answer of at most so many tokens")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy")] = 1.0,
    slots: Annotated[int, typer.Option(min=1, help="sequences decoded together")] = 64,
    threads: Threads = None,
    gpu_layers: GpuLayers = 0,
) -> None:
    """Sample a model after its template prefix alone.

    Example: alignment-extraction generate data/models/smollm2.gguf --samples 8 --max-tokens 64
    """
    from alignment_extraction.generations.generation import write_shard
    from alignment_extraction.generations.prefix import shown_prefix
    from alignment_extraction.settings.studies import LiteralPrefix, SamplingSettings

    form: Any = prefix
    if prefix_text is not None:
        form = LiteralPrefix(name=prefix, text=prefix_text, end=end_text)
    if show_prefix:
        print(shown_prefix(model, form))
        return
    write_shard(
        model,
        output,
        prefix=form,
        sampling=SamplingSettings(
            samples=samples,
            max_tokens=max_tokens,
            answer=max_answer_tokens is not None,
            max_answer_tokens=max_answer_tokens or 1,
            temperature=temperature,
            slots=slots,
        ),
        seed=seed,
        first=0,
        samples=samples,
        threads=threads,
        gpu_layers=gpu_layers,
    )
    print(f"{samples} generations: {output}")


@app.command(rich_help_panel=PANEL)
def search(
    generations: Shards,
    corpus: Annotated[Path, typer.Option(help="a corpus, as `snakemake datasets` builds it")],
    embedder: Annotated[Path, typer.Option(help="folder of a sentence-transformers model")],
    output: Output = Path("scores.parquet"),
    field: Annotated[str, typer.Option(help="question, answer or both")] = "question",
    threads: Threads = None,
) -> None:
    """Find the nearest rows of every generation, by embedding and by string, exactly.

    Example: alignment-extraction search generations.parquet --corpus
    data/corpora/controlled/corpus.parquet --embedder data/embedders/minilm
    """
    from alignment_extraction.corpora.reading import read_corpus
    from alignment_extraction.corpora.texts import unique_texts
    from alignment_extraction.generations.shards import read_shards
    from alignment_extraction.search.embedding import Embedder
    from alignment_extraction.search.matching import match_exactly
    from alignment_extraction.search.scores import score
    from alignment_extraction.vocabulary import Condition

    drawn = read_shards(generations)
    texts, embed = unique_texts(drawn, field), Embedder(embedder).embed
    matches = match_exactly(texts, read_corpus(corpus), field, embed, threads or 1)
    frame = score(Condition(generations[0].stem, "by hand", 0), drawn, matches, [field])
    write_parquet(frame, output)
    print(f"{frame.height} scores: {output}")


@app.command(rich_help_panel=PANEL)
def likelihood(
    model: Model,
    corpus: Annotated[Path, typer.Option(help="a corpus, as `snakemake datasets` builds it")],
    output: Output = Path("likelihood.parquet"),
    source: Annotated[list[str] | None, typer.Option(help="corpus source; all by default")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="random rows of each group")] = None,
    prefix: Annotated[str, typer.Option(help="full, user, bos or none")] = "user",
    prefix_text: Annotated[str | None, typer.Option(help="the prefix itself, literally")] = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = 0,
) -> None:
    """Log-likelihood of every row of a corpus under one model.

    Example: alignment-extraction likelihood data/models/sft-q8.gguf --corpus
    data/corpora/controlled/corpus.parquet --source rl
    """
    from alignment_extraction.corpora.reading import read_corpus
    from alignment_extraction.likelihoods.likelihood import select_rows, write_likelihood
    from alignment_extraction.settings.studies import LiteralPrefix

    rows = select_rows(read_corpus(corpus), source or [], limit)
    form: Any = prefix
    if prefix_text is not None:
        form = LiteralPrefix(name=prefix, text=prefix_text)
    write_likelihood(
        model,
        rows,
        output,
        prefix=form,
        threads=threads,
        gpu_layers=gpu_layers,
    )
    print(f"{rows.height} rows: {output}")


@app.command(rich_help_panel=PANEL)
def curate(
    generations: Shards,
    output: Output = Path("extracted.parquet"),
    near_duplicate: Annotated[
        float, typer.Option(min=0, max=1, help="similarity from which one of two is dropped")
    ] = 0.8,
    trl: Annotated[
        Literal["sft", "rl"] | None,
        typer.Option(help="write the columns that `trl sft` or `trl grpo` reads"),
    ] = None,
) -> None:
    """Make a data set of generations: ended turns, no near duplicates; it names its model.

    Example: alignment-extraction curate
    data/generations/controlled/sft-q8/user/seed-0/00000.parquet
    """
    import polars as pl

    from alignment_extraction.distillation import curation

    frame = pl.concat([read_parquet(path) for path in generations])
    if frame["answer"].null_count() == frame.height:
        raise InputError(
            f"{generations[0]}: its generations have no answers, which a data set needs; draw them "
            "with --max-answer-tokens (in a study: sampling.answer)"
        )
    curated = curation.curate(frame, near_duplicate)
    rows = curation.trl_columns(curated.rows, trl) if trl else curated.rows
    made = pl.read_parquet_metadata(generations[0])
    about: dict[str, str] = {
        key: made[key] for key in ("model", "model_sha256", "prefix") if key in made
    }
    write_parquet(rows, output, about)
    for row in curated.counts.iter_rows(named=True):
        print("{step}: {dropped} of {before} left out".format(**row))
    print(f"{rows.height} of {frame.height} generations: {output}")
