"""Verbs of the analyses that stand beside the rates: audit, controls, contamination, embedders."""

from pathlib import Path
from typing import Annotated, Any

import typer

from alignment_extraction.cli.options import (
    CorpusFile,
    Gpu,
    Output,
    SettingsFile,
    Shards,
    Threads,
    parse_settings,
    read_settings,
    read_shards,
)
from alignment_extraction.files import read_parquet, write_parquet
from alignment_extraction.gpu import torch_device

app = typer.Typer()

Part = Annotated[str, typer.Option(help="question, answer or both")]
Scores = Annotated[Path, typer.Option(help="from `score`")]
HeldOut = Annotated[Path, typer.Option(help="from `match-held-out`")]
Vectors = Annotated[Path, typer.Option(help="embeddings of the generations' distinct texts")]
CorpusVectors = Annotated[Path, typer.Option(help="embeddings of the corpus's rows")]


def _cell(entry: dict[str, Any]) -> Any:
    from alignment_extraction.settings.studies import Cell

    return Cell(entry["model"], entry["prefix"], entry["seed"])


def _thresholds(values: Any) -> Any:
    from alignment_extraction.settings.studies import ThresholdSettings

    return parse_settings(ThresholdSettings, values, "thresholds")


@app.command("search-audit")
def search_audit(
    generations: Shards,
    vectors: Vectors,
    corpus: CorpusFile,
    corpus_vectors: CorpusVectors,
    output: Output,
    speed_output: Annotated[Path, typer.Option(help="table of speeds, which are measured")],
    trees: Annotated[list[int], typer.Option(help="repeatable")],
    search_k: Annotated[list[int], typer.Option(help="repeatable; -1 is trees x candidates")],
    part: Part = "question",
    queries: Annotated[int, typer.Option(min=1, help="generations, at random")] = 500,
    candidates: int = 50,
    seed: int = 0,
) -> None:
    """Search a sample of generations by Annoy under many settings, and exactly."""
    import numpy as np

    from alignment_extraction.corpora.texts import corpus_texts
    from alignment_extraction.search import audit, evidence
    from alignment_extraction.search.embedding import read_vectors

    shards, frame = read_shards(generations), read_parquet(corpus)
    sampled = evidence.sample(shards, part, queries, seed, "search-audit")
    _, own = evidence.sample_vectors(sampled, *evidence.text_vectors(shards, part, vectors))
    _, chosen = evidence.suspected_rows(frame, part)
    texts, _ = corpus_texts(frame, part)
    found = audit.audit(
        own,
        np.asarray(read_vectors(corpus_vectors, texts)[chosen]),
        trees=trees,
        search_k=search_k,
        candidates=candidates,
        seed=seed,
    )
    write_parquet(found.speed, speed_output)
    write_parquet(found.neighbours, output)


@app.command("search-recall")
def search_recall(
    neighbours: Annotated[Path, typer.Option(help="from `search-audit`")],
    output: Output,
    threshold: Annotated[float, typer.Option(help="cosine of an extracted generation")] = 0.95,
) -> None:
    """Recall@1, recall@10 and extraction rate of every setting of a search audit."""
    from alignment_extraction.search import audit

    write_parquet(audit.summarise(read_parquet(neighbours), threshold), output)


@app.command("match-control")
def match_control(
    generations: Shards,
    vectors: Vectors,
    corpus: CorpusFile,
    control: Annotated[Path, typer.Option(help="an unrelated corpus")],
    control_vectors: Annotated[Path, typer.Option(help="embeddings of its rows")],
    output: Output,
    part: Part = "question",
    samples: Annotated[int, typer.Option(min=1, help="generations, at random")] = 2000,
    seed: int = 0,
    threads: Threads = None,
) -> None:
    """Search generations in an unrelated corpus, in as many rows as the suspected ones are."""
    from alignment_extraction.search import evidence

    found = evidence.match_control(
        read_shards(generations),
        read_parquet(control),
        part=part,
        generation_vectors=vectors,
        control_vectors=control_vectors,
        rows=evidence.suspected_rows(read_parquet(corpus), part)[0].height,
        samples=samples,
        seed=seed,
        threads=threads or 1,
    )
    write_parquet(found, output)


@app.command()
def controls(
    scores: Scores,
    calibration: Annotated[Path, typer.Option(help="table of `calibrate`")],
    settings: SettingsFile,
    output: Output,
) -> None:
    """Hold the rates of the most sampled cells against controls.

    The settings: {cells: [{model, prefix, seed, matches: file from `match-control` or null}], part,
    models, prefixes, corpus: name of the unrelated one or null, thresholds}.
    """
    from alignment_extraction.extraction import controls as module

    values = read_settings(settings)
    table = module.controls(
        read_parquet(scores),
        read_parquet(calibration),
        {
            _cell(entry): read_parquet(Path(entry["matches"]))
            for entry in values["cells"]
            if entry["matches"]
        },
        cells=[_cell(entry) for entry in values["cells"]],
        part=values["part"],
        models=values["models"],
        prefixes=values["prefixes"],
        corpus=values["corpus"],
        thresholds=_thresholds(values["thresholds"]),
    )
    write_parquet(table, output)


