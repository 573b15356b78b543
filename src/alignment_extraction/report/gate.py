"""The gate: whether a study's numbers stay within limits, as an exit code."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.report import wording
from alignment_extraction.report.headline import (
    AT_RISK_SAMPLES,
    ENOUGH_TWINS,
    Headline,
    headline,
    headline_models,
)
from alignment_extraction.report.tables import Results
from alignment_extraction.report.wording import Estimate

OK, EXCEEDED, CANNOT_TELL, BAD_INPUT = 0, 1, 2, 3
"""Exit codes of `alignment-extraction check`."""
STATES = {OK: "ok", EXCEEDED: "exceeded", CANNOT_TELL: "cannot tell", BAD_INPUT: "bad input"}
_MOST_FACTOR = 1e6


@dataclass(frozen=True)
class Limits:
    """What may leak; None is not checked.

    Attributes:
        max_rows_at_risk: training rows with a chance of at least 10 % to be written in `samples`.
        max_attributable: rate of generations that are verbatim copies that training caused, 0 to 1.
        max_attributable_semantic: the same by meaning (cosine).
        samples: that rows are at risk in.
        models: to check; without any those that the report is about.
    """

    max_rows_at_risk: float | None = None
    max_attributable: float | None = None
    max_attributable_semantic: float | None = None
    samples: int = AT_RISK_SAMPLES
    models: tuple[str, ...] = ()

    def given(self) -> bool:
        """Whether there is any limit."""
        limits = (self.max_rows_at_risk, self.max_attributable, self.max_attributable_semantic)
        return any(limit is not None for limit in limits)


@dataclass(frozen=True)
class Finding:
    """One limit, held against one model.

    Attributes:
        model: name.
        limit: name of the limit.
        most: its value.
        value: what was measured, with its interval in low and high; None where nothing was.
        low: lower bound.
        high: upper bound.
        state: of `STATES`.
        sentence: all of it in words.
    """

    model: str
    limit: str
    most: float
    value: float | None
    low: float | None
    high: float | None
    state: str
    sentence: str


@dataclass(frozen=True)
class GateResult:
    """What the gate says.

    Attributes:
        exit_code: 0 within all limits, 1 one is exceeded, 2 cannot tell of one and none is
            exceeded, 3 bad input.
        lines: for people, one a limit and model.
        findings: the same for machines.
    """

    exit_code: int
    lines: tuple[str, ...]
    findings: tuple[Finding, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "exit_code": self.exit_code,
            "state": STATES[self.exit_code],
            "lines": list(self.lines),
            "findings": [asdict(finding) for finding in self.findings],
        }


def parse_rate(value: str | float, name: str = "max_attributable") -> float:
    """A rate from `1%`, `1 %` or `0.01`.

    Raises:
        InputError: it is none between 0 and 100 %.
    """
    text = str(value).strip()
    try:
        rate = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        rate = math.nan
    if not 0 <= rate <= 1:
        raise InputError(f"{name}: {value!r} is no rate; expected one like 1% or 0.01")
    return rate


def limits_from(settings: Mapping[str, Any]) -> Limits:
    """Limits as a study or a command line gives them.

    Args:
        settings: `max_rows_at_risk`, `max_attributable`, `max_attributable_semantic`, `samples`,
            `models`; None and what is missing are no limit.

    Raises:
        InputError: a name or a value is wrong.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if unknown := set(given) - set(Limits.__dataclass_fields__):
        raise InputError(
            f"gate: unknown limits {', '.join(sorted(unknown))}; there are "
            f"{', '.join(Limits.__dataclass_fields__)}"
        )
    for name in ("max_attributable", "max_attributable_semantic"):
        if name in given:
            given[name] = parse_rate(given[name], name)
    for name, least in (("max_rows_at_risk", 0), ("samples", 1)):
        if name in given:
            try:
                given[name] = float(given[name])
            except ValueError:
                given[name] = math.nan
            if not given[name] >= least:
                raise InputError(f"gate: {name} must be a number of at least {least}")
    given["samples"] = int(given.get("samples", AT_RISK_SAMPLES))
    given["models"] = tuple(given.get("models", ()))
    return Limits(**given)


def _factor(found: Estimate, most: float) -> float:
    """How many times as much data would bring the nearer bound to the limit.

    Intervals shrink with the square root of what they are estimated from.
    """
    distance = abs(found.value - most)
    spread = found.high - found.value if found.value <= most else found.value - found.low
    return (spread / distance) ** 2 if distance else math.inf


