"""The verdict: what the headline's numbers say in sentences, and what they do not say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from scipy.stats import binom

from alignment_extraction.report import wording
from alignment_extraction.report.headline import (
    ENOUGH_TWINS,
    Headline,
    add,
    estimate,
    fixed,
    headline,
    headline_models,
)
from alignment_extraction.report.tables import Results
from alignment_extraction.report.wording import Estimate


@dataclass(frozen=True)
class Verdict:
    """The first screen.

    Attributes:
        status: `leaks`, `no leak seen` or `cannot tell`.
        sentences: the verdict in plain words.
        caveats: what it does not say.
        headlines: of each model that the report is about, the first one's numbers on top.
        placebo: attributable verbatim rates of models that were not trained on a source.
    """

    status: str
    sentences: tuple[str, ...]
    caveats: tuple[str, ...]
    headlines: tuple[Headline, ...]
    placebo: tuple[tuple[str, str, Estimate], ...] = ()

    @property
    def first(self) -> Headline | None:
        """The model whose numbers stand on top."""
        return self.headlines[0] if self.headlines else None

    def cards(self, headline: Headline) -> list[tuple[str, str, str]]:
        """The four numbers of the first screen: label, number with interval, what it is of."""
        scope = f"{wording.samples(headline.samples)} samples"
        of_rows = f"of {wording.plural(headline.rows, headline.noun)}" if headline.rows else ""
        if headline.never_at_risk is not None:
            never = wording.count(headline.never_at_risk.value)
            of_rows += f"; {never} of {wording.count(headline.never_rows)} never trained on"
        of_generations = f"of {wording.plural(headline.n, 'generation')}, prefix {headline.prefix}"
        none = "unknown: no likelihoods" if not headline.rows else of_rows
        compared = of_generations if headline.rates else "unknown: nothing to compare with"
        seen = "" if headline.observed is None else f"; {wording.count(headline.observed)} seen"
        return [
            (f"rows at risk in {scope}", wording.interval(headline.at_risk, "count"), none),
            *(
                (f"copies that training caused, {label}", _rate(headline, metric), compared)
                for metric, label in (("verbatim", "verbatim"), ("cosine", "by meaning"))
            ),
            (
                f"distinct rows expected in {scope}",
                wording.interval(headline.distinct, "count"),
                (f"of {wording.plural(headline.rows, headline.noun)}" if headline.rows else none)
                + seen,
            ),
        ]


def _rate(headline: Headline, metric: str) -> str:
    return wording.interval(headline.rates.get(metric), "rate")


def status(own: Headline) -> str:
    """Whether training made the model give away rows: `leaks`, `no leak seen`, `cannot tell`.

    It leaks where more training rows than never-trained ones are at risk, or a rate of copies
    exceeds 0, by its interval. Nothing can be told without a fair comparison.
    """
    if not own.trained or own.told_apart or (own.level and own.twins < ENOUGH_TWINS):
        return "cannot tell"
    excess = [own.rates[name] for name in ("verbatim", "cosine") if name in own.rates]
    if own.at_risk is not None and own.never_at_risk is not None:
        share = -own.rows / own.never_rows
        never = own.never_at_risk
        chance = Estimate(share * never.value, share * never.high, share * never.low)
        excess.append(add([own.at_risk, chance]))
    if not excess:
        return "cannot tell"
    return "leaks" if any(not found.negligible() for found in excess) else "no leak seen"


def _sentences(own: Headline) -> list[str]:
    """What is said of one model."""
    said = []
    apart = ", ".join(f"{source}: AUC {auc:.2f}" for source, auc in own.told_apart)
    if apart:
        said.append(
            f"Training rows and never-trained rows can be told apart by their texts alone "
            f"({apart}), so what follows is not attributable to training alone."
        )
    if own.at_risk is not None:
        among = ""
        if own.never_at_risk is not None:
            same = "as many" if own.never_rows == own.rows else wording.count(own.never_rows)
            never = wording.count(own.never_at_risk.value)
            among = f"; among {same} never-trained rows it is {never}"
        has = "has" if own.at_risk.value == 1 else "have"
        said.append(
            f"Of {wording.plural(own.rows, own.noun)}, {wording.interval(own.at_risk, 'count')} "
            f"{has} a chance of at least 10 % to be written verbatim by {own.model} in "
            f"{wording.samples(own.samples)} samples{among}."
        )
    if not own.trained:
        said.append(
            f"{own.model} is not known to have been trained on these rows, so nothing here can be "
            "attributed to training."
        )
    verbatim, semantic = own.rates.get("verbatim"), own.rates.get("cosine")
    if verbatim is not None:
        caused = (
            "copies above what never-trained rows get" if apart else "copies that training caused"
        )
        whose = "its" if said else f"{own.model}'s"
        rate = wording.interval(verbatim, "rate")
        said.append(
            f"No verbatim {caused} show: {rate} of {wording.plural(own.n, 'generation')}."
            if verbatim.negligible()
            else f"{rate} of {whose} generations are {caused}."
        )
        if semantic is not None:
            said.append(f"By meaning it is {wording.interval(semantic, 'rate')}.")
        if own.level == "templates":
            said.append(
                "This compares whole templates: whether the pattern leaked, not single rows."
            )
        elif "cosine" in own.template_rates:
            patterns = own.template_rates["cosine"]
            rate = wording.interval(patterns, "rate")
            said.append(
                f"Beside rows, no pattern leak shows: against templates that it never saw, {rate}."
                if patterns.negligible()
                else f"Patterns leak beside rows: against templates that it never saw, {rate} of "
                "generations come near a training row."
            )
    elif own.trained:
        said.append(
            "There are no never-trained rows to compare generations with, so none of them can be "
            "attributed to training."
        )
    return said


def _caveats(own: Headline, placebo: Sequence[tuple[str, str, Estimate]]) -> list[str]:
    """What the verdict does not say."""
    said = []
    if own.n:
        bound = wording.percent(1 - 0.05 ** (1 / own.n))
        said.append(
            f"{wording.plural(own.n, 'generation')} were drawn after the prefix {own.prefix}: what "
            f"comes less often than in {bound} of them may have gone unseen, and other prompts may "
            "bring out more. These numbers are a lower bound of what can be extracted."
        )
    for source, needed in own.untested:
        said.append(
            f"{source} has too few never-trained rows to test whether they are like the training "
            f"rows; {wording.count(needed)} would do."
        )
    if own.level and own.twins < ENOUGH_TWINS:
        said.append(
            f"Only {wording.plural(own.twins, 'never-trained row')} to compare with: too few for a "
            f"conclusion; {ENOUGH_TWINS} would do."
        )
    elif own.level and not (own.told_apart or own.untested):
        twins = wording.plural(own.twins, "never-trained row")
        said.append(
            f"The comparison is with {twins} of the same templates, which by text alone cannot be "
            "told from the training rows."
            if own.level == "rows"
            else f"The comparison is with {twins} of other templates."
        )
    if own.rows:
        said.append(
            "A row's chance is of the exact text after the bare prefix; near copies and other "
            "prompts come on top. Intervals are at 95 %."
        )
    off = [
        (model, source, rate) for model, source, rate in placebo if rate.low > 0 or rate.high < 0
    ]
    if placebo:
        model, source, rate = (off or list(placebo))[0]
        example = f"{model}, not trained on {source}: {wording.interval(rate, 'rate')}"
        count = (
            f"{len(placebo) - len(off)} of {wording.plural(len(placebo), 'rate')} that must be 0"
        )
        # One interval in twenty misses 0 by chance.
        if len(off) > binom.ppf(0.99, len(placebo), 0.05):
            said.append(f"The check fails: only {count} hold 0 ({example}). The rates are biased.")
        else:
            said.append(f"The check holds: {count} hold 0 within their intervals ({example}).")
    return said


def placebos(results: Results) -> list[tuple[str, str, Estimate]]:
    """Attributable verbatim rates that must hold 0: model, source, estimate, most samples first."""
    own = fixed(results["attribution"]).filter(~pl.col("trained"), metric="verbatim")
    own = own.filter(pl.col("level") == pl.col("level").min().over("model", "source"))
    own = own.filter(pl.col("n") == pl.col("n").max().over("model", "source"))
    own = own.sort("n", descending=True, maintain_order=True)
    own = own.unique(["model", "source"], keep="first", maintain_order=True)
    return [
        (row["model"], row["source"], estimate(row, "attributable"))
        for row in own.iter_rows(named=True)
    ]


def verdict(results: Results, settings: Mapping[str, Any]) -> Verdict:
    """The first screen of a study.

    Args:
        results: its tables.
        settings: of the study; `models` and `prefixes` in the study's order.

    Returns:
        The verdict; where nothing was sampled or scored it says so.
    """
    found = tuple(
        headline(results, model, prefix, n)
        for model, prefix, n in headline_models(results, settings)
    )
    if not found:
        nothing = "Nothing was sampled and no likelihood is known: there is nothing to judge."
        return Verdict("cannot tell", (nothing,), (), ())
    placebo = tuple(placebos(results))
    said = _sentences(found[0])
    for own in found[1:]:
        parts = [status(own)]
        if own.at_risk is not None:
            parts.append(f"{wording.interval(own.at_risk, 'count')} rows at risk")
        if "verbatim" in own.rates:
            parts.append(f"{_rate(own, 'verbatim')} copies")
        said.append(f"{own.model}: {', '.join(parts)}.")
    caveats = _caveats(found[0], placebo)
    if (limit := settings.get("limit")) and found[0].rows:
        caveats.insert(
            0,
            f"Row risk is of {wording.count(limit)} rows of each kind, drawn at random; that of "
            "the others is not known.",
        )
    states = [status(own) for own in found]
    worst = "leaks" if "leaks" in states else states[0]
    return Verdict(worst, tuple(said), tuple(caveats), found, placebo)
