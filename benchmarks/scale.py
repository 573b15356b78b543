"""Time and peak memory of the steps that grow with the corpus; what the paper's size would take.

    python benchmarks/scale.py                    # all sizes; about an hour on two cores
    python benchmarks/scale.py 10000 100000       # these numbers of rows; the others are kept
    python benchmarks/scale.py figure             # the figure alone, from the results

Each step runs in a process of its own, whose peak resident memory is the step's, memory-mapped
files included. The vectors are synthetic but not uniform, as uniform ones have no near neighbours:
rows lie around the centres of clusters, and those around centres of their own, as the topics and
templates of a corpus do. A third of the queries are near a row (cosines from 0.85 to 1, what is
looked for), and the others are new points of the clusters. Texts are the reasoning-gym problems of
`strings.py`. What is asked of Annoy are the defaults of params.yaml.
"""

import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib import pyplot as plt
from record import BUILD, RESULTS, ROOT, THREADS, write
from strings import mixture

from alignment_extraction.search.index import Annoy, Exact, build_index, recall_at_1
from alignment_extraction.search.scores import score as join_scores
from alignment_extraction.search.string_search import best_matches
from alignment_extraction.settings.studies import IndexSettings
from alignment_extraction.vocabulary import MATCHES, Condition

ROWS = (10_000, 100_000, 1_000_000)
DIMENSIONS = (384, 1024)
QUERIES, AUDITED, SEARCHED = 10_000, 1_000, 600
"""Queries of the index, those also searched exactly, and texts of the string search."""
GENERATIONS = 10
"""Generations that are scored for each hundred corpus rows."""
PAPER = {"rows": 939_344, "generations": 1_000_000, "dimension": 1024}
_CHUNK = 50_000
INDEX = IndexSettings()


def vectors_file(rows: int, dimension: int, kind: str) -> Path:
    return BUILD / f"scale-{rows}-{dimension}-{kind}.npy"