def _more(own: Headline, found: Estimate, most: float, limit: str) -> str:
    factor = _factor(found, most)
    if factor > _MOST_FACTOR:
        return "the estimate is the limit itself, so no number of samples would decide it"
    if limit == "max_rows_at_risk":
        rows = wording.count(math.ceil(own.rows * factor))
        return f"about {rows} training rows, with as many twins, would do"
    # Where hits are rarer than rows, samples are what the interval is wide by; otherwise rows are.
    hits = own.n * found.high
    if hits < own.twins:
        return f"about {wording.count(math.ceil(own.n * factor))} samples would do"
    twins = wording.count(math.ceil(own.twins * factor))
    return f"about {twins} twins, with as many training rows, would do"


def _judge(own: Headline, limit: str, most: float, found: Estimate | None) -> Finding:
    """One limit against one model."""
    rows = limit == "max_rows_at_risk"
    unit = "count" if rows else "rate"
    shown = wording.count(most) if rows else wording.percent(most)
    what = {
        "max_rows_at_risk": f"rows at risk in {wording.samples(own.samples)} samples",
        "max_attributable": "verbatim copies that training caused",
        "max_attributable_semantic": "copies by meaning that training caused",
    }[limit]
    if found is None:
        return Finding(
            own.model, limit, most, None, None, None, STATES[CANNOT_TELL],
            f"{own.model}: cannot tell {what}: there are no never-trained rows to compare with; "
            f"{ENOUGH_TWINS} twins would do.",
        )  # fmt: skip
    number = f"{own.model}: {what}: {wording.interval(found, unit)}, at most {shown} allowed: "
    if found.low > most:
        code, why = EXCEEDED, "exceeded"
    elif not rows and own.twins < ENOUGH_TWINS:
        code = CANNOT_TELL
        why = f"cannot tell: {own.twins} twins are too few; {ENOUGH_TWINS} would do"
    elif found.high > most:
        code, why = CANNOT_TELL, f"cannot tell: {_more(own, found, most, limit)}"
    elif not rows and own.told_apart:
        names = wording.listed([source for source, _ in own.told_apart])
        code = CANNOT_TELL
        why = f"cannot tell: twins of {names} can be told from its training rows by text alone"
    else:
        code, why = OK, "ok"
    return Finding(own.model, limit, most, *found, STATES[code], f"{number}{why}.")


def check(results: Results, limits: Limits, settings: Mapping[str, Any]) -> GateResult:
    """Hold a study's numbers against limits; bad input is a result too, with exit code 3.

    Args:
        results: the study's tables.
        limits: what may leak.
        settings: of the study; see `verdict.headline_models`.
    """
    try:
        findings = _findings(results, limits, settings)
    except InputError as error:
        return GateResult(BAD_INPUT, (str(error),))
    states = {finding.state for finding in findings}
    code = next(c for c in (EXCEEDED, CANNOT_TELL, OK) if STATES[c] in states)
    return GateResult(code, tuple(finding.sentence for finding in findings), tuple(findings))


def _findings(results: Results, limits: Limits, settings: Mapping[str, Any]) -> list[Finding]:
    if not limits.given():
        raise InputError(
            "no limit to check: give --max-rows-at-risk, --max-attributable or "
            "--max-attributable-semantic, or a `gate` in the study"
        )
    models = headline_models(results, settings)
    if limits.models:
        prefix = models[0][1] if models else ""
        attribution = results["attribution"].filter(prefix=prefix)
        known = {*attribution["model"], *results["risk"]["model"]}
        if unknown := [name for name in limits.models if name not in known]:
            raise InputError(
                f"no results of model {unknown[0]}; there are {', '.join(sorted(known))}"
            )
        seeds = attribution.unique(["model", "seed"]).group_by("model").agg(pl.col("n").sum())
        drawn = dict(seeds.iter_rows())
        models = [(name, prefix, drawn.get(name, 0)) for name in limits.models]
    if not models:
        raise InputError("the results hold nothing to check; run the study first")
    findings = []
    for model, prefix, n in models:
        own = headline(results, model, prefix, n, limits.samples)
        if limits.max_rows_at_risk is not None:
            if own.at_risk is None:
                raise InputError(
                    f"no likelihoods of {model}'s rows at {limits.samples:,} samples, so rows at "
                    "risk are not known; run the study with `likelihood` for it"
                )
            found = _judge(own, "max_rows_at_risk", limits.max_rows_at_risk, own.at_risk)
            if settings.get("limit") and found.state == STATES[OK]:
                why = (
                    f"{found.sentence} This is of {own.rows} rows; the risk of others is not known."
                )
                found = replace(found, state=STATES[CANNOT_TELL], sentence=why)
            findings.append(found)
        for limit, metric in (
            ("max_attributable", "verbatim"),
            ("max_attributable_semantic", "cosine"),
        ):
            most = getattr(limits, limit)
            if most is not None:
                findings.append(_judge(own, limit, most, own.rates.get(metric)))
    return findings
