"""What embedders see of a labelled edit, and what they attribute, on the default study's data.

    python benchmarks/embedders.py NAME=FOLDER ...    # needs `make run` or `dvc pull` before

FOLDER is a sentence-transformers model. For each, three things:

- per kind of edit, the share of edited questions within a cosine of 0.95 of their original;
- the threshold at which 5 % of the pairs of *another* problem (other numbers, an operation added,
  the question reversed) pass, and which share of the pairs of the *same* problem (sentences in
  another order, other words, a sentence of no use) passes it then;
- what competition with twins attributes of the first 2,000 generations of `sft-q8`: at 0.95, and
  at the threshold where 5 % of the discoveries are coincidence.

Names are left out of the second: whether a problem with other names is another one is a matter of
taste. Time is the processor's own, of one thread or more.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from record import ROOT, write

from alignment_extraction.attribution.competition import attribution
from alignment_extraction.attribution.contests import contests
from alignment_extraction.attribution.edits import edit_similarity
from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.corpora.texts import searched_rows
from alignment_extraction.search.embedding import Embedder, Vectors
from alignment_extraction.settings.studies import ThresholdSettings

GENERATIONS = 2000
CONDITION = {"model": "sft-q8", "prefix": "user", "seed": 0, "field": "question"}
SAME, OTHER = ("order", "wording", "distractor"), ("numbers", "operation", "reversed")
PASSING = 0.05


def similarities(rows: pl.DataFrame, vectors: Vectors) -> pl.DataFrame:
    """The cosine of every edited question to its original: columns edit, cosine."""
    numbered = rows.select("edit", "seed_problem", "id", row=pl.int_range(pl.len()))
    originals = numbered.select(seed_problem="id", original="row")
    pairs = numbered.filter(pl.col("edit") != "original").join(originals, on="seed_problem")
    cosine = np.einsum("ij,ij->i", vectors[pairs["row"]], vectors[pairs["original"]])
    return pairs.select("edit", cosine=cosine)


def separation(pairs: pl.DataFrame) -> dict[str, float]:
    """The threshold that `PASSING` of the pairs of other problems pass, and who passes it."""
    other = pairs.filter(pl.col("edit").is_in(OTHER))["cosine"].to_numpy()
    same = pairs.filter(pl.col("edit").is_in(SAME))["cosine"].to_numpy()
    threshold = float(np.quantile(other, 1 - PASSING))
    above = (same[:, None] > other).mean() + (same[:, None] == other).mean() / 2
    return {
        "threshold": round(threshold, 4),
        "same problem above it": round(float((same > threshold).mean()), 3),
        "area under the curve": round(float(above), 3),
    }


def attributed(
    scores: pl.DataFrame, rows: pl.DataFrame, vectors: Vectors, drawn: Vectors
) -> dict[str, Any]:
    """Rate of attributable generations, with members' and twins' wins, by threshold."""
    parts = []
    for role in ("member", "twin"):
        places = np.flatnonzero((rows["role"] == role).to_numpy())
        cosine = drawn @ vectors[places].T
        best = cosine.argmax(axis=1)
        found = pl.DataFrame(
            {
                "index": np.arange(GENERATIONS),
                "match_id": rows["id"].gather(places[best]),
                "cosine": cosine[np.arange(GENERATIONS), best],
            }
        )
        own = scores.filter(role=role).drop("match_id", "cosine")
        parts.append(own.join(found, on="index", maintain_order="left"))
    sides = list(contests(pl.concat(parts), rows))
    assert len(sides) == 1, [side.keys for side in sides]
    found = attribution(sides, {"sft-q8": ["sft"]}, ThresholdSettings(), {})
    kept = found.filter(pl.col("at").is_in(["fixed", "fdr-5"]), metric="cosine")
    return {
        row["at"]: {
            "threshold": round(row["threshold"], 4),
            "wins of members and twins": [row["member_wins"], row["twin_wins"]],
            "attributable, with its interval": [
                round(row[name], 4) for name in ("attributable", "low", "high")
            ],
        }
        for row in kept.iter_rows(named=True)
    }


def main(embedders: dict[str, Path]) -> None:
    corpus = read_corpus(ROOT / "data" / "corpora" / "controlled" / "corpus.parquet")
    rows = searched_rows(corpus, "question").filter(
        pl.col("role").is_in(["member", "twin"]), source="sft"
    )
    study = ROOT / "results" / "controlled" / "scores.parquet"
    scores = pl.read_parquet(study).filter(
        pl.col("index") < GENERATIONS,
        pl.col("role").is_in(["member", "twin"]),
        source="sft",
        **CONDITION,
    )
    folder = ROOT / "data" / "generations" / "controlled" / "sft-q8" / "user" / "seed-0"
    texts = pl.read_parquet(folder / "00000.parquet")["question"][:GENERATIONS].to_list()
    figures: dict[str, Any] = {}
    for name, path in embedders.items():
        embedder = Embedder(path)
        start = time.process_time()
        both = embedder.embed([*rows["compared"], *texts], progress=True)
        seconds = time.process_time() - start
        vectors, drawn = both[: rows.height], both[rows.height :]
        edits = edit_similarity(rows, vectors, name)
        figures[name] = {
            "weights": embedder.weights,
            "processor seconds": round(seconds, 1),
            "within 0.95, by edit": dict(
                edits.select("edit", pl.col("cosine_reached").round(3)).iter_rows()
            ),
            "same problem against another": separation(similarities(rows, vectors)),
            "attribution": attributed(scores, rows, vectors, drawn),
        }
    write("embedders", {"generations": GENERATIONS, "rows": rows.height, **figures})


if __name__ == "__main__":
    main({name: Path(path) for name, path in (each.split("=", 1) for each in sys.argv[1:])})
