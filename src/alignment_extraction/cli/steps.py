"""Verbs that do one step by hand: sample, search, score, curate."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from alignment_extraction.files import InputError, read_parquet, write_parquet

app = typer.Typer()
PANEL = "One step by hand"

Output = Annotated[Path, Option(help="file to write")]
Number = int | None
Threads = Annotated[Number, Option(min=1, help="CPU threads; all cores by default")]
GpuLayers = Annotated[int, Option(min=-1, help="layers offloaded to a GPU; -1 is all")]
Shards = Annotated[list[Path], Argument(help="shards of generations")]
Model = Annotated[Path, Argument(help="the model, a GGUF file")]
Corpus = Annotated[Path, Option(help="a corpus, as `snakemake datasets` builds it")]
PrefixText = Annotated[str | None, Option(help="the prefix itself, literally")]


def _prefix(name: str, text: str | None, end: str = "") -> Any:
    """A prefix as settings have it: a form, or a literal text."""
    from alignment_extraction.settings.base import checked
    from alignment_extraction.settings.studies import LiteralPrefix

    given = {"name": name, "text": text, "end": end}
    return name if text is None else checked(LiteralPrefix, given, "--prefix-text")


@app.command(rich_help_panel=PANEL)
def generate(
    model: Model,
    output: Output = Path("generations.parquet"),
    prefix: Annotated[str, Option(help="full, user, bos, none, or a name of yours")] = "user",
    prefix_text: PrefixText = None,
    end_text: Annotated[str, Option(help="a text that ends the question")] = "",
    show_prefix: Annotated[bool, Option("--show-prefix", help="print its tokens and stop")] = False,
    seed: int = 0,
    samples: Annotated[int, Option(min=1)] = 256,
    max_tokens: Annotated[int, Option(min=1, help="limit of the question turn")] = 256,
    max_answer_tokens: Annotated[Number, Option(min=1, help="draw answers too, up to this")] = None,
    temperature: Annotated[float, Option(min=0, help="0 is greedy")] = 1.0,
    slots: Annotated[int, Option(min=1, max=256, help="sequences decoded together")] = 64,
    threads: Threads = None,
    gpu_layers: GpuLayers = 0,
) -> None:
    """Sample a model after its template prefix alone.

    Example: alignment-extraction generate data/models/smollm2.gguf --samples 8 --max-tokens 64
    """
    from alignment_extraction.generations.generation import write_shard
    from alignment_extraction.generations.prefix import shown_prefix
    from alignment_extraction.settings.studies import SamplingSettings

    form = _prefix(prefix, prefix_text, end_text)
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
    corpus: Corpus,
    embedder: Annotated[Path, Option(help="folder of a sentence-transformers model")],
    output: Output = Path("scores.parquet"),
    field: Annotated[str, Option(help="question, answer or both")] = "question",
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
    corpus: Corpus,
    output: Output = Path("likelihood.parquet"),
    source: Annotated[list[str] | None, Option(help="corpus source; all by default")] = None,
    limit: Annotated[Number, Option(min=1, help="random rows of each group")] = None,
    prefix: Annotated[str, Option(help="full, user, bos or none")] = "user",
    prefix_text: PrefixText = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = 0,
) -> None:
    """Log-likelihood of every row of a corpus under one model.

    Example: alignment-extraction likelihood data/models/sft-q8.gguf --corpus
    data/corpora/controlled/corpus.parquet --source rl
    """
    from alignment_extraction.corpora.reading import read_corpus
    from alignment_extraction.likelihoods.likelihood import select_rows, write_likelihood

    rows = select_rows(read_corpus(corpus), source or [], limit)
    form = _prefix(prefix, prefix_text)
    write_likelihood(model, rows, output, prefix=form, threads=threads, gpu_layers=gpu_layers)
    print(f"{rows.height} rows: {output}")


@app.command(rich_help_panel=PANEL)
def curate(
    generations: Shards,
    output: Output = Path("extracted.parquet"),
    near_duplicate: Annotated[float, Option(min=0, max=1, help="similarity of duplicates")] = 0.8,
    trl: Annotated[Literal["sft", "rl"] | None, Option(help="columns as TRL reads them")] = None,
) -> None:
    """Make a data set of generations: ended turns, no near duplicates; it names its model.

    Example: alignment-extraction curate
    data/generations/controlled/sft-q8/user/seed-0/00000.parquet
    """
    import polars as pl

    from alignment_extraction.distillation import curation

    frame = pl.concat([read_parquet(path, curation.COLUMNS) for path in generations])
    if frame["answer"].null_count() == frame.height:
        raise InputError(
            f"{generations[0]}: its generations have no answers, which a data set needs; draw them "
            "with --max-answer-tokens (in a study: sampling.answer)"
        )
    curated = curation.curate(frame, near_duplicate)
    rows = curation.trl_columns(curated.rows, trl) if trl else curated.rows
    made = pl.read_parquet_metadata(generations[0])
    about = {k: v for k, v in made.items() if k in ("model", "model_sha256", "prefix")}
    write_parquet(rows, output, about)
    for row in curated.counts.iter_rows(named=True):
        print("{step}: {dropped} of {before} left out".format(**row))
    print(f"{rows.height} of {frame.height} generations: {output}")
