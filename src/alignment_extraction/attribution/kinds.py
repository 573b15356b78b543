"""Kinds of copying among attributable hits, from the closest copy to the loosest.

A hit is a generation whose best Levenshtein similarity, or else whose cosine, reaches its fixed
threshold; by that similarity members and twins compete for it. Compared with the row that won it is

- `verbatim`: equal to it;
- `near-verbatim`: not equal, its Levenshtein similarity reaches the string threshold, and it
  differs in more than values;
- `same-template`: equal once numbers and names are masked (see `masking`): other values;
- `paraphrase`: none of these; near by embedding alone.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from alignment_extraction.attribution.contests import Contest, Wins, wins
from alignment_extraction.attribution.tables import schema, table
from alignment_extraction.attribution.tallies import rates
from alignment_extraction.corpora.masking import masked
from alignment_extraction.corpora.texts import texts_of
from alignment_extraction.files import InputError
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import Array
from alignment_extraction.vocabulary import Condition

KINDS = ("verbatim", "near-verbatim", "same-template", "paraphrase")

SCHEMA = schema(
    "model prefix seed:i source level field kind n:i member_wins:f twin_wins:f attributable:f "
    "low:f high:f"
)
"""Columns of `kinds`; the last three are rates of n generations."""


def kinds(
    contests: Iterable[Contest],
    corpus: pl.DataFrame,
    generations: Mapping[Condition, pl.DataFrame],
    thresholds: ThresholdSettings,
) -> pl.DataFrame:
    """Wins of members and twins by kind of copying, and what is attributable of each.

    Args:
        contests: of any conditions.
        corpus: in the corpus schema.
        generations: columns index, question and answer, of every condition in the contests.
        thresholds: the fixed ones are used.

    Returns:
        Columns of `SCHEMA`, one row for each contest and kind, whose wins add up to all hits.

    Raises:
        InputError: generations of a condition are missing.
    """
    parts = []
    for contest in contests:
        field = contest.keys["field"]
        condition = Condition(*(contest.keys[key] for key in Condition._fields))
        if condition not in generations:
            raise InputError(
                f"generations of {tuple(condition)}: missing, but scores has them; draw them or "
                "score again"
            )
        drawn = generations[condition]
        written = _texts(contest.frame, drawn, field, "index")
        rows = _texts(contest.comparison.ids.alias("id").to_frame(), corpus, field, "id")
        for kind, found in _by_kind(contest, written, rows, thresholds).items():
            numbers = rates(found, contest.comparison, np.array([-np.inf]), contest.n)
            parts.append(contest.labelled(numbers, kind=kind))
    return table(parts, SCHEMA)


def _texts(places: pl.DataFrame, frame: pl.DataFrame, field: str, key: str) -> pl.Series:
    """The text of the field at each place."""
    texts = frame.select(key, text=texts_of(frame, field))
    return places.join(texts, on=key, how="left", maintain_order="left")["text"]


def _by_kind(
    contest: Contest, written: pl.Series, rows: pl.Series, thresholds: ThresholdSettings
) -> dict[str, Wins]:
    string, semantic = (
        wins(contest, metric).reaching(thresholds.fixed(metric))
        for metric in ("levenshtein", "cosine")
    )
    semantic = semantic.where(~np.isin(semantic.at, string.at))
    equal, equal_to_twin = (
        contest.frame[name].fill_null(False).to_numpy()[string.at]
        for name in ("verbatim", "verbatim_twin")
    )
    verbatim = np.where(string.member, equal, equal_to_twin)
    same, same_semantic = (_same_when_masked(each, written, rows) for each in (string, semantic))
    values = (string.where(~verbatim & same), semantic.where(same_semantic))
    together = Wins(*(np.concatenate(each) for each in zip(*values, strict=True)))
    found = (
        string.where(verbatim),
        string.where(~verbatim & ~same),
        together.where(np.argsort(-together.score, kind="stable")),
        semantic.where(~same_semantic),
    )
    return dict(zip(KINDS, found, strict=True))


def _same_when_masked(found: Wins, written: pl.Series, rows: pl.Series) -> Array:
    same = masked(written.gather(found.at)) == masked(rows.gather(found.row))
    return same.fill_null(False).to_numpy().astype(bool)
