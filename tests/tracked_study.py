"""Results of a study with invented scores, made by the package's own functions."""

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from alignment_extraction.extraction import contamination, controls, embedders, metrics, results
from mlflow import MlflowClient

from alignment_extraction.files import read_parquet, write_json, write_parquet
from alignment_extraction.search import audit
from alignment_extraction.search.matching import HELD_OUT_SCHEMA, MATCH_SCHEMA
from alignment_extraction.settings.studies import Cell, StudySettings
from alignment_extraction.vocabulary import CORPUS as SCHEMA

SPLITS = {"member": "member", "fresh-instance": "held-out"}
SETTINGS: dict[str, Any] = {
    "title": "Invented",
    "models": ["sft", "rl"],
    "corpus": "invented",
    "embedder": "minilm",
    "prefixes": ["user", {"name": "hello", "text": "Hello"}],
    "seeds": [0, 1],
    "sampling": {"samples": 40},
    "overrides": [{"models": ["rl"], "prefixes": ["user"], "sampling": {"samples": 60}}],
    "likelihood": [{"before": "sft", "after": "rl", "sources": ["sums"]}],
    "controls": {"models": ["sft"]},
    "contamination": {"groups": ["benchmark"]},
    "second_embedder": {"embedder": "other"},
}


PREFIX = "<|im_start|>user\n"


@functools.cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        MlflowClient(f"sqlite:///{path}").search_experiments()
        return path.read_bytes()


def write_empty_database(path: Path) -> str:
    """Write an SQLite database with MLflow's tables, which take seconds to make; give its URI."""
    path.write_bytes(_empty_database())
    return f"sqlite:///{path}"


def settings(**changes: Any) -> StudySettings:
    return StudySettings.model_validate({**SETTINGS, **changes})


