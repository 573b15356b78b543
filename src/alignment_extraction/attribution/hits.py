"""Attributable hits by kind of copying, and by the times that training showed a row.

A hit is a generation whose best Levenshtein similarity, or else whose cosine, reaches its fixed
threshold; by that similarity members and twins compete for it. tables.toml has the kinds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from alignment_extraction.attribution.contests import Contest, Wins, wins
from alignment_extraction.attribution.intervals import ANY, rates
from alignment_extraction.attribution.tables import COMPARED, table
from alignment_extraction.corpora.masking import masked
from alignment_extraction.corpora.texts import texts_of
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.vocabulary import CONDITION, METRICS, Condition


def kinds(
    contests: Iterable[Contest],
    corpus: pl.DataFrame,
    generations: Mapping[Condition, pl.DataFrame],
    thresholds: ThresholdSettings,
) -> pl.DataFrame:
    """The table `kinds`: wins of members and twins by kind, and what is attributable of each.

    Args:
        contests: from `contests.contests`.
        corpus: in the corpus schema.
        generations: columns index, question and answer, of every condition in the contests.
        thresholds: the fixed ones are used.
    """
    parts = []
    for contest in contests:
        field = contest.keys["field"]
        drawn = generations[Condition(*(contest.keys[key] for key in CONDITION))]
        written = _texts(contest.frame, drawn, field, "index")
        rows = _texts(contest.comparison.ids.alias("id").to_frame(), corpus, field, "id")
        for kind, found in _by_kind(contest, written, rows, thresholds).items():
            numbers = rates(found, contest.comparison, ANY, contest.n)
            parts.append(contest.labelled(numbers, kind=kind))
    return table("kinds", parts, *COMPARED)


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
    both = Wins(*(np.concatenate(each) for each in zip(string, semantic, strict=True)))
    by_string = np.arange(len(both.at)) < len(string.at)
    equal = (contest.frame[f"verbatim{side}"].fill_null(False) for side in ("", "_twin"))
    verbatim = by_string & np.where(both.member, *(each.to_numpy()[both.at] for each in equal))
    alike = masked(written.gather(both.at)) == masked(rows.gather(both.row))
    same = ~verbatim & alike.fill_null(False).to_numpy().astype(bool)
    return {
        "verbatim": both.where(verbatim),
        "near-verbatim": both.where(by_string & ~verbatim & ~same),
        "same-template": both.where(same),
        "paraphrase": both.where(~by_string & ~same),
    }


def repetitions(contests: Iterable[Contest], thresholds: ThresholdSettings) -> pl.DataFrame:
    """The table `repetitions`: the competition of rows by the repetitions of their pair.

    At the fixed thresholds, of sources with twins, for each number that both sides have. A twin's
    repetitions are its member's: what they would have been, had the coin fallen otherwise. Every
    generation still competes among all rows; it counts where its nearest row belongs.
    """
    parts = []
    for contest in contests:
        whole = contest.comparison
        if (whole.level, whole.other) != ("rows", "twin"):
            continue
        won = {m: wins(contest, m).reaching(thresholds.fixed(m)) for m in METRICS}
        for dose in np.intersect1d(*(whole.repetitions[whole.member == s] for s in (True, False))):
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
                numbers = rates(found, some, ANY, contest.n).rename(
                    {"member_wins": "member_hits", "twin_wins": "twin_hits"}
                )
                named = contest._replace(comparison=some).labelled(
                    numbers,
                    metric=metric,
                    repetitions=int(dose),
                    member_rows=len(np.unique(found.row[found.member])),
                    twin_rows=len(np.unique(found.row[~found.member])),
                )
                parts.append(named)
    return table("repetitions", parts, *COMPARED, "metric", "repetitions")
