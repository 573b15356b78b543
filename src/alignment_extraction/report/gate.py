"""The gate: whether a study's numbers stay within limits, as an exit code."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.report import wording
from alignment_extraction.report.headline import ENOUGH_TWINS, Headline, headline, headline_models
from alignment_extraction.report.tables import Results
from alignment_extraction.report.wording import Estimate
from alignment_extraction.settings.studies import GateSettings

OK, EXCEEDED, CANNOT_TELL, BAD_INPUT = 0, 1, 2, 3
"""Exit codes of `alignment-extraction check`."""
STATES = {OK: "ok", EXCEEDED: "exceeded", CANNOT_TELL: "cannot tell", BAD_INPUT: "bad input"}
_MOST_FACTOR = 1e6
_RATES = {"max_attributable": "verbatim", "max_attributable_semantic": "cosine"}


class Finding(NamedTuple):
    """One limit, held against one model.

    Attributes:
        model: name.
        limit: name of the limit.
        most: its value.
        value, low, high: what was measured, with its interval; None where nothing was.
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


class GateResult(NamedTuple):
    """What the gate says.

    Attributes:
        exit_code: 0 within all limits, 1 one is exceeded, 2 cannot tell of one and none is
            exceeded, 3 bad input.
        lines: for people, one a limit and model.
        findings: the same for machines.
    """

    exit_code: int
    lines: Sequence[str]
    findings: Sequence[Finding] = ()

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "exit_code": self.exit_code,
            "state": STATES[self.exit_code],
            "lines": list(self.lines),
            "findings": [finding._asdict() for finding in self.findings],
        }


def _more(own: Headline, found: Estimate, limit: str, most: float) -> str:
    """How much more data would bring the interval's nearer bound to the limit.

    Intervals shrink with the square root of what they are estimated from.
    """
    distance = abs(found.value - most)
    spread = found.high - found.value if found.value <= most else found.value - found.low
    factor = (spread / distance) ** 2 if distance else math.inf
    if factor > _MOST_FACTOR:
        return "the estimate is the limit itself, so no number of samples would decide it"
    if limit not in _RATES:
        number, what = own.risk.rows if own.risk else 0, "training rows, with as many twins,"
    # Where hits are rarer than rows, samples are what the interval is wide by; otherwise rows are.
    elif own.n * found.high < own.twins:
        number, what = own.n, "samples"
    else:
        number, what = own.twins, "twins, with as many training rows,"
    return f"about {wording.count(math.ceil(number * factor))} {what} would do"


def _judge(own: Headline, limit: str, most: float) -> Finding:
    """One limit against one model."""
    what = {
        "max_rows_at_risk": f"rows at risk in {wording.samples(own.samples)} samples",
        "max_attributable": "verbatim copies that training caused",
        "max_attributable_semantic": "copies by meaning that training caused",
    }[limit]
    rate = limit in _RATES
    if not rate and not own.risk:
        raise InputError(
            f"no likelihoods of {own.model}'s rows at {own.samples:,} samples, so rows at risk "
            "are not known; run the study with `likelihood` for it"
        )
    found = own.rates.get(_RATES[limit]) if rate else own.risk and own.risk.at_risk
    if found is None:
        said = (
            f"{own.model}: cannot tell {what}: there are no never-trained rows to compare with; "
            f"{ENOUGH_TWINS} twins would do."
        )
        return Finding(own.model, limit, most, None, None, None, STATES[CANNOT_TELL], said)
    code, why = CANNOT_TELL, ""
    if found.low > most:
        code = EXCEEDED
    elif rate and own.twins < ENOUGH_TWINS:
        why = f": {own.twins} twins are too few; {ENOUGH_TWINS} would do"
    elif found.high > most:
        why = f": {_more(own, found, limit, most)}"
    elif rate and own.told_apart:
        names = wording.listed([source for source, _ in own.told_apart])
        why = f": twins of {names} can be told from its training rows by text alone"
    else:
        code = OK
    unit, limited = ("rate", wording.percent(most)) if rate else ("count", wording.count(most))
    number = f"{wording.interval(found, unit)}, at most {limited} allowed"
    said = f"{own.model}: {what}: {number}: {STATES[code]}{why}."
    return Finding(own.model, limit, most, *found, STATES[code], said)


def _models(
    results: Results, settings: Mapping[str, Any], asked: Sequence[str]
) -> list[tuple[str, str, int]]:
    """Model, prefix and generations of those asked for, or of those that the report is about."""
    models = headline_models(results, settings)
    if not models:
        raise InputError("the results hold nothing to check; run the study first")
    if not asked:
        return models
    prefix = models[0][1]
    drawn = results["attribution"].filter(prefix=prefix).unique(["model", "seed"])
    n = dict(drawn.group_by("model").agg(pl.col("n").sum()).iter_rows())
    known = sorted({*n, *results["risk"]["model"]})
    if unknown := [name for name in asked if name not in known]:
        raise InputError(f"no results of model {unknown[0]}; there are {', '.join(known)}")
    return [(name, prefix, n.get(name, 0)) for name in asked]


def check(
    results: Results, limits: GateSettings, settings: Mapping[str, Any], models: Sequence[str] = ()
) -> GateResult:
    """Hold a study's numbers against limits; bad input is a result too, with exit code 3.

    Args:
        results: the study's tables.
        limits: what may leak; what is None is not checked.
        settings: of the study; see `headline_models`.
        models: to check; without any those that the report is about.
    """
    given = limits.model_dump(exclude_none=True, exclude={"samples"})
    try:
        if not given:
            raise InputError(
                "no limit to check: give --max-rows-at-risk, --max-attributable or "
                "--max-attributable-semantic, or a `gate` in the study"
            )
        chosen = _models(results, settings, models)
        judged = [headline(results, *model, limits.samples) for model in chosen]
        findings = [_judge(own, *limit) for own in judged for limit in given.items()]
    except InputError as error:
        return GateResult(BAD_INPUT, (str(error),))
    states = {finding.state for finding in findings}
    code = next(c for c in (EXCEEDED, CANNOT_TELL, OK) if STATES[c] in states)
    return GateResult(code, [finding.sentence for finding in findings], findings)
