"""The gate: whether a study's numbers stay within limits, as an exit code."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.report.headline import Headline, headline, headline_models
from alignment_extraction.report.rendering import paragraphs
from alignment_extraction.report.tables import Results
from alignment_extraction.settings.studies import GateSettings
from alignment_extraction.statistics import Interval

OK, EXCEEDED, CANNOT_TELL, BAD_INPUT = 0, 1, 2, 3
"""Exit codes of `alignment-extraction check`."""
STATES = {OK: "ok", EXCEEDED: "exceeded", CANNOT_TELL: "cannot tell", BAD_INPUT: "bad input"}
_MOST_FACTOR = 1e6
_RATES = {"max_attributable": "verbatim", "max_attributable_semantic": "cosine"}


class Finding(NamedTuple):
    """One limit, held against one model."""

    model: str
    limit: str  # as in GateSettings
    most: float  # its value
    value: float | None  # what was measured, with its interval; None where nothing was
    low: float | None
    high: float | None
    state: str  # of `STATES`
    sentence: str  # all of it in words


class GateResult(NamedTuple):
    """What the gate says."""

    exit_code: int  # 0 within all limits, 1 one is exceeded, else 2 cannot tell of one, 3 bad input
    lines: Sequence[str]  # for people, one a limit and model
    findings: Sequence[Finding] = ()  # the same for machines

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        findings = [finding._asdict() for finding in self.findings]
        return self._asdict() | {"state": STATES[self.exit_code], "findings": findings}


def _more(own: Headline, found: Interval, limit: str, most: float) -> tuple[int, str] | None:
    """How much more data would bring the interval's nearer bound to the limit: a number of what.

    Intervals shrink with the square root of what they are estimated from. None if no number does.
    """
    distance = abs(found.estimate - most)
    spread = found.high - found.estimate if found.estimate <= most else found.estimate - found.low
    factor = (spread / distance) ** 2 if distance else math.inf
    if factor > _MOST_FACTOR:
        return None
    if limit not in _RATES:
        number, what = own.risk.rows if own.risk else 0, "training rows, with as many twins,"
    # Where hits are rarer than rows, samples are what the interval is wide by; otherwise rows are.
    elif own.n * found.high < own.twins:
        number, what = own.n, "samples"
    else:
        number, what = own.twins, "twins, with as many training rows,"
    return math.ceil(number * factor), what


def _judge(own: Headline, limit: str, most: float, part: bool) -> Finding:
    """One limit against one model; `part`: row risk is of a part of the rows."""
    rate = limit in _RATES
    if not rate and not own.risk:
        raise InputError(
            f"no likelihoods of {own.model}'s rows at {own.samples:,} samples, so rows at risk "
            "are not known; run the study with `likelihood` for it"
        )
    found = own.rates.get(_RATES[limit]) if rate else own.risk and own.risk.at_risk
    why = {
        "nothing": not found,
        "few": rate and own.twins < own.enough,
        "wide": found and found.high > most,
        "apart": rate and own.told_apart,
        "part": part and not rate,
    }
    state = STATES[CANNOT_TELL if any(why.values()) else OK]
    if found and found.low > most:
        state, why = STATES[EXCEEDED], {}
    reason = next((name for name, holds in why.items() if holds), "")
    more = _more(own, found, limit, most) if found and reason == "wide" else None
    said = {"own": own, "limit": limit, "most": most, "found": found, "state": state, "more": more}
    (sentence,) = paragraphs("gate.txt", why=reason, **said)
    value, low, high = found or (None, None, None)
    return Finding(own.model, limit, most, value, low, high, state, sentence)


def _models(
    results: Results, settings: Mapping[str, Any], asked: Sequence[str]
) -> list[tuple[str, str, int]]:
    """Model, prefix and generations of those asked for, or of those that the report is about."""
    models = headline_models(results, settings)
    if not models:
        raise InputError("nothing to check: no never-trained rows to compare with, no likelihoods")
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
    """Hold a study's numbers against the limits given; bad input is a result too, with exit code 3.

    Without `models` those are checked that the report is about: see `headline_models`.
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
        part = bool(settings.get("limit"))
        findings = [_judge(own, *limit, part) for own in judged for limit in given.items()]
    except InputError as error:
        return GateResult(BAD_INPUT, (str(error),))
    states = {finding.state for finding in findings}
    code = next(c for c in (EXCEEDED, CANNOT_TELL, OK) if STATES[c] in states)
    return GateResult(code, [finding.sentence for finding in findings], findings)
