"""Tables of the distillation experiment: what each arm is worth, held against the original data.

Students of one family answer the same questions, so questions are resampled once for all of them
and seeds for each arm on its own: the bootstrap of two crossed random effects (Owen 2007,
doi:10.1214/07-AOAS122, "pigeonhole bootstrap"), with smooth weights for questions (Rubin 1981,
doi:10.1214/aos/1176345338). Of S seeds S - 1 are drawn, which makes their variance unbiased (Rao
and Wu 1988, doi:10.1080/01621459.1988.10478591).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy.special import ndtr, ndtri

from alignment_extraction.files import InputError
from alignment_extraction.settings.distillation import ARMS
from alignment_extraction.statistics import Array, Interval, named_seed, subtract, wilson

MEASURES = {"accuracy": "right", "loss": "loss"}
"""Column of an evaluation that each measure is the mean of; of losses the lower is the better."""

CURVES = ("loss", "reward")
_ENDS = ("", "_low", "_high")
SCHEMA = pl.Schema(
    {
        **dict.fromkeys(("family", "arm", "benchmark", "measure"), pl.String()),
        **dict.fromkeys(("seeds", "items"), pl.Int64()),
        **{
            f"{name}{end}": pl.Float64()
            for name in ("value", "difference", "recovered")
            for end in _ENDS
        },
        **dict.fromkeys(("margin", "detectable", "power"), pl.Float64()),
        "verdict": pl.String(),
    }
)
"""Columns of the table `distillation`.

- `value`: mean over seeds and items, accuracy (0 to 1) or loss (nats per token), 95 % intervals;
- `difference`: to the arm `original`; null for itself;
- `recovered`: share of the original's gain over `start`; null where that gain is not shown;
- `detectable`: the true difference that would be told from 0 with 80 % power;
- `power`: the chance to conclude `non-inferior` if there were no difference; `verdict`: what the
  interval says, `non-inferior` (above -margin), `inferior` (below it) or `cannot tell`. Where the
  untrained `start` is not itself inferior, no loss could have been seen, and the verdict on the
  other arms is `cannot tell` (assay sensitivity, ICH E10). Null for losses.
