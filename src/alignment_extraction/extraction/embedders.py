"""Two embedders: what a second one finds in the same generations, and whether they agree."""

from typing import Any

import numpy as np
import polars as pl
from scipy.stats import rankdata, spearmanr

from alignment_extraction.extraction.calibration_tables import OPERATING_RATES, calibration_tables
from alignment_extraction.extraction.scores import CELL_KEYS, KEYS, TOLERANCE
from alignment_extraction.search.held_out import ALL_HELD_OUT, ALL_LENGTHS
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import Array, Interval, named_seed, wilson

DRAWS = 1000
"""Bootstrap draws."""

_RATES = ("false_positive_rate", "threshold", "n", "hits", "rate", "low", "high")
_CONTROL = ("held_out_rows", "control", "control_low", "control_high")


def kappa(counts: Any) -> Array:
    """Cohen's kappa of two raters (Cohen 1960); NaN where chance alone makes them agree.

    Args:
        counts: both, first alone, second alone, neither; shape (..., 4).
    """
    shares = counts / counts.sum(axis=-1, keepdims=True)
    both, first, second, neither = np.moveaxis(shares, -1, 0)
    chance = (both + first) * (both + second) + (neither + first) * (neither + second)
    with np.errstate(invalid="ignore", divide="ignore"):
        value: Array = np.where(chance < 1, (both + neither - chance) / (1 - chance), np.nan)
    return value


def agreement(first: Array, second: Array, seed: int, draws: int = DRAWS) -> Interval:
    """Cohen's kappa of two sets of hits with a percentile bootstrap interval at 95 %.

    Args:
        first: whether each generation is a hit, bool, shape (generations,).
        second: likewise.
        seed: of the resampling.
        draws: resamples: multinomial draws of the table of four.
    """
    both, alone = int((first & second).sum()), int(first.sum())
    other = int(second.sum())
    table: Any = np.array([both, alone - both, other - both, len(first) - alone - other + both])
    stream = np.random.default_rng(seed)
    drawn = kappa(stream.multinomial(len(first), table / len(first), draws))
    values = drawn[np.isfinite(drawn)]
    estimate = float(kappa(table))
    if not len(values) or np.isnan(estimate):
        return Interval(np.nan, np.nan, np.nan)
    low, high = np.quantile(values, [0.025, 0.975])
    if estimate == 1:
        # No resample knows a disagreement: as many as Wilson's bound allows, half on each side.
        unseen = float(wilson(0, len(first)).high) * len(first) / 2
        low = kappa(np.maximum(table + np.array([-1, 1, 1, -1]) * unseen, 0))
    return Interval(estimate, float(low), float(high))


def rank_correlation(first: Array, second: Array, seed: int, draws: int = DRAWS) -> Interval:
    """Spearman's rank correlation with a percentile bootstrap interval at 95 %.

    Resamples keep the ranks of the whole sample, as Pearson's correlation of them.

    Args:
        first: scores, shape (generations,).
        second: likewise.
        seed: of the resampling.
        draws: resamples.
    """
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Interval(np.nan, np.nan, np.nan)
    ranks = [rankdata(values) for values in (first, second)]
    stream = np.random.default_rng(seed)
    counts = stream.multinomial(len(first), np.full(len(first), 1 / len(first)), draws)
    weights: Array = counts / len(first)
    a, b = (r - (weights @ r)[:, None] for r in ranks)
    covariance = (weights * a * b).sum(axis=1)
    values = covariance / np.sqrt((weights * a**2).sum(axis=1) * (weights * b**2).sum(axis=1))
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(spearmanr(first, second).statistic), float(low), float(high))