@app.command()
def contamination(
    corpus: CorpusFile,
    corpus_vectors: CorpusVectors,
    settings: SettingsFile,
    output: Output,
    embedder: Annotated[
        Path | None, typer.Option(help="of the corpus's vectors; needed for `sources`")
    ] = None,
    part: Part = "question",
    max_tokens: int = 256,
    batch_size: int = 64,
    seed: int = 0,
    gpu: Gpu = False,
) -> None:
    """Tag corpus rows that also occur in public texts, by runs of words and by embedding.

    The settings are those of `contamination` in params.yaml.
    """
    from alignment_extraction.corpora import contamination as module
    from alignment_extraction.settings.evidence import ContaminationSettings

    values = parse_settings(ContaminationSettings, read_settings(settings), "contamination")
    if gpu:
        torch_device("embedding")
    table = module.tag_corpus(
        read_parquet(corpus),
        corpus_vectors,
        values,
        part=part,
        embedder=embedder,
        max_tokens=max_tokens,
        batch_size=batch_size,
        seed=seed,
    )
    write_parquet(table, output)


@app.command("contamination-rates")
def contamination_rates(
    scores: Scores,
    contamination: Annotated[Path, typer.Option(help="from `contamination`")],
    thresholds: SettingsFile,
    output: Output,
) -> None:
    """Extraction rates with and without the tagged rows."""
    from alignment_extraction.extraction import contamination as module

    table = module.contamination_rates(
        read_parquet(scores), read_parquet(contamination), _thresholds(read_settings(thresholds))
    )
    write_parquet(table, output)


@app.command("second-scores")
def second_scores(
    corpus: CorpusFile,
    corpus_vectors: CorpusVectors,
    settings: SettingsFile,
    output: Output,
    held_out_output: Annotated[Path, typer.Option(help="the held-out rows' scores")],
    seed: int = 0,
) -> None:
    """Score a sample of generations, and the held-out rows, under a second embedder.

    The settings: {cells: [{model, prefix, seed, generations: [files], vectors: file}], part,
    samples}.
    """
    import polars as pl

    from alignment_extraction.search import evidence

    values, frame = read_settings(settings), read_parquet(corpus)
    part = values["part"]
    tables: list[pl.DataFrame] = []
    held_out: Any = None
    for entry in values["cells"]:
        shards = read_shards([Path(path) for path in entry["generations"]])
        sampled = evidence.sample(shards, part, values["samples"], seed, "second-embedder")
        found, held_out = evidence.second_scores(
            sampled, Path(entry["vectors"]), frame, corpus_vectors, part
        )
        cell = [pl.lit(value).alias(key) for key, value in _cell(entry)._asdict().items()]
        tables.append(found.select(*cell, pl.all()))
    write_parquet(held_out, held_out_output)
    write_parquet(pl.concat(tables), output)


@app.command("second-embedder")
def second_embedder(
    scores: Scores,
    held_out: HeldOut,
    corpus: CorpusFile,
    second: Annotated[Path, typer.Option(help="from `second-scores`")],
    second_held_out: Annotated[Path, typer.Option(help="likewise, of the held-out rows")],
    names: Annotated[list[str], typer.Option(help="of the first embedder and the second one")],
    thresholds: SettingsFile,
    output_folder: Annotated[Path, typer.Option(help="folder of the study's results")],
    part: Part = "question",
    seed: int = 0,
) -> None:
    """Compare the scores of two embedders: rates, calibrated thresholds, agreement."""
    from alignment_extraction.extraction import embedders
    from alignment_extraction.search import evidence

    frame = read_parquet(corpus)
    rows, _ = evidence.suspected_rows(frame, part)
    first_name, second_name = names
    tables = embedders.compare(
        read_parquet(scores),
        read_parquet(held_out),
        frame,
        read_parquet(second),
        read_parquet(second_held_out),
        names=(first_name, second_name),
        part=part,
        reference=f"role:{rows['role'][0]}",
        thresholds=_thresholds(read_settings(thresholds)),
        seed=seed,
    )
    for name, table in zip(("embedders", "embedder_agreement"), tables, strict=True):
        write_parquet(table, output_folder / f"{name}.parquet")


@app.command("embed-sample")
def embed_sample(
    generations: Shards,
    embedder: Annotated[Path, typer.Option(help="folder of the second embedder")],
    output: Output,
    part: Part = "question",
    samples: Annotated[int, typer.Option(min=1, help="generations, at random")] = 2000,
    max_tokens: int = 256,
    batch_size: int = 64,
    seed: int = 0,
    gpu: Gpu = False,
) -> None:
    """Embed the distinct texts of a random sample of generations by a second embedder."""
    from alignment_extraction.search import evidence
    from alignment_extraction.search.embedding import Embedder, write_vectors

    sampled = evidence.sample(read_shards(generations), part, samples, seed, "second-embedder")
    texts = evidence.distinct_texts(sampled)
    if gpu:
        torch_device("embedding")
    model = Embedder(embedder, max_tokens=max_tokens, batch_size=batch_size)
    write_vectors(model.embed(texts, progress=True), texts, model.identity, output)
