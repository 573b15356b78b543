"""Tables of the distillation experiment: what each arm is worth, held against the original data.

Students of one family answer the same questions, so questions are resampled once for all of them
and seeds for each arm on its own: the bootstrap of two crossed random effects (Owen 2007,
doi:10.1214/07-AOAS122, "pigeonhole bootstrap"), with smooth weights for questions (Rubin 1981,
doi:10.1214/aos/1176345338). Of S seeds S - 1 are drawn, which makes their variance unbiased (Rao
and Wu 1988, doi:10.1080/01621459.1988.10478591).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from scipy.special import ndtr, ndtri

from alignment_extraction.settings.distillation import ARMS
from alignment_extraction.statistics import (
    Array,
    Interval,
    clopper_pearson,
    detectable,
    named_seed,
    subtract,
)

CURVES = ("loss", "reward")  # of the students' training, those that are kept
_ENDS = ("", "_low", "_high")
_INTERVALS = [f"{name}{end}" for name in ("value", "difference", "recovered") for end in _ENDS]
SCHEMA = pl.Schema(
    {
        **dict.fromkeys(("family", "arm", "benchmark", "measure"), pl.String()),
        **dict.fromkeys(("seeds", "items"), pl.Int64()),
        **dict.fromkeys((*_INTERVALS, "margin", "detectable", "power"), pl.Float64()),
        "verdict": pl.String(),
    }
)
"""Columns of the table `distillation`; intervals are at 95 %.

- `value`: mean over seeds and items of the measure, `accuracy`;
- `difference`: to the arm `original`; null for itself;
- `recovered`: share of the original's gain over `start`; null where that gain is not shown;
- `detectable`: the true difference that would be told from 0 with 80 % power;
- `power`: the chance to conclude `non-inferior` if there were no difference;
- `verdict`: `non-inferior` (the interval is above -margin), `inferior` (below it) or `cannot tell`.
  Where the untrained `start` is not itself inferior, no loss could have been seen, and the verdict
  on the other arms is `cannot tell` (assay sensitivity, ICH E10).
"""

_Z95 = float(ndtri(0.975))


def crossed_bootstrap(
    samples: Mapping[str, Array], seed: int, draws: int = 2000
) -> dict[str, Array]:
    """Means (draws,) of samples (seeds, items) in resamples of their seeds and shared items."""
    stream = np.random.default_rng(seed)
    weights = stream.standard_exponential((draws, next(iter(samples.values())).shape[1]))
    weights /= weights.sum(axis=1, keepdims=True)
    means = {}
    for name, values in samples.items():
        seeds, taken = len(values), max(1, len(values) - 1)
        shares = stream.multinomial(taken, np.full(seeds, 1 / seeds), draws) / taken
        means[name] = ((shares @ values) * weights).sum(axis=1)
    return means


def _interval(estimate: float, draws: Array) -> Interval:
    low, high = np.quantile(draws, [0.025, 0.975])
    # Rounding must not put a bound on the wrong side.
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def _columns(name: str, interval: Interval) -> dict[str, float]:
    return {f"{name}{end}": float(value) for end, value in zip(_ENDS, interval, strict=True)}


def compare(samples: Mapping[str, Array], margin: float, seed: int) -> list[dict[str, Any]]:
    """What each arm is worth: columns arm and measure to verdict of `SCHEMA`.

    `samples` are right answers by arm, shape (seeds, items), with `start` and `original` there;
    `margin` is that of non-inferiority, above 0. An accuracy of 0 or 1, of which a bootstrap knows
    no bound, has Clopper and Pearson's interval for one answer per item.
    """
    drawn = crossed_bootstrap(samples, seed)
    means = {arm: float(values.mean()) for arm, values in samples.items()}
    items = samples["original"].shape[1]
    edge = {arm for arm, mean in means.items() if mean in (0.0, 1.0)}
    values = {
        arm: clopper_pearson(mean * items, items) if arm in edge else _interval(mean, drawn[arm])
        for arm, mean in means.items()
    }

    def minus(arm: str, other: str) -> Interval:
        if {arm, other} <= edge:
            return subtract(values[arm], values[other])
        return _interval(means[arm] - means[other], drawn[arm] - drawn[other])

    gain = minus("original", "start")
    rows = []
    for arm, of_seeds in samples.items():
        row = {"arm": arm, "measure": "accuracy", "seeds": len(of_seeds), "items": items}
        rows.append(row | _columns("value", values[arm]))
        if arm == "original":
            continue
        difference = minus(arm, "original")
        error = (difference.high - difference.low) / (2 * _Z95)
        verdict = "cannot tell"
        if arm == "start" or gain.low > margin:
            verdict = "non-inferior" if difference.low > -margin else verdict
            verdict = "inferior" if difference.high < -margin else verdict
        power = float(ndtr(margin / error - _Z95)) if error > 0 else 1.0
        rows[-1] |= _columns("difference", difference) | {"detectable": detectable(error)}
        rows[-1] |= {"margin": margin, "power": power, "verdict": verdict}
        if gain.low > 0 and arm != "start":
            with np.errstate(divide="ignore", invalid="ignore"):
                shares = (drawn[arm] - drawn["start"]) / (drawn["original"] - drawn["start"])
            share = (means[arm] - means["start"]) / gain.estimate
            rows[-1] |= _columns("recovered", _interval(share, shares[np.isfinite(shares)]))
    return rows


def results_table(evaluated: pl.DataFrame, margin: float, seed: int) -> pl.DataFrame:
    """One row for each family and arm (over its seeds); columns `SCHEMA`.

    `evaluated` has family, arm (`start` of the untrained) and seed of each student, and the columns
    of `reinforcement.evaluate`. Students of a family answered the same questions.
    """
    found: list[dict[str, Any]] = []
    ordered = evaluated.sort("family", "seed", "id", descending=[True, False, False])
    for (family,), students in ordered.group_by("family", maintain_order=True):
        same = {"family": family, "benchmark": students["benchmark"][0]}
        samples = {}
        for arm in ARMS:
            own = students.filter(arm=arm)
            if own.height:
                samples[arm] = own["right"].to_numpy().reshape(own["seed"].n_unique(), -1)
        stream = named_seed(seed, f"distillation/{family}")
        found += [same | row for row in compare(samples, margin, stream)]
    return pl.DataFrame(found, schema=SCHEMA)
