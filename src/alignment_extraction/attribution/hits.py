"""Attributable hits by kind of copying, and by the times that training showed a row.

A hit is a generation whose best Levenshtein similarity, or else whose cosine, reaches its fixed
threshold; by that similarity members and twins compete for it. Compared with the row that won it is

- `verbatim`: equal to it;
- `near-verbatim`: not equal, its Levenshtein similarity reaches the string threshold, and it
  differs in more than values;
- `same-template`: equal once numbers and names are masked (see `masking`): other values;
- `paraphrase`: none of these; near by embedding alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from alignment_extraction.attribution.contests import Contest, Wins, wins
from alignment_extraction.attribution.intervals import rates
from alignment_extraction.attribution.tables import schema, table
from alignment_extraction.corpora.masking import masked
from alignment_extraction.corpora.texts import texts_of
from alignment_extraction.files import InputError
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.vocabulary import CONDITION, METRICS, Condition

KINDS_SCHEMA = schema(
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
        contests: from `contests.contests`.
        corpus: in the corpus schema.
        generations: columns index, question and answer, of every condition in the contests.
        thresholds: the fixed ones are used.

    Returns:
        Columns of `KINDS_SCHEMA`, one row for each contest and kind, whose wins add up to all hits.

    Raises:
        InputError: generations of a condition are missing.
    """
    parts = []
    for contest in contests:
        field = contest.keys["field"]
        condition = Condition(*(contest.keys[key] for key in CONDITION))
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
    return table(parts, KINDS_SCHEMA)


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
    same, same_semantic = (
        (masked(written.gather(each.at)) == masked(rows.gather(each.row)))
        .fill_null(False)
        .to_numpy()
        .astype(bool)
        for each in (string, semantic)
    )
    values = (string.where(~verbatim & same), semantic.where(same_semantic))
    return {
        "verbatim": string.where(verbatim),
        "near-verbatim": string.where(~verbatim & ~same),
        "same-template": Wins(*(np.concatenate(each) for each in zip(*values, strict=True))),
        "paraphrase": semantic.where(~same_semantic),
    }


REPETITIONS_SCHEMA = schema(
    "model prefix seed:i source field metric repetitions:s n:i members:i member_rows:i "
    "member_hits:f twins:i twin_rows:i twin_hits:f attributable:f low:f high:f"
)
"""Columns of `repetitions`: members and twins (rows), member_rows and twin_rows (distinct rows that
won), member_hits and twin_hits (wins), and the attributable rate of n generations. Over the
repetitions the rates add up to the source's where rows are paired."""


def repetitions(contests: Iterable[Contest], thresholds: ThresholdSettings) -> pl.DataFrame:
    """The competition of rows by the repetitions of their pair, at the fixed thresholds.

    A twin's repetitions are its member's: what they would have been, had the coin fallen otherwise.
    Every generation still competes among all rows; it counts where its nearest row belongs.

    Returns:
        Columns of `REPETITIONS_SCHEMA`, one row for each contest of rows with twins, metric and
        number of repetitions that both sides have.
    """
    parts = []
    for contest in contests:
        whole = contest.comparison
        if (whole.level, whole.other) != ("rows", "twin"):
            continue
        won = {m: wins(contest, m).reaching(thresholds.fixed(m)) for m in METRICS}
        sides = (whole.repetitions[whole.member == side] for side in (True, False))
        for dose in np.intersect1d(*sides):
            own = whole.repetitions == dose
            some = replace(
                whole,
                ids=whole.ids.filter(pl.Series(own)),
                member=whole.member[own],
                block=np.unique(whole.block[own], return_inverse=True)[1],
                repetitions=whole.repetitions[own],
            )
            number = np.cumsum(own) - 1
            for metric, found in won.items():
                found = found.where(own[found.row])
                found = found._replace(row=number[found.row])
                numbers = rates(found, some, np.array([-np.inf]), contest.n)
                rows = {
                    f"{side}_rows": len(np.unique(found.row[found.member == member]))
                    for side, member in (("member", True), ("twin", False))
                }
                named = contest._replace(comparison=some).labelled(
                    numbers.rename({"member_wins": "member_hits", "twin_wins": "twin_hits"}),
                    metric=metric,
                    repetitions=int(dose),
                    **rows,
                )
                parts.append(named)
    return table(parts, REPETITIONS_SCHEMA, "metric", "repetitions")
