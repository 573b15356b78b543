"""Verbs that sample models, embed what they wrote, search the corpus for it, score likelihoods."""

from pathlib import Path
from typing import Annotated, Any

import typer

from alignment_extraction.cli.options import (
    CorpusFile,
    Gpu,
    GpuLayers,
    Output,
    SettingsFile,
    Shards,
    Threads,
    read_settings,
    read_shards,
    same_model,
)
from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.files import InputError, sha256, write_json, write_parquet
from alignment_extraction.gpu import torch_device, usable_gpu_layers

app = typer.Typer()


@app.command()
def generate(
    model: Annotated[Path, typer.Option(help="a GGUF model")],
    prefix: Annotated[str, typer.Option(help="full, user, bos, none, or a name of your own")],
    output: Annotated[Path | None, typer.Option(help="file to write")] = None,
    prefix_text: Annotated[str | None, typer.Option(help="the prefix itself, literally")] = None,
    end_text: Annotated[str, typer.Option(help="a text that ends the question")] = "",
    seed: int = 0,
    first: Annotated[int, typer.Option(min=0, help="index of the first generation")] = 0,
    samples: Annotated[int, typer.Option(min=1)] = 256,
    max_tokens: Annotated[int, typer.Option(min=1, help="limit of the question turn")] = 256,
    max_answer_tokens: Annotated[
        int | None, typer.Option(min=1, help="also draw an answer of at most so many tokens")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="0 is all tokens")] = 0,
    top_p: Annotated[float, typer.Option(min=0, max=1)] = 1.0,
    min_p: Annotated[float, typer.Option(min=0, max=1)] = 0.0,
    slots: Annotated[int, typer.Option(min=1, help="sequences decoded together")] = 64,
    threads: Threads = None,
    gpu_layers: GpuLayers = 0,
    model_sha256: Annotated[str | None, typer.Option(help="what the model must be")] = None,
    show_prefix: Annotated[
        bool, typer.Option(help="only show the prefix, as tokens with their ids")
    ] = False,
) -> None:
    """Sample a model from nothing but its template prefix.

    Example: alignment-extraction generate --model model.gguf --prefix user --samples 1000
    --output generations.parquet
    """
    from alignment_extraction.generations.generation import generate as draw

    if show_prefix:
        from alignment_extraction.engine.model import Model
        from alignment_extraction.generations.prefix import describe_prefix

        with Model(model, threads=threads) as loaded:
            for token, piece in describe_prefix(loaded, prefix, prefix_text).iter_rows():
                typer.echo(f"{token}\t{piece!r}")
        return
    if output is None:
        raise InputError("--output is missing; give the file to write, or --show-prefix")
    with same_model(model, model_sha256):
        frame, about = draw(
            model,
            prefix=prefix,
            prefix_text=prefix_text,
            end_text=end_text,
            seed=seed,
            first=first,
            samples=samples,
            max_tokens=max_tokens,
            max_answer_tokens=max_answer_tokens,
            sampling={
                "temperature": temperature,
                "top_k": top_k,
                "top_p": top_p,
                "min_p": min_p,
                "slots": slots,
            },
            threads=threads,
            gpu_layers=usable_gpu_layers(gpu_layers),
            model_sha256=model_sha256,
        )
    write_parquet(frame, output, about)


@app.command("embed-generations")
def embed_generations(
    generations: Shards,
    embedder: Annotated[Path, typer.Option(help="folder of a sentence-transformers model")],
    output: Output,
    part: Annotated[str, typer.Option(help="question, answer or both")] = "question",
    max_tokens: int = 256,
    batch_size: int = 64,
    gpu: Gpu = False,
) -> None:
    """Embed the distinct texts of generations."""
    from alignment_extraction.corpora.texts import unique_texts
    from alignment_extraction.search.embedding import Embedder, write_embeddings

    texts = unique_texts(read_shards(generations), part)
    if gpu:
        torch_device("embedding")
    model = Embedder(embedder, max_tokens=max_tokens, batch_size=batch_size)
    write_embeddings(model, texts, output, progress=True)


