"""Attribution: how often its intervals hold and its false discovery rate is met, and what it costs.

    python benchmarks/attribution.py              # coverage: about 5 minutes on 2 cores
    python benchmarks/attribution.py scale        # 10^4, 10^5, 10^6 generations and rows
    python benchmarks/attribution.py scale 10000  # one size; prints, writes nothing

Coverage simulates studies whose truth is known (tests/attributed_study.py): rows in pairs or in
templates, popular evenly or with heavy tails, few hits or many, nothing memorised or something.
Scale times every table of one condition and one field over scores made at random.
"""

import resource
import sys
import time
from typing import Any

import numpy as np
import polars as pl
from record import write

from alignment_extraction.attribution.competition import attribution
from alignment_extraction.attribution.contests import Contest, contests
from alignment_extraction.attribution.exchangeability import exchangeability
from alignment_extraction.attribution.hits import kinds, repetitions
from alignment_extraction.attribution.ratios import ratios
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.vocabulary import Condition
from tests.attributed_study import (
    TAILS,
    coverage,
    false_discoveries,
    memorised,
    narrowing,
    pairs,
    templates,
)

COUNTS = (5, 20, 100, 400)
RUNS = 300


def population(level: str, count: int, tail: str, hits: float, stream: Any) -> Any:
    """Pairs, or templates of four rows."""
    if level == "rows":
        return pairs(count, tail, hits, stream)
    return templates(count, 4, tail, hits, stream)


def simulations(runs: int) -> dict[str, Any]:
    """Coverage without memorisation and with it, false discoveries, and the control variate."""
    found: dict[str, Any] = {}
    for level in ("rows", "templates"):
        for tail in TAILS:
            for count in COUNTS:
                for hits in (2, 20, 300):
                    found[f"nothing memorised: {level}, {tail}, {count} blocks, {hits} hits"] = (
                        coverage(
                            lambda s, a=(level, count, tail, hits): population(*a, s),
                            level,
                            runs,
                            1,
                        )
                    )
                for even in (True, False):
                    name = "evenly" if even else "unevenly, a third of the blocks"
                    found[f"memorised {name}: {level}, {tail}, {count} blocks"] = coverage(
                        lambda s, a=(level, count, tail, 50), e=even: memorised(
                            population(*a, s), 1.0 if e else 1 / 3, 200, e, s
                        ),
                        level,
                        runs,
                        2,
                    )
                if count < 20:
                    continue
                for share in (0.0, 0.6):
                    found[f"false discoveries at 5 %: {level}, {tail}, {count} blocks, {share}"] = (
                        false_discoveries(
                            lambda s, a=(level, count, tail, 50), m=share: memorised(
                                population(*a, s), m, 400 if m else 0, True, s
                            ),
                            level,
                            runs,
                            3,
                        )
                    )
                found[f"base model: {level}, {tail}, {count} blocks"] = narrowing(
                    lambda s, a=(level, count, tail, 300): memorised(
                        population(*a, s), 0.5, 200, True, s
                    ),
                    level,
                    runs // 2,
                    4,
                )
    return found


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The least and greatest of what is claimed."""
    figures = {}
    for claim in ("nothing memorised", "memorised evenly", "memorised unevenly", "base model"):
        some = [each for name, each in found.items() if name.startswith(claim)]
        figures[claim] = {
            "least coverage": min(each["covered"] for each in some),
            "greatest coverage": max(each["covered"] for each in some),
            "greatest bias in standard errors": round(
                max(abs(each["bias"]) / each["bias_error"] for each in some), 1
            ),
        }
    heavy = [each for name, each in found.items() if name.startswith("base") and "even" not in name]
    figures["base model"]["median width, of that without"] = round(
        float(np.median([each["width"] / each["width_without"] for each in heavy])), 2
    )
    figures["false discoveries at 5 %"] = {
        "greatest": max(each["false"] for name, each in found.items() if name.startswith("false"))
    }
    return figures


def study(size: int) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Corpus, scores and generations: `size` members, as many twins and as many generations."""
    stream = np.random.default_rng(0)
    at = np.arange(2 * size)
    member = np.repeat(stream.random(size) < 0.5, 2) ^ (at % 2 == 0)
    text = pl.Series(stream.integers(0, 10**9, 2 * size)).cast(pl.String)
    corpus = pl.DataFrame({"id": at, "pair": at // 2, "template": at // 2 % 500}).select(
        pl.all().cast(pl.String),
        source=pl.lit("mine"),
        role=pl.Series(np.where(member, "member", "twin")),
        repetitions=pl.Series(at // 2 % 4 + 1).cast(pl.Int32),
        question="What is the root of " + text + "?",
        answer=pl.lit("no"),
        text="What is the root of " + text + "?",
    )
    parts = []
    for role, side in (("member", member), ("twin", ~member)):
        ids = corpus["id"].filter(pl.Series(side))
        columns = {
            "index": np.arange(size),
            "match_id": ids.gather(stream.integers(0, size, size)),
            "levenshtein_best_id": ids.gather(stream.integers(0, size, size)),
            "indel_best_id": ids.gather(stream.integers(0, size, size)),
            "cosine": stream.random(size).astype(np.float32) ** 0.2,
            "levenshtein_best": stream.random(size) ** 0.2,
            "indel_best": stream.random(size) ** 0.2,
            "verbatim": stream.random(size) < 0.1,
        }
        parts.append(pl.DataFrame(columns).with_columns(role=pl.lit(role)))
    scores = pl.concat(parts).with_columns(
        model=pl.lit("m"),
        prefix=pl.lit("full"),
        seed=pl.lit(0, pl.Int64),
        field=pl.lit("question"),
        source=pl.lit("mine"),
    )
    generations = pl.DataFrame(
        {"index": np.arange(size), "question": corpus["question"].head(size)}
    ).with_columns(answer=pl.lit("no"))
    return corpus, scores, generations


def scale(size: int) -> dict[str, float]:
    """Seconds of each table, and the peak of resident memory so far, in GiB."""
    corpus, scores, generations = study(size)
    base = corpus.select("id", base_log_probability=pl.lit(-20.0))
    thresholds = ThresholdSettings()
    found: list[Contest] = []
    tables = {
        "contests": lambda: found.extend(contests(scores, corpus)),
        "attribution": lambda: attribution(found, {"m": ["mine"]}, thresholds, {}),
        "with a base model": lambda: attribution(found, {"m": ["mine"]}, thresholds, {"m": base}),
        "repetitions": lambda: repetitions(found, thresholds),
        "kinds": lambda: kinds(found, corpus, {Condition("m", "full", 0): generations}, thresholds),
        "ratios": lambda: ratios(found, thresholds),
        "exchangeability": lambda: exchangeability(corpus, 0),
    }
    figures = {}
    for name, table in tables.items():
        start = time.perf_counter()
        table()
        figures[f"{name}, s"] = round(time.perf_counter() - start, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {**figures, "peak memory, GiB": round(peak, 2)}


if __name__ == "__main__":
    if sys.argv[1:] == ["scale"]:
        sizes = (10_000, 100_000, 1_000_000)
        write("attribution-scale", {f"{size:,} generations": scale(size) for size in sizes})
    elif sys.argv[1:2] == ["scale"]:
        print(scale(int(sys.argv[2])))
    else:
        results = simulations(RUNS)
        rounded = {
            name: {key: round(value, 4) for key, value in each.items()}
            for name, each in results.items()
        }
        write("attribution", {**summary(results), "studies a line": RUNS, "simulations": rounded})