def compare(
    scored: pl.DataFrame,
    held_out: pl.DataFrame,
    corpus: pl.DataFrame,
    found: pl.DataFrame,
    held_out_found: pl.DataFrame,
    *,
    names: tuple[str, str],
    part: str,
    reference: str,
    thresholds: ThresholdSettings,
    seed: int,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The scoring of a sample of generations under two embedders.

    Args:
        scored: from `results.score`.
        held_out: from `matching.match_held_out`.
        corpus: in the corpus schema.
        found: model, prefix, seed, and the generations' scores of `search.evidence.second_scores`.
        held_out_found: of the same function, the held-out rows' scores.
        names: of the first embedder and the second one.
        part, reference: what is compared, and with what (`role:member`).
        thresholds: the fixed ones.
        seed: of the study.

    Returns:
        `embedders`: cell x embedder x operating point (false_positive_rate, null at the fixed
        threshold): threshold, n, hits, rate, low, high, held_out_rows, control, control_low,
        control_high, as in `calibration`. `embedder_agreement`: cell x operating point: n, both,
        first_only, second_only, neither (generations), kappa, correlation (of the scores, the same
        at all points), each with _low and _high; agree (share of generations), agree_low,
        agree_high. Values are null where a false positive rate is out of reach.
    """
    own = scored.filter(part=part, reference=reference).join(
        found, on=[*CELL_KEYS, "index"], how="inner", maintain_order="left"
    )
    negatives = held_out.filter(part=part)
    both = {
        names[0]: (own.drop("second_id", "second_cosine"), negatives),
        names[1]: (
            own.drop("match_id", "cosine").rename(
                {"second_id": "match_id", "second_cosine": "cosine"}
            ),
            negatives.drop("cosine")
            .join(held_out_found, on="id", how="left", maintain_order="left")
            .rename({"second_cosine": "cosine"}),
        ),
    }
    tables = [
        calibration_tables(scores, rows, corpus, thresholds, seed)["calibration"]
        .filter(metric="embedding", length_band=ALL_LENGTHS)
        .filter(pl.col("held_out").eq(ALL_HELD_OUT).fill_null(True))
        .select(*KEYS, pl.lit(name).alias("embedder"), *_RATES, *_CONTROL)
        for name, (scores, rows) in both.items()
    ]
    table = pl.concat(tables)
    rows = []
    for values, frame in own.group_by(CELL_KEYS, maintain_order=True):
        keys = dict(zip(CELL_KEYS, values, strict=True))
        stream = "/".join(map(str, values))
        cosines = [frame[name].fill_null(-1).to_numpy() for name in ("cosine", "second_cosine")]
        correlation = rank_correlation(
            cosines[0], cosines[1], named_seed(seed, f"correlation/{stream}")
        )
        for point in (None, *OPERATING_RATES):
            at = table.filter(**keys).filter(pl.col("false_positive_rate").eq_missing(point))
            limits = [at.filter(embedder=name)["threshold"].item() for name in names]
            rows.append(
                {
                    **keys,
                    "part": part,
                    "reference": reference,
                    "false_positive_rate": point,
                    "n": frame.height,
                    **_shared(cosines, limits, point, named_seed(seed, f"kappa/{stream}/{point}")),
                    **_named("correlation", correlation),
                }
            )
    return table, pl.DataFrame(rows, schema=_AGREEMENT)


_AGREEMENT: dict[str, Any] = (
    {"model": pl.String, "prefix": pl.String, "seed": pl.Int64, "part": pl.String}
    | {"reference": pl.String, "false_positive_rate": pl.Float64, "n": pl.Int64}
    | dict.fromkeys(("both", "first_only", "second_only", "neither"), pl.Int64)
    | {
        f"{name}{end}": pl.Float64
        for name in ("agree", "kappa", "correlation")
        for end in ("", "_low", "_high")
    }
)


def _shared(
    cosines: list[Array], limits: list[float | None], point: float | None, seed: int
) -> dict[str, Any]:
    if any(limit is None for limit in limits):
        return {}
    # A calibrated threshold must be exceeded, the fixed one reached.
    hits = [
        values.round(6) > limit if point is not None else values >= limit - TOLERANCE
        for values, limit in zip(cosines, limits, strict=True)
        if limit is not None
    ]
    first, second = hits
    counts = {
        "both": first & second,
        "first_only": first & ~second,
        "second_only": ~first & second,
        "neither": ~first & ~second,
    }
    return {
        **{name: int(values.sum()) for name, values in counts.items()},
        **_named("agree", wilson((first == second).sum(), len(first))),
        **_named("kappa", agreement(first, second, seed)),
    }


def _named(name: str, interval: Interval) -> dict[str, float | None]:
    values = dict(zip(("", "_low", "_high"), map(float, interval), strict=True))
    return {f"{name}{end}": None if np.isnan(value) else value for end, value in values.items()}
