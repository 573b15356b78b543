"""A study's results folder with invented, sensible numbers, in the shape that analyses write."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.files import write_parquet
from alignment_extraction.report.tables import SCHEMAS, Results
from alignment_extraction.settings.studies import GateSettings

MODELS = ("base-q8", "sft-q8", "sft-q4", "sft-assistant-loss-q8", "rl-q8")
TRAINED = {
    "sft-q8": ("sft",),
    "sft-q4": ("sft",),
    "sft-assistant-loss-q8": ("sft",),
    "rl-q8": ("sft", "rl"),
}
SETTINGS: dict[str, Any] = {
    "name": "invented",
    "title": "Small models whose training data is known",
    "models": MODELS,
    "prefixes": ["user", "full", "bos", "t0.7"],
    "thresholds": {"semantic": 0.95, "string": 0.9},
    "gate": GateSettings(max_rows_at_risk=100, max_attributable="10%"),
}
PROVENANCE = {"git revision": "0123456789abcdef", "sha256 of sft-q8": "ab" * 32}
_LATER = {
    ("kinds", "level"),
    ("kinds", "n"),
    ("repetitions", "n"),
    ("membership", "template"),
    ("distillation", "verdict"),
}
"""Columns that a table may lack."""
HOSTILE = "</script><img src=x onerror=alert(1)> \u202e{{ 7*7 }} & \"quoted\" 'text'"
_WORDS = [
    "apples",
    "baker",
    "carries",
    "crates",
    "delivers",
    "each",
    "farmer",
    "gives",
    "holds",
    "including",
    "jars",
    "keeps",
    "ladder",
    "market",
    "number",
    "orders",
    "pears",
    "quarter",
    "riverside",
    "sells",
    "tickets",
    "until",
    "village",
    "weighs",
    "yellow",
    "zebra",
]
_EFFECT = {"base-q8": 0.0, "sft-q8": 1.0, "sft-q4": 0.8, "sft-assistant-loss-q8": 0.1, "rl-q8": 0.7}
_PREFIX = {"user": 1.0, "full": 1.3, "bos": 0.4, "t0.7": 1.6}


def _texts(rng: np.random.Generator, number: int) -> list[str]:
    words = np.array(_WORDS)
    names = ("Ada", "Bo", "Chen", "Dara", "Emil")
    return [
        f"{names[i % 5]} {' '.join(words[rng.integers(0, len(words), 14)])} {rng.integers(2, 99)} "
        f"crates and {rng.integers(2, 99)} jars. How many are left, number {i}?"
        for i in range(number)
    ]


@functools.cache
def rows(seed: int = 0, members: int = 1300) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    frames = []
    for source in ("sft", "rl"):
        texts = _texts(rng, 2 * members)
        repetitions = rng.choice([1, 2, 4, 8], members, p=[0.55, 0.25, 0.15, 0.05])
        repetitions = np.tile(repetitions, 2)
        member = np.repeat([True, False], members)
        prior = rng.normal(-34, 6, 2 * members)
        for model in MODELS:
            trained = source in TRAINED.get(model, ())
            strength = _EFFECT[model] * trained * member
            log_p = prior + strength * np.log2(repetitions + 1) * rng.gamma(3, 2.2, 2 * members)
            log_p = np.minimum(log_p, -4.5 - 1e-4 * np.arange(2 * members))
            p = np.exp(log_p)
            hits = rng.poisson(10_000 * p)
            near = hits + rng.poisson(3_000 * p)
            chance = {f"chance_1e{k}": -np.expm1(10**k * np.log1p(-p)) for k in (3, 4, 6, 9)}
            seen = near > 0
            copies = [
                (t if h else t.replace("crates", "boxes").replace("How many", "How much"))
                if s
                else None
                for t, h, s in zip(texts, hits, seen, strict=True)
            ]
            frames.append(
                pl.DataFrame(
                    {
                        "model": model,
                        "id": [f"{source}/{i}" for i in range(2 * members)],
                        "source": source,
                        "role": np.where(member, "member", "twin"),
                        "template": [f"template {i % 40}" for i in range(2 * members)],
                        "repetitions": repetitions,
                        "edit": [
                            ("number changed" if i % 9 == 0 else None) for i in range(2 * members)
                        ],
                        "trained": member & trained,
                        "log_probability": log_p,
                        "base_log_probability": prior,
                        "expected": 10_000 * p,
                        **chance,
                        "p_value": np.where(
                            member, rng.random(2 * members) / (1 + 50 * p * 1e4), 0.5
                        ),
                        "flagged": member & (p > 1e-6),
                        "verbatim_hits": hits,
                        "near_hits": near,
                        "best_condition": [f"{model}, user, 0" if s else None for s in seen],
                        "best_index": [int(i) if s else None for i, s in enumerate(seen)],
                        "best_generation": copies,
                        "best_cosine": [
                            (1.0 if h else 0.962) if s else None
                            for h, s in zip(hits, seen, strict=True)
                        ],
                        "best_levenshtein": [
                            (1.0 if h else 0.941) if s else None
                            for h, s in zip(hits, seen, strict=True)
                        ],
                        "question": texts,
                        "answer": [f"The answer is {i % 90}." for i in range(2 * members)],
                    }
                )
            )
    table = pl.concat(frames, how="vertical_relaxed")
    # A hostile row, at the top of the first trained model's list.
    top = table.filter("trained", model="sft-q8").sort("log_probability", descending=True)["id"][0]
    hostile = pl.when(pl.col("id") == top).then(pl.lit(HOSTILE))
    return table.with_columns(
        question=hostile.otherwise(pl.col("question")),
        best_generation=hostile.otherwise(pl.col("best_generation")),
    )


@functools.cache
def _risk() -> pl.DataFrame:
    return risk(rows())


def risk(table: pl.DataFrame) -> pl.DataFrame:
    found = []
    for (model, source, role), own in table.group_by(
        "model", "source", "role", maintain_order=True
    ):
        p = np.exp(own["log_probability"].to_numpy())
        for power in range(10):
            chance = -np.expm1(10.0**power * np.log1p(-p))
            at_risk, distinct = (chance >= 0.1).sum(), chance.sum()
            observed = float(np.round(distinct)) if power <= 4 else None
            found.append(
                (
                    model,
                    source,
                    role,
                    10.0**power,
                    own.height,
                    at_risk,
                    max(0, at_risk - 1.8 * at_risk**0.6),
                    at_risk + 1.8 * at_risk**0.6,
                    distinct,
                    distinct * 0.8,
                    distinct * 1.2,
                    observed,
                )
            )
    return pl.DataFrame(found, SCHEMAS["risk"], orient="row")


@functools.cache
def attribution(zero: bool = False) -> pl.DataFrame:
    found = []
    for model in MODELS:
        for prefix, factor in _PREFIX.items():
            n = 10_000 if prefix == "user" and model in ("sft-q8", "rl-q8") else 500
            for source in ("sft", "rl"):
                trained = source in TRAINED.get(model, ())
                for level in ("rows", "templates"):
                    for metric, strict in (
                        ("verbatim", 1.0),
                        ("levenshtein", 1.6),
                        ("indel", 1.7),
                        ("cosine", 2.2),
                    ):
                        for threshold, at in _grid(metric):
                            looser = strict * (1 + 4 * (1 - threshold))
                            chance = round(n * 0.002 * looser**2)
                            effect = (
                                0 if zero else 0.02 * _EFFECT[model] * factor * trained * looser
                            )
                            effect *= 2 if level == "templates" else 1
                            if metric == "verbatim" and level == "templates":
                                continue
                            wins = chance + round(n * effect)
                            spread = 1.96 * np.sqrt(max(wins + chance, 1) * 1.4) / n
                            rate = (wins - chance) / n
                            found.append(
                                (
                                    model,
                                    prefix,
                                    0,
                                    trained,
                                    source,
                                    level,
                                    "question",
                                    metric,
                                    threshold,
                                    at,
                                    n,
                                    wins,
                                    chance,
                                    rate,
                                    rate - spread,
                                    rate + spread,
                                    min(1.0, (chance + 1) / max(wins, 1)),
                                    1300,
                                    1300,
                                    1300,
                                )
                            )
    return pl.DataFrame(found, SCHEMAS["attribution"], orient="row", strict=False)


def _grid(metric: str) -> list[tuple[float, str]]:
    if metric == "verbatim":
        return [(1.0, "fixed")]
    fixed = 0.95 if metric == "cosine" else 0.9
    return [
        *((round(0.7 + 0.02 * i, 2), "sweep") for i in range(16)),
        (fixed, "fixed"),
        (0.97, "fdr-5"),
        (0.99, "fdr-1"),
    ]


def write_tables(**changes: pl.DataFrame | None) -> dict[str, pl.DataFrame]:
    """All tables of the invented study; `changes` replace some, None leaves one out."""
    table = changes.get("rows")
    table = rows() if table is None else table
    chances = (
        changes.get("risk") if "risk" in changes else _risk() if table is rows() else risk(table)
    )
    trained = [(model, source) for model, sources in TRAINED.items() for source in sources]
    near = [
        ("verbatim", 0.02),
        ("near-verbatim", 0.011),
        ("same-template", 0.014),
        ("paraphrase", 0.0),
    ]
    made: dict[str, pl.DataFrame | None] = {
        "attribution": attribution(),
        "repetitions": _frame(
            "repetitions",
            [
                (
                    m,
                    "user",
                    0,
                    s,
                    "question",
                    metric,
                    k,
                    1300 // k,
                    40 * k,
                    60.0 * k,
                    1300 // k,
                    2,
                    3.0,
                    0.004 * k * f,
                    0.003 * k * f,
                    0.005 * k * f,
                )
                for m, s in trained
                for metric, f in (("verbatim", 1), ("cosine", 2))
                for k in (1, 2, 4, 8)
            ],
        ),
        "kinds": _frame(
            "kinds",
            [
                (
                    m,
                    "user",
                    0,
                    s,
                    "question",
                    kind,
                    1e4 * r + 9,
                    9.0,
                    r * _EFFECT[m],
                    (r - 0.002) * _EFFECT[m],
                    (r + 0.002) * _EFFECT[m],
                )
                for m, s in trained
                for kind, r in near
            ],
        ),
        "ratios": _frame(
            "ratios",
            [
                (m, "user", 0, s, "rows", "question", c, metric, 440.0, 320.0, 1.4, 1.2, 1.6)
                for m, s in trained
                for c in ("fixed", "fdr-1", "fdr-5")
                for metric in ("levenshtein", "indel")
            ],
        ),
        "exchangeability": _frame(
            "exchangeability",
            [
                ("sft", "rows", 1300, 1300, 0.507, 0.481, 0.531, "exchangeable", None),
                ("rl", "rows", 1300, 1300, 0.512, 0.489, 0.534, "exchangeable", None),
            ],
        ),
        "rows": table,
        "risk": chances,
        "shift": _frame(
            "shift",
            [
                (
                    "rl-q8",
                    "sft-q8",
                    "rl",
                    target,
                    True,
                    per,
                    1300,
                    1300,
                    0.9 / k,
                    0.7 / k,
                    0.2 / k,
                    -0.1 / k,
                    0.5 / k,
                    0.43 / k,
                )
                for target in ("question", "answer")
                for per, k in (("question", 1), ("token", 50))
            ],
        ),
        "tails": _frame(
            "tails",
            [
                (
                    "rl-q8",
                    "sft-q8",
                    "rl",
                    role,
                    "question",
                    True,
                    float(t),
                    1300,
                    20.0 * -t,
                    (24.0 if role == "member" else 22.0) * -t,
                )
                for role in ("member", "twin")
                for t in (-5, -6, -7, -8)
            ],
        ),
        "membership": _frame(
            "membership",
            [
                (
                    "sft-q8",
                    "base-q8",
                    "sft",
                    attack,
                    1300,
                    1300,
                    auc,
                    auc - 0.02,
                    auc + 0.02,
                    0.03,
                    0.02,
                    0.05,
                    "question",
                )
                for attack, auc in (
                    ("loss", 0.61),
                    ("zlib", 0.6),
                    ("ref", 0.72),
                    ("min_k", 0.6),
                    ("min_k_plus_plus", 0.58),
                )
            ],
        ),
        "edits": _frame(
            "edits",
            [
                ("minilm", edit, 400, cosine, text, 0.93, 0.9)
                for edit, cosine, text in (
                    ("number changed", 0.61, 0.95),
                    ("operation added", 0.7, 0.04),
                    ("reversed", 0.33, 0.02),
                    ("distractor added", 0.4, 0.1),
                    ("paraphrase", 0.1, 0.0),
                )
            ],
        ),
        "distillation": _frame(
            "distillation",
            [
                (
                    family,
                    arm,
                    benchmark,
                    measure,
                    3,
                    500,
                    v,
                    v - 0.03,
                    v + 0.03,
                    v - 0.4,
                    v - 0.45,
                    v - 0.35,
                    0.6,
                    0.4,
                    0.8,
                )
                for family in ("sft", "rl")
                for benchmark in ("same templates", "gsm8k")
                for measure in ("accuracy", "loss")
                for arm, v in (
                    ("start", 0.11),
                    ("original", 0.4),
                    ("extracted", 0.33),
                    ("extracted-without-copies", 0.27),
                    ("other", 0.36),
                )
            ],
        ),
        "distillation_counts": _frame(
            "distillation_counts", [("sft", "extracted", "near duplicates", 9000, 2100, 6900)]
        ),
    }
    made |= changes
    return {name: frame for name, frame in made.items() if frame is not None}


def _frame(name: str, data: list[tuple[Any, ...]]) -> pl.DataFrame:
    columns = [key for key in SCHEMAS[name] if (name, key) not in _LATER]
    schema = {key: SCHEMAS[name][key] for key in columns}
    return pl.DataFrame(data, schema, orient="row", strict=False)


def conform(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The table with all its columns, null where it has none."""
    columns = SCHEMAS[name]
    missing = [pl.lit(None, kind).alias(key) for key, kind in columns.items() if key not in frame]
    return frame.with_columns(*missing).cast(columns).select(*columns, pl.exclude(*columns))


def results(**changes: pl.DataFrame | None) -> Results:
    return Results({name: conform(name, frame) for name, frame in write_tables(**changes).items()})


def write_results(folder: Path, tables: Mapping[str, pl.DataFrame] | None = None) -> Path:
    for name, frame in (tables or write_tables()).items():
        write_parquet(conform(name, frame), folder / f"{name}.parquet")
    return folder
