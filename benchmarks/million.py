"""Everything after sampling and embedding, at the paper's size: time and peak memory of each step.

    python benchmarks/million.py                    # a million generations; hours on two cores
    python benchmarks/million.py --rows 10000       # as many generations and rows as one likes

The workflow itself runs, in a clone of its own below build/, on files that this script makes: half
of the rows are members and half are twins, of questions and answers of 200 words together, in
clusters of 50 whose rows begin alike; of the generations one in 25 is a member, one in 25 a member
with some words replaced, and the others are new texts of the clusters. Vectors are made with the
texts: equal for copies, near for near copies, around the same centres for a cluster. Likelihoods
are drawn so that a few rows are at risk. Nothing is sampled, embedded or scored.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from record import BUILD, ROOT, THREADS, write
from scale import _around

from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.corpora.texts import searched_rows, unique_texts
from alignment_extraction.files import sha256, write_json, write_parquet
from alignment_extraction.generations.shards import read_shards
from alignment_extraction.likelihoods.likelihood import SCHEMA
from alignment_extraction.search.embedding import hash_texts
from tests.stand_ins import clone
from tests.tiny_models import make_tiny_gguf

WORDS, QUESTION, ANSWER, SHARED = 20_000, 60, 140, 40
CLUSTER = 50
_CHUNK = 50_000
CORPUS, DRAWN = "data/corpora/million/corpus.parquet", "generations/million/m"
ROLES = ("member", "twin")
TOLD = {"model_sha256": "made", "prefix_tokens": "[]", "prefix": "", "max_tokens": "256"}
TOLD |= {"temperature": "1.0", "top_k": "0", "top_p": "1.0", "min_p": "0.0"}
# A process in between: a child counts the memory of the process that it was split from as its own.
MEASURED = """
import json, resource, subprocess, sys
status = subprocess.call(sys.argv[1:], stdout=2)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss]))
sys.exit(status)
"""
STEPS = {
    "search, by embedding and by string": "data/matches/million/m.parquet",
    "scores": "results/million/scores.parquet",
    "attribution, repetitions, kinds, ratios, comparisons, test of texts": (
        "results/million/attribution.parquet"
    ),
    "row risk, coverage, calibration": "results/million/risk.parquet",
    "report": "results/million/report.html",
    "MLflow": "results/million/tracked.json",
}


def texts(words: Any, openings: Any, clusters: Any, stream: np.random.Generator) -> Any:
    """Word numbers of a text of each cluster given, int32 (texts, words)."""
    ranks = np.minimum(stream.zipf(1.3, (len(clusters), QUESTION + ANSWER)) - 1, len(words) - 1)
    ranks[:, :SHARED] = openings[clusters]
    return ranks.astype(np.int32)


def written(words: Any, numbers: Any) -> pl.DataFrame:
    """Texts as columns question and answer."""
    parts = (numbers[:, :QUESTION], numbers[:, QUESTION:])
    columns = ([" ".join(row) for row in words[part]] for part in parts)
    return pl.DataFrame(dict(zip(("question", "answer"), columns, strict=True)))


def make(folder: Path, rows: int, generations: int, dimension: int) -> dict[str, float]:
    """Everything that the steps read and do not make themselves; what building the corpus took."""
    stream = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(stream.choice(letters, stream.integers(2, 9))) for _ in range(WORDS)])
    count = max(2, rows // CLUSTER)
    openings = np.minimum(stream.zipf(1.3, (count, SHARED)) - 1, WORDS - 1)
    topics = _around(
        np.zeros((1, dimension), np.float32), np.zeros(max(1, count // 50), int), 0, stream
    )
    centres = _around(topics, stream.integers(len(topics), size=count), 0.6, stream)

    own = stream.integers(count, size=rows)
    numbers = texts(words, openings, own, stream)
    member = stream.permutation(rows) < rows // 2
    raw = folder / "data" / "raw"
    for name, chosen in (("member", member), ("twin", ~member)):
        write_parquet(written(words, numbers[chosen]), raw / f"{name}.parquet")
    order = np.concatenate([np.flatnonzero(member), np.flatnonzero(~member)])
    numbers, own = numbers[order], own[order]
    snakemake(folder, "data/models/m.gguf", "data/embedders/made")
    figures = snakemake(folder, CORPUS)

    vectors = folder / "data/embeddings/corpora/million/made/both.npy"
    vectors.parent.mkdir(parents=True, exist_ok=True)
    out = np.lib.format.open_memmap(vectors, "w+", np.float32, (rows, dimension))
    for start in range(0, rows, _CHUNK):
        some = own[start : start + _CHUNK]
        cosine = stream.uniform(0.7, 0.95, len(some))
        out[start : start + _CHUNK] = _around(centres, some, cosine, stream)
    corpus = read_corpus(folder / CORPUS)
    compared = searched_rows(corpus, "both")["compared"].to_list()
    about(vectors, compared, dimension)

    kind = stream.integers(25, size=generations)  # 0: a copy, 1: a near copy
    source = stream.integers(rows // 2, size=generations)
    shard, pieces = max(1, generations // 10), []
    made = np.lib.format.open_memmap(BUILD / "made.npy", "w+", np.float32, (generations, dimension))
    for number, start in enumerate(range(0, generations, shard)):
        here = slice(start, start + shard)
        chosen, row = kind[here], source[here]
        fresh = stream.integers(count, size=len(row))
        new = texts(words, openings, fresh, stream)
        close = _around(centres, fresh, stream.uniform(0.7, 0.95, len(row)), stream)
        copied, near = chosen == 0, chosen == 1
        new[copied | near] = numbers[row[copied | near]]
        other = stream.random(new.shape) < 0.04
        new[near[:, None] & other] = stream.integers(WORDS, size=int((near[:, None] & other).sum()))
        close[copied] = out[row[copied]]
        rows_near = np.asarray(out[row[near]])
        close[near] = _around(
            rows_near, np.arange(len(rows_near)), stream.uniform(0.93, 0.99, len(rows_near)), stream
        )
        made[here] = close
        frame = written(words, new).with_columns(index=pl.int_range(start, start + len(row)))
        pieces.append(folder / f"data/{DRAWN}/user/seed-0/{number:05d}.parquet")
        write_parquet(frame, pieces[-1], TOLD)
    drawn = read_shards(pieces)
    distinct = unique_texts(drawn, "both")
    first = drawn.select(pl.concat_str("question", "answer", separator="\n").is_first_distinct())
    vectors = folder / f"data/embeddings/{DRAWN}/both.npy"
    vectors.parent.mkdir(parents=True, exist_ok=True)
    np.save(vectors, made[np.flatnonzero(first.to_series())])
    about(vectors, distinct, dimension)

    log_probability = stream.normal(-60, 15, rows)
    frame = corpus.select("id", target=pl.lit("question"), template=pl.lit(True), prefix=pl.lit(""))
    frame = frame.with_columns(
        tokens=pl.lit(QUESTION),
        zlib_bytes=pl.lit(300),
        log_probability=log_probability,
        end=pl.lit(-0.1),
        min_k=pl.lit(-9.0),
        min_k_plus_plus=pl.lit(None),
    )
    write_parquet(frame.cast(dict(SCHEMA)), folder / "data/likelihood/million/m.parquet")
    return figures


def about(path: Path, compared: list[str], dimension: int) -> None:
    """Beside vectors, what they are of, as the embedding step says it."""
    given = {"embedder": "made/256", "texts": hash_texts(compared)}
    write_json({**given, "rows": len(compared), "dimension": dimension}, path.with_suffix(".json"))


def snakemake(folder: Path, *targets: str, touch: bool = False) -> dict[str, float]:
    """Make files: seconds, processor seconds, and peak GiB of one process."""
    command = [sys.executable, "-m", "snakemake", "--cores", str(THREADS), "--quiet", "all"]
    command += ["--set-threads", f"match={THREADS}", *["--touch"] * touch, "--", *targets]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    begin = time.perf_counter()
    measured = [sys.executable, "-c", MEASURED, *command]
    done = subprocess.run(measured, cwd=folder, env=environment, stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"{targets} failed")
    processor, peak = json.loads(done.stdout)
    figures = {
        "seconds": round(time.perf_counter() - begin, 1),
        "processor seconds": round(processor, 1),
        "peak GiB": round(peak / 2**20, 2),
    }
    print(*targets, figures, flush=True)
    return figures


def params(folder: Path, generations: int, kind: str) -> dict[str, Any]:
    """The study's params.yaml."""
    model = make_tiny_gguf(folder / "data" / "tiny.gguf")
    embedder = ROOT / "data" / "embedders" / "minilm"
    files = {role: f"data/raw/{role}.parquet" for role in ROLES}
    sources = [{"name": "made", "path": path, "role": role} for role, path in files.items()]
    study = {
        "title": "A million generations that nobody drew",
        "models": ["m"],
        "corpus": "million",
        "embedder": "made",
        "fields": ["both"],
        "prefixes": ["user"],
        "sampling": {"samples": generations, "answer": True, "shard": max(1, generations // 10)},
        # A tenth of the default's nodes: the audit says what share of nearest rows that finds.
        "index": {"kind": kind, "search_k": 2_000, "strings": "near", "candidates": 20},
        "likelihood": {"models": ["m"], "scored": "questions"},
    }
    return {
        "run": ["million"],
        "models": {
            "m": {"source": {"path": str(model), "sha256": sha256(model)}, "trained_on": ["made"]}
        },
        "embedders": {"made": {"source": {"path": str(embedder), "sha256": sha256(embedder)}}},
        "corpora": {"million": {"sources": sources}},
        "studies": {"million": study},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=939_000, help="of the corpus")
    parser.add_argument("--generations", type=int, help="a million; --rows where that is given")
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--index", default="annoy", choices=["annoy", "exact"])
    given = parser.parse_args()
    generations = given.generations or (1_000_000 if given.rows == 939_000 else given.rows)
    folder = BUILD / "million"
    shutil.rmtree(folder, ignore_errors=True)
    clone(folder)
    values = params(folder, generations, given.index)
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    figures = {"corpus": make(folder, given.rows, generations, given.dimension)}
    # What this script made counts as made by the rules.
    made = ["data/likelihood/million/m.parquet"]
    made += [f"data/embeddings/{name}/both.npy" for name in ("corpora/million/made", DRAWN)]
    snakemake(folder, *made, touch=True)
    indexes = [f"data/indexes/million/made/50-trees/made.{role}.both.ann" for role in ROLES]
    if given.index == "annoy":
        figures["index"] = snakemake(folder, *indexes)
    figures |= {step: snakemake(folder, target) for step, target in STEPS.items()}
    audit = json.loads((folder / "data/matches/million/m.json").read_text())
    sizes = {"rows": given.rows, "generations": generations, "dimension": given.dimension}
    write("million", {**sizes, "index": given.index, "steps": figures, "audit": audit})


if __name__ == "__main__":
    main()
