"""Kinds of copying among attributable hits, from the closest copy to the loosest.

A hit is a generation whose best Levenshtein similarity, or else whose cosine, reaches its fixed
threshold; by that similarity members and twins compete for it. Compared with the row that won it is

- `verbatim`: equal to it;
- `same-template`: equal once numbers and names are masked (see `masking`): other values;
- `near-verbatim`: neither, and its Levenshtein similarity reaches the string threshold;
- `paraphrase`: none of these; near by embedding alone.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from alignment_extraction.attribution.competition import ORDER
from alignment_extraction.attribution.contests import (
    TOLERANCE,
    Contest,
    Wins,
    contests,
    wins,
)
from alignment_extraction.attribution.levels import Comparison, comparisons
from alignment_extraction.attribution.tallies import difference, tally
from alignment_extraction.corpora.masking import masked
from alignment_extraction.corpora.texts import texts_of
from alignment_extraction.files import InputError
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.vocabulary import Condition

KINDS = ("verbatim", "near-verbatim", "same-template", "paraphrase")

SCHEMA = pl.Schema(
    {
        "model": pl.String(),
        "prefix": pl.String(),
        "seed": pl.Int64(),
        "source": pl.String(),
        "level": pl.String(),
        "field": pl.String(),
        "kind": pl.String(),
        "n": pl.Int64(),
        "member_wins": pl.Float64(),
        "twin_wins": pl.Float64(),
        "attributable": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
    }
)
"""Columns of `kinds`."""


def kinds(
    scores: pl.DataFrame,
    corpus: pl.DataFrame,
    generations: Mapping[Condition, pl.DataFrame],
    thresholds: ThresholdSettings,
) -> pl.DataFrame:
    """Wins of members and twins by kind of copying, and what is attributable of each.

    Args:
        scores: the scores table.
        corpus: in the corpus schema.
        generations: columns index, question and answer, of every condition in the scores.
        thresholds: the fixed ones are used.

    Returns:
        Columns of `SCHEMA`, one row for each condition, source, level, field and kind; the last
        three are rates of n generations. The kinds' wins add up to those of all hits.

    Raises:
        InputError: generations of a condition are missing.
    """
    parts = [pl.DataFrame(schema=SCHEMA)]
    texts = {
        field: corpus.select("id", text=texts_of(corpus, field))
        for field in scores["field"].unique().to_list()
    }
    for comparison in comparisons(corpus):
        rows = pl.DataFrame({"id": comparison.ids})
        of_rows = {
            field: rows.join(table, on="id", how="left", maintain_order="left")["text"]
            for field, table in texts.items()
        }
        for contest in contests(scores, comparison):
            condition = Condition(*(contest.keys[key] for key in Condition._fields))
            if condition not in generations:
                raise InputError(
                    f"generations of {tuple(condition)}: missing, but scores has them; draw them "
                    "or score again"
                )
            field = contest.keys["field"]
            written = contest.frame.select("index").join(
                generations[condition].select(
                    "index", text=texts_of(generations[condition], field)
                ),
                on="index",
                how="left",
                maintain_order="left",
            )["text"]
            parts += _kinds(contest, comparison, written, of_rows[field], thresholds)
    order = pl.col("kind").cast(pl.Enum(KINDS))
    return pl.concat(parts).sort(*ORDER, order, maintain_order=True)


def _kinds(
    contest: Contest,
    comparison: Comparison,
    written: pl.Series,
    rows: pl.Series,
    thresholds: ThresholdSettings,
) -> Iterator[pl.DataFrame]:
    string = _reached(wins(contest, "levenshtein"), thresholds.fixed("levenshtein"))
    semantic = _reached(wins(contest, "cosine"), thresholds.fixed("cosine"))
    semantic = semantic.where(~np.isin(semantic.at, string.at))
    for kind, found in _by_kind(contest, string, semantic, written, rows):
        counts = tally(found, comparison, np.array([-np.inf]))
        yield (
            difference(counts, comparison, contest.n)
            .with_columns(
                **{key: pl.lit(value) for key, value in contest.keys.items()},
                source=pl.lit(comparison.source),
                level=pl.lit(comparison.level),
                kind=pl.lit(kind),
                n=pl.lit(contest.n),
            )
            .select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
        )


def _reached(found: Wins, threshold: float) -> Wins:
    return found.where(found.score >= threshold - TOLERANCE)


def _by_kind(
    contest: Contest, string: Wins, semantic: Wins, written: pl.Series, rows: pl.Series
) -> Iterator[tuple[str, Wins]]:
    flags = [
        contest.frame[f"{side}_verbatim"].fill_null(False).to_numpy() for side in ("twin", "member")
    ]
    verbatim = np.where(string.member, flags[1][string.at], flags[0][string.at])
    same = [_same_when_masked(found, written, rows) for found in (string, semantic)]
    yield "verbatim", string.where(verbatim)
    yield "near-verbatim", string.where(~verbatim & ~same[0])
    values = [string.where(~verbatim & same[0]), semantic.where(same[1])]
    yield "same-template", _together(*values)
    yield "paraphrase", semantic.where(~same[1])


def _same_when_masked(found: Wins, written: pl.Series, rows: pl.Series) -> np.ndarray:
    same = masked(written.gather(found.at)) == masked(rows.gather(found.row))
    return same.fill_null(False).to_numpy().astype(bool)


def _together(first: Wins, second: Wins) -> Wins:
    arrays = [
        np.concatenate([getattr(each, name) for each in (first, second)])
        for name in ("score", "row", "member", "weight", "at")
    ]
    found = Wins(*arrays)
    return found.where(np.argsort(-found.score, kind="stable"))