def corpus() -> pl.DataFrame:
    rows = [
        {
            "id": f"sums.{split}:{i}",
            "source": "sums",
            "role": role,
            "split": split,
            "template": "sum",
            "repetitions": 1 + i % 2,
            "question": f"What is {i} plus {len(split)}?",
            "answer": str(i + len(split)),
            "messages": [],
            "text": f"What is {i} plus {len(split)}?\n{i + len(split)}",
            "metadata": None,
        }
        for split, role in SPLITS.items()
        for i in range(20)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def _cell(folder: Path, cell: Cell, samples: int, stream: np.random.Generator) -> results.CellFiles:
    texts = [f"generation {i} of {cell.model}" for i in range(samples)]
    generations = pl.DataFrame(
        {"index": range(samples), "question": texts, "answer": [None] * samples},
        schema={"index": pl.Int64, "question": pl.String, "answer": pl.String},
    )
    matches = []
    for split in SPLITS:
        # Members are matched better, and by the model `rl` best.
        low = 0.5 + 0.2 * (split == "member") + 0.15 * (split == "member" and cell.model == "rl")
        scores = stream.uniform(low, 1, (5, samples)).astype(np.float32)
        ids = [f"sums.{split}:{i}" for i in stream.integers(0, 20, samples)]
        columns = ["cosine", "levenshtein", "indel", "levenshtein_best", "indel_best"]
        frame = pl.DataFrame(
            {
                "text": texts,
                "part": ["question"] * samples,
                "group": [f"sums.{split}"] * samples,
                "match_id": ids,
                "levenshtein_best_id": ids,
                "indel_best_id": ids,
                **dict(zip(columns, scores, strict=True)),
            }
        )
        matches.append(frame.select(pl.col(n).cast(t) for n, t in MATCH_SCHEMA.items()))
    place = folder / "cells" / "-".join(map(str, cell))
    prefix = PREFIX if cell.prefix == "user" else "Hello"
    sampling = {"temperature": "1.0", "top_k": "0", "top_p": "1.0", "min_p": "0.0"}
    about = {"prefix": prefix, "max_tokens": "256", **sampling}
    write_parquet(generations, place.with_suffix(".generations"), about)
    write_parquet(pl.concat(matches), place.with_suffix(".matches"))
    write_json({"sums": {"queries": 10, "recall_at_1": 0.9}}, place.with_suffix(".audit"))
    return results.CellFiles(
        ("question",),
        (place.with_suffix(".generations"),),
        place.with_suffix(".matches"),
        place.with_suffix(".audit"),
    )


def _write_likelihoods(folder: Path, study: StudySettings, stream: np.random.Generator) -> None:
    files = {}
    for pair in study.likelihood:
        parts = [
            corpus().select(
                "id",
                "role",
                group=pl.concat_str("source", "split", separator="."),
                target=pl.lit("question"),
                template=pl.lit(template),
                instance_of="template",
                prefix=pl.lit(PREFIX),
                tokens=pl.lit(7),
                zlib_bytes=pl.lit(20),
                **{f"{side}_end": pl.lit(-0.1) for side in ("before", "after")},
                **{
                    f"{side}_{name}": pl.Series(stream.normal(-4, 1, 40))
                    for side in ("before", "after")
                    for name in ("min_k", "min_k_plus_plus")
                },
                before=pl.Series(stream.normal(-20, 1, 40)),
                after=pl.Series(stream.normal(-18, 1, 40)),
            )
            for template in (True, False)
        ]
        files[pair.before, pair.after] = folder / f"cells/{pair.before}_{pair.after}.parquet"
        write_parquet(pl.concat(parts), files[pair.before, pair.after])
    results.compare_likelihoods(files, 0, folder)


def held_out_matches() -> pl.DataFrame:
    """The 20 fresh instances, searched in the members."""
    stream = np.random.default_rng(7)
    rows = corpus().filter(role="held-out")
    scores = stream.uniform(0.4, 0.9, (5, rows.height)).astype(np.float32)
    columns = ["cosine", "levenshtein", "indel", "levenshtein_best", "indel_best"]
    ids = [f"sums.member:{i}" for i in range(rows.height)]
    return rows.select(
        "id",
        *[pl.Series(column, values) for column, values in zip(columns, scores, strict=True)],
        part=pl.lit("question"),
        own_group=pl.lit("sums.fresh-instance"),
        characters=pl.col("question").str.len_chars().cast(pl.Int64),
        group=pl.lit("sums.member"),
        match_id=pl.Series(ids),
        levenshtein_best_id=pl.Series(ids),
        indel_best_id=pl.Series(ids),
    ).select(list(HELD_OUT_SCHEMA))


def evidence_tables(
    scored: pl.DataFrame, study: StudySettings, calibration: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """The tables beside the rates: real functions of invented scores, vectors and tags."""
    stream = np.random.default_rng(3)
    vectors = stream.normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = audit.audit(
        vectors[:20],
        vectors,
        trees=(1, 5),
        search_k=(5, 500),
        candidates=10,
        seed=0,
    )
    tags = corpus().select(
        "id",
        "role",
        group=pl.concat_str("source", "split", separator="."),
        overlap=pl.lit(0.1),
        by_ngram=pl.int_range(pl.len()) % 7 == 0,
        cosine=pl.lit(0.5),
        public_id=pl.lit("benchmark/1"),
        by_embedding=pl.lit(False),
        tagged=pl.int_range(pl.len()) % 7 == 0,
    )
    own = scored.filter(part="question", reference="role:member")
    cells = study.most_sampled()
    seconds = pl.concat(
        [
            own.filter(**cell._asdict()).select(
                *cell._fields, "index", second_id="match_id", second_cosine=pl.col("cosine") * 0.99
            )
            for cell in cells
        ]
    )
    negatives = held_out_matches()
    both = embedders.compare(
        scored,
        negatives,
        corpus(),
        seconds,
        negatives.select("id", second_cosine=pl.col("cosine") * 0.98),
        names=(study.embedder, "other"),
        part="question",
        reference="role:member",
        thresholds=study.thresholds,
        seed=0,
    )
    return {
        "controls": controls.controls(
            scored,
            calibration,
            {},
            cells=cells,
            part="question",
            models=study.controls.models,
            prefixes=study.prefix_names,
            corpus=None,
            thresholds=study.thresholds,
        ),
        "search_audit": audit.summarise(found.neighbours, study.thresholds.embedding),
        # Speeds are measured: the invented study has the same ones each time.
        "search_speed": found.speed.with_columns(
            queries_per_second=100.0 + pl.int_range(pl.len()),
            slowest=90.0 + pl.int_range(pl.len()),
            fastest=110.0 + pl.int_range(pl.len()),
            build_seconds=pl.when(pl.col("build_seconds").is_not_null()).then(0.5),
        ),
        "contamination": tags,
        "contamination_rates": contamination.contamination_rates(scored, tags, study.thresholds),
        "embedders": both[0],
        "embedder_agreement": both[1],
    }


def write_results(folder: Path, study: StudySettings, seed: int = 0) -> Mapping[str, Path]:
    """Write results/{study} to `folder` as the workflow does; give the data files."""
    stream = np.random.default_rng(seed)
    cells = {
        cell: _cell(folder, cell, study.cell_sampling(cell).samples, stream)
        for cell in study.cells()
    }
    scored = results.score(cells, corpus())
    write_parquet(scored, folder / "scores.parquet")
    results.calibrate(
        scored=scored,
        held_out=held_out_matches(),
        corpus=corpus(),
        thresholds=study.thresholds,
        seed=0,
        folder=folder,
    )
    calibration = {
        name: read_parquet(folder / f"{name}.parquet") for name in results.CALIBRATION_TABLES
    }
    compared: dict[str, Any] = {}
    if study.likelihood:
        _write_likelihoods(folder, study, stream)
        likelihoods = read_parquet(folder / "likelihood.parquet")
        results.discover(
            likelihoods=likelihoods, scored=scored, cells=cells, corpus=corpus(), folder=folder
        )
        names = {"shifts": "shifts", "members": "membership", "discovered": "discoverable"}
        compared = {key: read_parquet(folder / f"{name}.parquet") for key, name in names.items()}
    beside = evidence_tables(scored, study, calibration["calibration"])
    for name, table in beside.items():
        write_parquet(table, folder / f"{name}.parquet")
    results.evaluate(
        evidence={name: table for name, table in beside.items() if name in metrics.EVIDENCE},
        scored=scored,
        cells=cells,
        corpus=corpus(),
        about={"corpus": {"rows": 40}, "search": results.search_recall(cells)},
        thresholds=study.thresholds,
        folder=folder,
        calibration=calibration,
        **compared,
    )
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / "sweep.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "report.html").write_text("<!doctype html><title>Report</title>")
    write_parquet(corpus(), folder.parent / "corpus.parquet")
    for model in study.models:
        (folder.parent / f"{model}-shard").write_bytes(model.encode())
    return {
        "corpus": folder.parent / "corpus.parquet",
        **{
            f"{model}/hello/seed-0/00000": folder.parent / f"{model}-shard"
            for model in study.models
        },
    }
