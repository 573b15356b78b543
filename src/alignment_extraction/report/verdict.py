"""The verdict: what the headline's numbers say in sentences, and what they do not say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.stats import binom

from alignment_extraction.report.headline import Headline, headline, headline_models, placebos
from alignment_extraction.report.rendering import paragraphs
from alignment_extraction.report.tables import Results
from alignment_extraction.statistics import Interval


@dataclass(frozen=True)
class Verdict:
    """The first screen: what a study's results say."""

    results: Results
    settings: Mapping[str, Any]  # of the study, as `verdict` takes them
    status: str  # `leaks`, `no leak seen` or `cannot tell`
    sentences: tuple[str, ...]  # in plain words
    caveats: tuple[str, ...] = ()  # what it does not say
    headlines: tuple[Headline, ...] = ()  # of each model that the report is about
    placebo: tuple[tuple[str, str, Interval], ...] = ()  # see `placebos`

    @property
    def first(self) -> Headline | None:
        """The model whose numbers stand on top."""
        return self.headlines[0] if self.headlines else None

    @property
    def cards(self) -> list[tuple[str, str, str]]:
        """The four numbers: label, number with interval, what it is of."""
        texts = paragraphs("cards.txt", own=self.first) if self.first else ()
        return [tuple(map(str.strip, text.split("|", 2))) for text in texts]  # type: ignore[misc]


def verdict(results: Results, settings: Mapping[str, Any]) -> Verdict:
    """What a study's results say; where there is nothing to judge, that.

    Args:
        results: its tables.
        settings: of the study: `name`, `title`, `models`, `prefixes` and `thresholds`; perhaps
            `gate`, `limit` (rows whose risk is known) and `search` (how it was checked, in
            sentences).
    """
    found = tuple(headline(results, *model) for model in headline_models(results, settings))
    if not found:
        nothing = "No never-trained rows to compare with, no likelihoods: nothing to judge."
        return Verdict(results, settings, "cannot tell", (nothing,))
    own, *others = found
    placebo = tuple(placebos(results))
    off = [one for one in placebo if one[2].low > 0 or one[2].high < 0]
    caveats = paragraphs(
        "caveats.txt",
        own=own,
        limit=settings.get("limit"),
        placebo=placebo,
        off=off,
        # One interval in twenty misses 0 by chance.
        biased=len(off) > binom.ppf(0.99, len(placebo), 0.05),
    )
    status = "leaks" if any(one.status == "leaks" for one in found) else own.status
    said = paragraphs("sentences.txt", own=own, others=others)
    return Verdict(results, settings, status, said, caveats, found, placebo)
