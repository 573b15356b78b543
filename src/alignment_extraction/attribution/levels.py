"""Who is compared with whom: a source's members against what a coin kept from the model.

Two levels, never mixed. *Rows*: member rows against twins of the same templates, which answers "did
the model leak this row, beyond knowing its template?". The block, which is what the coin fell for,
is the pair of a member and its twin, or a row that has no partner. *Templates*: rows of member
templates against rows of templates that a coin held out, "did it leak the pattern?"; the block is
the template.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

Array = np.ndarray[Any, Any]

BOTH, MEMBER_ONLY, TWIN_ONLY = 0, 1, 2
"""Strata of blocks, by whose rows they hold."""


@dataclass(frozen=True)
class Comparison:
    """One source at one level.

    Attributes:
        source: the data set.
        level: `rows` or `templates`.
        other: role of the rows that members are compared with, `twin` or `held-out`. Both are
            called twins below.
        ids: of the rows compared, String.
        member: whether each is a member, bool, shape (rows,).
        block: number of each row's block, int64 in [0, blocks), shape (rows,).
        repetitions: of each row in one epoch, int32, 0 where unknown, shape (rows,).
    """

    source: str
    level: str
    other: str
    ids: pl.Series
    member: Array
    block: Array
    repetitions: Array

    @property
    def members(self) -> int:
        """Member rows compared."""
        return int(self.member.sum())

    @property
    def twins(self) -> int:
        """Twin rows compared."""
        return len(self.member) - self.members

    @property
    def weight(self) -> float:
        """What a twin's win counts, w = members / twins.

        Without memorisation each row is as likely as any other to be a generation's nearest, so the
        wins of the two sides are in expectation as M to T, and member wins - w * twin wins is 0.
        """
        return self.members / self.twins

    @property
    def blocks(self) -> int:
        """Blocks compared."""
        return int(self.block.max(initial=-1)) + 1

    def strata(self) -> Array:
        """Whose rows each block holds: BOTH, MEMBER_ONLY or TWIN_ONLY; int64, shape (blocks,)."""
        members = np.bincount(self.block, self.member, self.blocks)
        rows = np.bincount(self.block, minlength=self.blocks)
        return np.select([members == rows, members == 0], [MEMBER_ONLY, TWIN_ONLY], BOTH)


def comparisons(corpus: pl.DataFrame) -> list[Comparison]:
    """Every comparison that a corpus allows, by source and level.

    At the level of rows a source's twins are compared with its members; where it has none, its
    held-out rows that share a template with members, or have no template, stand in. Member rows of
    templates that the other side lacks are left out, and so is the reverse: nothing says how often
    they would be written anyway. At the level of templates, held-out rows of templates that no
    member has are compared with the members that have a template.

    Args:
        corpus: columns id, source, role, template, pair and repetitions of the corpus's schema.

    Returns:
        Those with rows on both sides, sources in their order of appearance.
    """
    found = []
    for (source,), rows in corpus.group_by("source", maintain_order=True):
        members = rows.filter(pl.col("role") == "member")
        twins = rows.filter(pl.col("role") == "twin")
        held_out = rows.filter(pl.col("role") == "held-out")
        key = pl.coalesce("pair", pl.lit("row:") + pl.col("id"))
        if twins.is_empty():
            twins, key = held_out, pl.col("id")
        found.append(
            _comparison(str(source), "rows", _shared(members, twins), _shared(twins, members), key)
        )
        with_template = members.filter(pl.col("template").is_not_null())
        others = held_out.join(members, on="template", how="anti", maintain_order="left")
        others = others.filter(pl.col("template").is_not_null())
        found.append(
            _comparison(str(source), "templates", with_template, others, pl.col("template"))
        )
    return [comparison for comparison in found if comparison.members and comparison.twins]


def _shared(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Those of the rows whose template the others have too; no template is one of its own."""
    return rows.join(
        others.select("template").unique(), on="template", how="semi", nulls_equal=True
    )


def _comparison(
    source: str, level: str, members: pl.DataFrame, twins: pl.DataFrame, key: pl.Expr
) -> Comparison:
    rows = pl.concat([members, twins])
    keys = rows.select(key.alias("key"))["key"]
    return Comparison(
        source=source,
        level=level,
        other=str(twins["role"].first()) if len(twins) else "",
        ids=rows["id"],
        member=(rows["role"] == "member").to_numpy(),
        block=_numbered(keys),
        repetitions=rows["repetitions"].fill_null(0).to_numpy(),
    )


def _numbered(keys: pl.Series) -> Array:
    """The number of each key in their order of first appearance, int64."""
    return (keys.rank("dense").cast(pl.Int64) - 1).to_numpy()


def restricted(comparison: Comparison, keep: Array) -> tuple[Comparison, Array]:
    """The comparison of some of its rows alone.

    Args:
        comparison: of all.
        keep: which rows, bool, shape (rows,).

    Returns:
        The comparison, its blocks numbered anew, and each old row's new number, int64, -1 for rows
        that are left out.
    """
    _, block = np.unique(comparison.block[keep], return_inverse=True)
    some = replace(
        comparison,
        ids=comparison.ids.filter(pl.Series(keep)),
        member=comparison.member[keep],
        block=block,
        repetitions=comparison.repetitions[keep],
    )
    return some, np.where(keep, np.cumsum(keep) - 1, -1)


def relabelled(comparison: Comparison, seed: int) -> Comparison:
    """The comparison after another toss of the coin: a placebo in which training caused nothing.

    In every pair a coin decides whether member and twin change places; blocks of one side swap
    sides by a random permutation, so that as many blocks as before are on each.

    Args:
        comparison: as it was.
        seed: of the coins.
    """
    stream = np.random.default_rng(seed)
    strata = comparison.strata()
    flip = (stream.random(len(strata)) < 0.5) & (strata == BOTH)
    single = np.flatnonzero(strata != BOTH)
    flip[single] = strata[single] != stream.permutation(strata[single])
    return replace(comparison, member=comparison.member ^ flip[comparison.block])
