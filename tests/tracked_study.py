"""Results of a study with invented scores and likelihoods, made by the package's own functions."""

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from mlflow import MlflowClient

from alignment_extraction import layout
from alignment_extraction.attribution.study import assess, attribute
from alignment_extraction.files import write_json, write_parquet
from alignment_extraction.search.scores import score
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.vocabulary import CORPUS, MATCHES, Condition

SETTINGS: dict[str, Any] = {
    "title": "Invented",
    "models": ["sft", "rl"],
    "corpus": "invented",
    "embedder": "minilm",
    "prefixes": ["user", {"name": "hello", "text": "Hello"}],
    "seeds": [0, 1],
    "sampling": {"samples": 40},
    "likelihood": {"models": ["sft", "rl"]},
}
PREFIX = "<|im_start|>user\n"
TRAINED = {"sft": ("sums",), "rl": ("sums",)}


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
    """20 members and their twins."""
    rows = [
        {
            "id": f"sums.{role}/{i}",
            "source": "sums",
            "role": role,
            "template": f"sum {i % 4}",
            "pair": f"sums/{i}",
            "repetitions": 1 + i % 2,
            "seed_problem": None,
            "edit": None,
            "question": f"What is {i} plus {len(role)}?",
            "answer": str(i + len(role)),
            "messages": [],
            "text": f"What is {i} plus {len(role)}?\n{i + len(role)}",
            "metadata": None,
        }
        for role in ("member", "twin")
        for i in range(20)
    ]
    return pl.DataFrame(rows, schema=CORPUS)


def _matches(texts: list[str], model: str, stream: np.random.Generator) -> pl.DataFrame:
    """Members are matched better, and by the model `rl` best."""
    frames = []
    for role in ("member", "twin"):
        low = 0.5 + 0.2 * (role == "member") + 0.15 * (role == "member" and model == "rl")
        scores = stream.uniform(low, 1, (5, len(texts))).astype(np.float32)
        ids = [f"sums.{role}/{i}" for i in stream.integers(0, 20, len(texts))]
        columns = ["cosine", "levenshtein", "indel", "levenshtein_best", "indel_best"]
        frame = pl.DataFrame(
            {
                "text": texts,
                "field": ["question"] * len(texts),
                "group": [f"sums.{role}"] * len(texts),
                "match_id": ids,
                "levenshtein_best_id": ids,
                "indel_best_id": ids,
                **dict(zip(columns, scores, strict=True)),
            }
        )
        frames.append(frame.select(pl.col(n).cast(t) for n, t in MATCHES.items()))
    return pl.concat(frames)


def _condition(
    folder: Path, study: StudySettings, condition: Condition
) -> tuple[Path, pl.DataFrame, pl.DataFrame]:
    """A condition's shard, its generations and their scores; of the condition alone."""
    model, prefix, seed = condition
    stream = np.random.default_rng([seed, len(model), len(prefix)])
    samples = study.sampling_of(condition).samples
    texts = [f"generation {i} of {model}" for i in range(samples)]
    generations = pl.DataFrame(
        {"index": range(samples), "question": texts, "answer": [None] * samples},
        schema={"index": pl.Int64, "question": pl.String, "answer": pl.String},
    )
    about = {"prefix": PREFIX if prefix == "user" else "Hello", "max_tokens": "256"}
    about |= {"temperature": "1.0", "top_k": "0", "top_p": "1.0", "min_p": "0.0"}
    shard = folder / "shards" / f"{model}-{prefix}-{seed}.parquet"
    write_parquet(generations, shard, about)
    matches = _matches(texts, model, stream)
    return shard, generations, score(condition, generations, matches, ["question"])


def _likelihood(model: str) -> pl.DataFrame:
    stream = np.random.default_rng(len(model))
    frames = [
        corpus().select(
            "id",
            target=pl.lit("question"),
            template=pl.lit(template),
            prefix=pl.lit(PREFIX),
            tokens=pl.lit(7, pl.Int64),
            zlib_bytes=pl.lit(20, pl.Int64),
            log_probability=pl.Series(stream.normal(-20, 1, 40)),
            end=pl.lit(-0.1),
            min_k=pl.Series(stream.normal(-4, 1, 40)),
            min_k_plus_plus=pl.Series(stream.normal(-4, 1, 40)),
        )
        for template in (True, False)
    ]
    return pl.concat(frames)


def write_results(folder: Path, study: StudySettings) -> Mapping[str, Path]:
    """Write results/{study} to `folder` as the workflow does; give the data files."""
    made = {c: _condition(folder, study, c) for c in study.all_conditions()}
    scores = pl.concat([scored for _, _, scored in made.values()])
    generations = {c: drawn for c, (_, drawn, _) in made.items()}
    tables = attribute(
        scores, corpus(), generations, TRAINED, {m: m for m in TRAINED}, {}, study.thresholds, 0
    )
    if study.likelihood:
        bases = {"rl": ("sft", _likelihood("sft"))} if "rl" in study.likelihood.models else {}
        tables |= assess(
            {model: _likelihood(model) for model in study.likelihood.models},
            bases,
            scores,
            corpus(),
            {c: [shard] for c, (shard, _, _) in made.items()},
            TRAINED,
            study.thresholds,
            0,
        )
    for name, table in tables.items():
        write_parquet(table, folder / f"{name}.parquet")
    write_parquet(scores, folder / "scores.parquet")
    write_json({"headline": {"sft": {"rows_at_risk": 3.5}}}, folder / "metrics.json")
    (folder / "report.html").write_text("<!doctype html><title>Report</title>")
    write_parquet(corpus(), folder.parent / "corpus.parquet")
    shards = {}
    for model in study.models:
        path = folder.parent / f"{model}-shard"
        path.write_bytes(model.encode())
        shards[f"{layout.condition_folder(Condition(model, 'hello', 0))}/00000"] = path
    return {"corpus": folder.parent / "corpus.parquet", **shards}
