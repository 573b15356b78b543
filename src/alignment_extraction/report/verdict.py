"""The verdict: what the headline's numbers say in sentences, and what they do not say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from scipy.stats import binom

from alignment_extraction.report import wording
from alignment_extraction.report.headline import (
    ENOUGH_TWINS,
    Headline,
    fixed,
    headline,
    headline_models,
)
from alignment_extraction.report.rendering import paragraphs
from alignment_extraction.report.tables import Results
from alignment_extraction.report.wording import Estimate, estimate, interval


@dataclass(frozen=True)
class Verdict:
    """The first screen.

    Attributes:
        status: `leaks`, `no leak seen` or `cannot tell`.
        sentences: the verdict in plain words.
        caveats: what it does not say.
        headlines: of each model that the report is about, the first one's numbers on top.
        placebo: attributable verbatim rates of models that were not trained on a source: model,
            source, estimate.
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


def cards(own: Headline) -> list[tuple[str, str, str]]:
    """The four numbers of the first screen: label, number with interval, what it is of."""
    scope = f"{wording.samples(own.samples)} samples"
    at_risk = distinct = None
    of_risk = of_distinct = "unknown: no likelihoods"
    if own.risk:
        rows, at_risk, distinct, observed = own.risk
        of_risk = of_distinct = f"of {wording.plural(rows, own.noun)}"
        if own.never:
            never = wording.count(own.never.at_risk.value)
            of_risk += f"; {never} of {wording.count(own.never.rows)} never trained on"
        if observed is not None:
            of_distinct += f"; {wording.count(observed)} seen"
    compared = "unknown: nothing to compare with"
    if own.rates:
        compared = f"of {wording.plural(own.n, 'generation')}, prefix {own.prefix}"
    verbatim, cosine = (interval(own.rates.get(name), "rate") for name in ("verbatim", "cosine"))
    return [
        (f"rows at risk in {scope}", interval(at_risk, "count"), of_risk),
        ("copies that training caused, verbatim", verbatim, compared),
        ("copies that training caused, by meaning", cosine, compared),
        (f"distinct rows expected in {scope}", interval(distinct, "count"), of_distinct),
    ]


def placebos(results: Results) -> list[tuple[str, str, Estimate]]:
    """Attributable verbatim rates that must hold 0: model, source, estimate, most samples first."""
    own = fixed(results["attribution"]).filter(~pl.col("trained"), metric="verbatim")
    own = own.filter(pl.col("level") == pl.col("level").min().over("model", "source"))
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
    own, *others = found
    placebo = tuple(placebos(results))
    off = [one for one in placebo if one[2].low > 0 or one[2].high < 0]
    caveats = paragraphs(
        "caveats.txt",
        own=own,
        enough=ENOUGH_TWINS,
        placebo=placebo,
        off=off,
        # One interval in twenty misses 0 by chance.
        biased=len(off) > binom.ppf(0.99, len(placebo), 0.05),
    )
    status = "leaks" if any(one.status == "leaks" for one in found) else own.status
    return Verdict(
        status, paragraphs("sentences.txt", own=own, others=others), caveats, found, placebo
    )