@app.command()
def match(
    generations: Shards,
    corpus: CorpusFile,
    settings: SettingsFile,
    output: Output,
    audit_output: Annotated[Path, typer.Option(help="JSON with Annoy's recall@1")],
    candidates: int = 10,
    search_k: int = -1,
    audit: Annotated[int, typer.Option(min=0, help="queries also searched exactly")] = 200,
    seed: int = 0,
    threads: Threads = None,
) -> None:
    """Find the nearest corpus items of every generation, by embedding and by string.

    The settings name the files: {parts: {question: {generations: a.npy, corpus: b.npy,
    indexes: {group: c.ann}}}}.
    """
    from alignment_extraction.search.matching import match as find

    parts = read_settings(settings)["parts"]
    frame, audits = find(
        read_shards(generations),
        read_corpus(corpus),
        parts=list(parts),
        generation_vectors={part: Path(files["generations"]) for part, files in parts.items()},
        corpus_vectors={part: Path(files["corpus"]) for part, files in parts.items()},
        indexes=_indexes(parts),
        candidates=candidates,
        search_k=search_k,
        audit=audit,
        seed=seed,
        threads=threads or 1,
    )
    write_json(audits, audit_output)
    write_parquet(frame, output)


@app.command("match-held-out")
def match_held_out(
    corpus: CorpusFile,
    settings: SettingsFile,
    output: Output,
    candidates: int = 10,
    search_k: int = -1,
    threads: Threads = None,
) -> None:
    """Find the nearest trained-on items of every held-out corpus row, as `match` does for
    generations.

    The settings name the files: {parts: {question: {corpus: b.npy, indexes: {group: c.ann}}}}.
    """
    from alignment_extraction.search.matching import match_held_out as find

    parts = read_settings(settings)["parts"]
    frame = find(
        read_corpus(corpus),
        parts=list(parts),
        corpus_vectors={part: Path(files["corpus"]) for part, files in parts.items()},
        indexes=_indexes(parts),
        candidates=candidates,
        search_k=search_k,
        threads=threads or 1,
    )
    write_parquet(frame, output)


def _indexes(parts: dict[str, Any]) -> dict[tuple[str, str], Path | None]:
    """The Annoy index of each group and part; None, in the settings null, is exact search."""
    return {
        (group, part): path and Path(path)
        for part, files in parts.items()
        for group, path in files["indexes"].items()
    }


@app.command()
def likelihood(
    model: Annotated[Path, typer.Option(help="a GGUF model")],
    corpus: CorpusFile,
    output: Output,
    source: Annotated[list[str] | None, typer.Option(help="corpus source; all by default")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="first rows of each group")] = None,
    prefix: Annotated[str, typer.Option(help="full, user, or a name of your own")] = "user",
    prefix_text: Annotated[str | None, typer.Option(help="the prefix itself, literally")] = None,
    end_text: Annotated[str, typer.Option(help="a text that ends the question")] = "",
    template_of: Annotated[
        Path | None, typer.Option(help="a GGUF whose chat template is used instead")
    ] = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = 0,
    model_sha256: Annotated[str | None, typer.Option(help="what the model must be")] = None,
) -> None:
    """Log-likelihood of a corpus's questions and answers under a model.

    Example: alignment-extraction likelihood --model rl.gguf --corpus corpus.parquet --source rl
    --output likelihood.parquet
    """
    from alignment_extraction.likelihoods import likelihood as module

    rows = module.select_rows(read_corpus(corpus), source or [], limit)
    with same_model(model, model_sha256):
        frame = module.likelihood(
            model,
            rows,
            prefix=prefix,
            prefix_text=prefix_text,
            end_text=end_text,
            template_of=template_of,
            threads=threads,
            gpu_layers=usable_gpu_layers(gpu_layers),
        )
        about = {"model": model.name, "model_sha256": model_sha256 or sha256(model)}
    write_parquet(frame, output, about)