def _around(centres: Any, chosen: Any, cosine: Any, stream: np.random.Generator) -> Any:
    """Unit vectors at about these cosines to the chosen centres."""
    noise = stream.standard_normal((len(chosen), centres.shape[1]), dtype=np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    cosine = np.asarray(cosine, np.float32)[..., None]
    points = cosine * centres[chosen] + np.sqrt(1 - cosine**2) * noise
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def make_vectors(rows: int, dimension: int) -> dict[str, Any]:
    """Write rows and queries; their clusters have about 50 rows, of 50 clusters a topic."""
    stream = np.random.default_rng(dimension)
    topics = _around(
        np.zeros((1, dimension), np.float32), np.zeros(max(1, rows // 2500), int), 0, stream
    )
    picks = stream.integers(len(topics), size=max(1, rows // 50))
    clusters = _around(topics, picks, 0.6, stream)
    out = np.lib.format.open_memmap(
        vectors_file(rows, dimension, "rows"), mode="w+", dtype=np.float32, shape=(rows, dimension)
    )
    for start in range(0, rows, _CHUNK):
        size = min(_CHUNK, rows - start)
        own = stream.integers(len(clusters), size=size)
        out[start : start + size] = _around(clusters, own, stream.uniform(0.7, 0.95, size), stream)
    near = np.sort(stream.choice(rows, QUERIES // 3, replace=False))
    fresh = stream.integers(len(clusters), size=QUERIES - len(near))
    queries = np.concatenate(
        [
            _around(
                np.asarray(out[near]),
                np.arange(len(near)),
                stream.uniform(0.85, 1, len(near)),
                stream,
            ),
            _around(clusters, fresh, stream.uniform(0.7, 0.95, len(fresh)), stream),
        ]
    )
    np.save(
        vectors_file(rows, dimension, "queries"), stream.permutation(queries).astype(np.float32)
    )
    return {}


def _load(rows: int, dimension: int) -> tuple[Any, Any, Path]:
    files = [vectors_file(rows, dimension, kind) for kind in ("rows", "queries")]
    vectors, queries = (np.load(file, mmap_mode="r") for file in files)
    return vectors, queries, BUILD / f"scale-{rows}-{dimension}.ann"


def build(rows: int, dimension: int) -> dict[str, Any]:
    vectors, _, path = _load(rows, dimension)
    build_index(vectors, path, trees=INDEX.trees, seed=0, identity="scale")
    return {"index bytes": path.stat().st_size}


def find(rows: int, dimension: int) -> dict[str, Any]:
    vectors, queries, path = _load(rows, dimension)
    found = Annoy(
        path,
        vectors,
        identity="scale",
        candidates=INDEX.candidates,
        search_k=INDEX.search_k,
    ).search(queries)
    np.savez(path.with_suffix(".npz"), cosine=found.cosine)
    return {"queries": len(queries)}


def exact(rows: int, dimension: int) -> dict[str, Any]:
    vectors, queries, path = _load(rows, dimension)
    best = Exact(vectors).search(queries[:AUDITED])
    kept = np.load(path.with_suffix(".npz"))
    found = kept["cosine"][:AUDITED]
    quartiles = np.quantile(best.cosine, (0.25, 0.5, 0.75)).round(3).tolist()
    return {
        "queries": AUDITED,
        "recall@1": round(recall_at_1(found, best.cosine), 4),
        "quartiles of the nearest cosine": quartiles,
    }


def texts_file(rows: int) -> Path:
    return BUILD / f"scale-{rows}-texts.parquet"


def make_texts(rows: int, _: int) -> dict[str, Any]:
    corpus, queries = mixture(rows, seed=1), mixture(SEARCHED, seed=2)
    pl.DataFrame({"text": corpus}).write_parquet(texts_file(rows))
    pl.DataFrame({"text": queries}).write_parquet(texts_file(rows).with_suffix(".queries"))
    return {}


def strings(rows: int, _: int) -> dict[str, Any]:
    corpus = pl.read_parquet(texts_file(rows))["text"].to_list()
    queries = pl.read_parquet(texts_file(rows).with_suffix(".queries"))["text"].to_list()
    best_matches(queries, corpus, THREADS)
    return {"queries": len(queries)}


def score(rows: int, _: int) -> dict[str, Any]:
    """Scores of a tenth as many generations as there are rows, each with its matches."""
    count, stream = rows // GENERATIONS, np.random.default_rng(0)
    generations = pl.DataFrame({"index": np.arange(count)}).with_columns(
        question=pl.format("generation {}", "index"), answer=pl.lit(None, pl.String)
    )
    ids = pl.Series(stream.integers(rows, size=count)).cast(pl.String)
    columns: dict[str, Any] = {
        "text": generations["question"],
        "field": "question",
        "group": "scale.member",
    }
    for name, dtype in MATCHES.items():
        if name not in columns:
            columns[name] = ids if dtype == pl.String else stream.random(count, np.float32)
    matches = pl.DataFrame(columns).cast(dict(MATCHES)).select(list(MATCHES))
    join_scores(Condition("scale", "user", 0), generations, matches, ["question"])
    return {"generations": count}


STEPS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "index build": build,
    "index search": find,
    "exact search": exact,
    "string search": strings,
    "scoring": score,
}
OF_VECTORS = ("index build", "index search", "exact search")
PREPARATIONS = {"vectors": make_vectors, "texts": make_texts}


def cases() -> Iterator[tuple[str, int]]:
    """Steps, with what they need before them, and the dimension (0 for texts)."""
    for dimension in DIMENSIONS:
        yield "vectors", dimension
        yield from ((step, dimension) for step in OF_VECTORS)
    yield "texts", 0
    yield from ((step, 0) for step in STEPS if step not in OF_VECTORS)


def run(step: str, rows: int, dimension: int) -> dict[str, Any]:
    """One step in this process: what it found, seconds, and peak memory."""
    function = {**PREPARATIONS, **STEPS}[step]
    start, cpu = time.perf_counter(), time.process_time()
    found = function(rows, dimension)
    return {
        "step": step,
        "rows": rows,
        "dimension": dimension or None,
        **found,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu seconds": round(time.process_time() - cpu, 1),
        "peak GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20), 2),
        "load": round(os.getloadavg()[0], 1),
    }


def measure(sizes: list[int], kept: list[dict[str, Any]]) -> list[dict[str, Any]]:
    table = [row for row in kept if row["rows"] not in sizes]
    for rows in sizes:
        for step, dimension in cases():
            command = [sys.executable, __file__, "step", step, str(rows), str(dimension)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            result = json.loads(done.stdout.splitlines()[-1])
            print(result, flush=True)
            if step in STEPS:
                table.append(result)
            if step == "exact search":
                for file in BUILD.glob(f"scale-{rows}-{dimension}*"):
                    file.unlink()
        for file in BUILD.glob(f"scale-{rows}-texts*"):
            file.unlink()
    return sorted(
        table, key=lambda row: (list(STEPS).index(row["step"]), row["dimension"] or 0, row["rows"])
    )


def extrapolate(table: list[dict[str, Any]]) -> dict[str, Any]:
    """CPU hours and memory at the paper's size, by the last two sizes on logarithmic axes.

    What is asked (queries, generations) is scaled in proportion, the corpus by the measured slope.
    """
    found = {}
    for step in STEPS:
        own = [
            r for r in table if r["step"] == step and r["dimension"] in (None, PAPER["dimension"])
        ]
        if len(own) < 2:
            continue
        before, last = own[-2:]

        def at_paper(key: str, before: Any = before, last: Any = last, own: str = step) -> float:
            # Scoring is asked for a share of the rows, so its size is that of the generations.
            size = "generations" if own == "scoring" else "rows"
            slope = math.log(last[key] / before[key]) / math.log(last[size] / before[size])
            return float(last[key] * (PAPER[size] / last[size]) ** slope)

        asked = PAPER["generations"] / last["queries"] if "queries" in last else 1
        found[step] = {
            "cpu hours": round(at_paper("cpu seconds") * asked / 3600, 2),
            "peak GiB": round(at_paper("peak GiB"), 1),
            "from rows": [before["rows"], last["rows"]],
        }
    return found


def claim(table: list[dict[str, Any]]) -> dict[str, Any]:
    """The claim on a million rows of 384 dimensions."""
    own = {r["step"]: r for r in table if r["rows"] == ROWS[-1] and r["dimension"] == 384}
    if len(own) < len(OF_VECTORS):
        return {}
    pair = [own["index build"], own["index search"]]
    return {
        "minutes to build and search 10,000 queries": round(
            sum(r["seconds"] for r in pair) / 60, 1
        ),
        "cpu minutes": round(sum(r["cpu seconds"] for r in pair) / 60, 1),
        "peak GiB": max(r["peak GiB"] for r in pair),
        "recall@1": own["exact search"]["recall@1"],
    }


def draw(table: list[dict[str, Any]], output: Path) -> None:
    figure, (times, memory) = plt.subplots(1, 2, figsize=(9, 4.5), layout="constrained")
    lines = [(step, dimension) for step in STEPS for dimension in (*DIMENSIONS, None)]
    for step, dimension in lines:
        own = [r for r in table if (r["step"], r["dimension"]) == (step, dimension)]
        if not own:
            continue
        label = step if dimension is None else f"{step}, {dimension} dimensions"
        for axis, key in ((times, "cpu seconds"), (memory, "peak GiB")):
            axis.plot(
                [r["rows"] for r in own],
                [max(r[key], 0.1) for r in own],
                color=f"C{list(STEPS).index(step)}",
                linestyle="--" if dimension == 1024 else "-",
                marker="o",
                markersize=4,
                label=label,
            )
    for axis, title in (
        (times, "processor time, s (less than 0.1 drawn there)"),
        (memory, "peak resident memory, GiB"),
    ):
        axis.set(xscale="log", yscale="log", xlabel="corpus rows", title=title)
    figure.legend(*times.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(output, format="svg", metadata={"Date": None})


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["step"]:
        step, rows, dimension = arguments[1:]
        print(json.dumps(run(step, int(rows), int(dimension))))
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "scale.json"
    kept = json.loads(path.read_text())["steps"] if path.exists() else []
    if arguments != ["figure"]:
        kept = measure([int(size) for size in arguments] or list(ROWS), kept)
        asked = {
            "index": {
                "trees": INDEX.trees,
                "search_k": INDEX.search_k,
                "candidates": INDEX.candidates,
            },
            "queries": {"index": QUERIES, "exact": AUDITED, "strings": SEARCHED},
        }
        figures = {"claim": claim(kept), "paper": {**PAPER, "steps": extrapolate(kept)}}
        write("scale", {**asked, **figures, "steps": kept})
    draw(kept, ROOT / "docs" / "scale.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
