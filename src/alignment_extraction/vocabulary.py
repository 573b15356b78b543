"""The words that every part of the package shares: conditions, metrics, roles."""

from dataclasses import dataclass
from typing import NamedTuple


class Condition(NamedTuple):
    """What was sampled: a model, after a prefix, with a seed."""

    model: str
    prefix: str
    seed: int


@dataclass(frozen=True)
class Metric:
    """How near a generation is to a row of the corpus.

    Attributes:
        name: in columns, parameters and metrics.
        label: for people.
        colour: in every figure, of Okabe and Ito's palette.
        score: column of the scores table that holds it.
        id: column that holds the row it was reached with.
        threshold: key of the study's thresholds; None where equality decides.
        kind: `semantic`, `string` or `equality`.
    """

    name: str
    label: str
    colour: str
    score: str
    id: str
    threshold: str | None
    kind: str


_BEST = "levenshtein_best"
METRICS = {
    metric.name: metric
    for metric in (
        Metric("verbatim", "verbatim", "#d55e00", "verbatim", f"{_BEST}_id", None, "equality"),
        Metric("levenshtein", "Levenshtein", "#e69f00", _BEST, f"{_BEST}_id", "string", "string"),
        Metric("indel", "Indel", "#009e73", "indel_best", "indel_best_id", "string", "string"),
        Metric("cosine", "cosine", "#0072b2", "cosine", "match_id", "semantic", "semantic"),
    )
}
"""Every metric by its name, the strictest first."""

ROLE_COLOURS = {"member": "#cc79a7", "twin": "#7f7f7f", "held-out": "#56b4e9"}
"""Of rows in figures: trained on, assigned elsewhere by a coin, never trained on."""