"""

_DRAWS = 2000
_BLOCK = 4_000_000
_Z95, _Z80 = float(ndtri(0.975)), float(ndtri(0.8))


class Student(NamedTuple):
    """What a student was trained with."""

    family: str
    arm: str
    seed: int


def crossed_bootstrap(
    samples: Mapping[str, Array], seed: int, draws: int = _DRAWS
) -> dict[str, Array]:
    """Means of samples, shape (draws,), in resamples of their seeds and of the items they share.

    Args:
        samples: each of shape (seeds, items); the number of items is the same for all.
        seed: of the resampling.
        draws: resamples.
    """
    stream = np.random.default_rng(seed)
    items = next(iter(samples.values())).shape[1]
    means: dict[str, list[Array]] = {name: [] for name in samples}
    block = max(1, _BLOCK // max(1, items))
    for at in range(0, draws, block):
        number = min(block, draws - at)
        weights = stream.standard_exponential((number, items))
        weights /= weights.sum(axis=1, keepdims=True)
        for name, values in samples.items():
            seeds = len(values)
            taken = max(1, seeds - 1)
            shares = stream.multinomial(taken, np.full(seeds, 1 / seeds), number) / taken
            means[name].append(((shares @ values) * weights).sum(axis=1))
    return {name: np.concatenate(blocks) for name, blocks in means.items()}


def _interval(estimate: float, draws: Array) -> Interval:
    low, high = np.quantile(draws, [0.025, 0.975])
    # Rounding must not put a bound on the wrong side.
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def compare(
    samples: Mapping[str, Array], measure: str, margin: float, seed: int
) -> list[dict[str, Any]]:
    """What each arm is worth: columns arm and measure to verdict of `SCHEMA`.

    An accuracy of 0 or 1, of which a bootstrap knows no bound, has Wilson's interval for one answer
    per item, and the difference of two such Newcombe's.

    Args:
        samples: by arm, of shape (seeds, items); `start` and `original` are among them.
        measure: `accuracy` or `loss`.
        margin: of non-inferiority in accuracy, above 0.
        seed: of the bootstrap.
    """
    drawn = crossed_bootstrap(samples, seed)
    means = {arm: float(values.mean()) for arm, values in samples.items()}
    items = samples["original"].shape[1]

    def at_edge(*arms: str) -> bool:
        return measure == "accuracy" and all(means[arm] in (0.0, 1.0) for arm in arms)

    def value(arm: str) -> Interval:
        if at_edge(arm):
            return Interval(*map(float, wilson(means[arm] * items, items)))
        return _interval(means[arm], drawn[arm])

    def minus(arm: str, other: str) -> Interval:
        if at_edge(arm, other):
            return subtract(value(arm), value(other))
        return _interval(means[arm] - means[other], drawn[arm] - drawn[other])

    gain = minus("original", "start")
    gained = gain.low > 0 if measure == "accuracy" else gain.high < 0
    rows = []
    for arm, values in samples.items():
        row = {"arm": arm, "measure": measure, "seeds": len(values), "items": items}
        rows.append(row | _columns("value", value(arm)))
        if arm == "original":
            continue
        difference = minus(arm, "original")
        error = (difference.high - difference.low) / (2 * _Z95)
        rows[-1] |= _columns("difference", difference) | {"detectable": (_Z95 + _Z80) * error}
        if gained and arm != "start":
            with np.errstate(divide="ignore", invalid="ignore"):
                shares = (drawn[arm] - drawn["start"]) / (drawn["original"] - drawn["start"])
            share = (means[arm] - means["start"]) / gain.estimate
            rows[-1] |= _columns("recovered", _interval(share, shares[np.isfinite(shares)]))
        if measure == "accuracy":
            verdict = "cannot tell"
            if arm == "start" or gain.low > margin:
                verdict = "non-inferior" if difference.low > -margin else verdict
                verdict = "inferior" if difference.high < -margin else verdict
            power = float(ndtr(margin / error - _Z95)) if error > 0 else 1.0
            rows[-1] |= {"margin": margin, "power": power, "verdict": verdict}
    return rows


def _columns(name: str, interval: Interval) -> dict[str, float]:
    return {f"{name}{end}": float(value) for end, value in zip(_ENDS, interval, strict=True)}


def results_table(
    evaluated: Mapping[Student, pl.DataFrame], margin: float, seed: int
) -> pl.DataFrame:
    """One row for each family, measure and arm (over its seeds); columns `SCHEMA`.

    Args:
        evaluated: of `evaluation.evaluate`, for each student; the untrained ones have arm `start`.
        margin: of non-inferiority.
        seed: of the bootstrap.

    Raises:
        InputError: students of one family were evaluated with different questions.
    """
    found: list[dict[str, Any]] = []
    for family in sorted({student.family for student in evaluated}, reverse=True):
        students = sorted(student for student in evaluated if student.family == family)
        items = {student: evaluated[student].sort("id") for student in students}
        first = items[students[0]]
        if not all(rows["id"].equals(first["id"]) for rows in items.values()):
            raise InputError(
                f"students of {family} were evaluated with different questions; remove "
                "data/distillation and run `snakemake distill` again"
            )
        same = {"family": family, "benchmark": first["benchmark"][0]}
        stream = named_seed(seed, f"distillation/{family}")
        for measure, column in MEASURES.items():
            samples = {
                arm: np.stack([items[student][column].to_numpy() for student in own])
                for arm in ARMS
                if (own := [student for student in students if student.arm == arm])
            }
            found += [same | row for row in compare(samples, measure, margin, stream)]
    return pl.DataFrame(found, schema=SCHEMA)


def curve_table(curves: Mapping[Student, pl.DataFrame]) -> pl.DataFrame:
    """Training curves of all students: family, arm, seed, step, metric (of `CURVES`), value."""
    named = [
        rows.select(*(pl.lit(value).alias(name) for name, value in student._asdict().items()), "*")
        for student, rows in sorted(curves.items(), key=lambda item: item[0])
    ]
    return pl.concat(named).filter(pl.col("metric").is_in(CURVES)).cast({"seed": pl.Int64})


def markdown(table: pl.DataFrame) -> str:
    """The table as Markdown, as docs/distillation.md has it."""
    bounded = ("value", "difference", "recovered")
    shown = table.select(
        *("family", "arm", "measure", "items"),
        *(
            pl.format("{} ({} to {})", *(pl.col(f"{name}{end}").round(3) for end in _ENDS)).alias(
                name
            )
            for name in bounded
        ),
        *(pl.col("detectable", "power").round(3).cast(pl.String), "verdict"),
    ).with_columns(pl.col(pl.String).fill_null("-"))
    with pl.Config(
        tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=99, tbl_formatting="MARKDOWN"
    ) as config:
        config.set_tbl_hide_dataframe_shape().set_tbl_hide_column_data_types()
        config.set_tbl_width_chars(1000)
        return f"{shown}\n"
