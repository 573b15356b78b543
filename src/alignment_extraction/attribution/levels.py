"""Who is compared with whom: a source's members against what a coin kept from the model.

Two levels, never mixed: member *rows* against twins of the same templates, and rows of member
*templates* against rows of templates that a coin held out. The block is what the coin fell for: the
pair of a member and its twin, or a row that has no partner; the template.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from alignment_extraction.statistics import Array

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
    """Every comparison that a corpus allows, sources in their order in the corpus.

    At the level of rows a source's twins are compared with its members; where it has none, its
    held-out rows that share a template with members, or have no template, stand in. Member rows of
    templates that the other side lacks are left out, and so is the reverse: nothing says how often
    they would be written anyway. At the level of templates, held-out rows of templates that no
    member has are compared with the members that have a template.
    """
    found = []
    for (source,), rows in corpus.group_by("source", maintain_order=True):
        members, twins, held_out = (
            rows.filter(role=role) for role in ("member", "twin", "held-out")
        )
        key = pl.coalesce("pair", pl.lit("row:") + pl.col("id"))
        if twins.is_empty():
            twins, key = held_out, pl.col("id")
        ours, theirs = (
            side.join(other, on="template", how="semi", nulls_equal=True)
            for side, other in ((members, twins), (twins, members))
        )
        others = held_out.join(members, on="template", how="anti", maintain_order="left")
        patterns = (members.drop_nulls("template"), others.drop_nulls("template"))
        for level, sides, block in (
            ("rows", (ours, theirs), key),
            ("templates", patterns, pl.col("template")),
        ):
            if all(side.height for side in sides):
                own = pl.concat(sides).with_columns(block=block.rank("dense").cast(pl.Int64) - 1)
                comparison = Comparison(
                    source=str(source),
                    level=level,
                    other=sides[1]["role"][0],
                    ids=own["id"],
                    member=(own["role"] == "member").to_numpy(),
                    block=own["block"].to_numpy(),
                    repetitions=own["repetitions"].fill_null(0).to_numpy(),
                )
                found.append(comparison)
    return found


def compared_rows(corpus: pl.DataFrame) -> pl.DataFrame:
    """All rows compared at the level of rows: columns id and member (Boolean)."""
    parts = (
        pl.DataFrame({"id": comparison.ids, "member": comparison.member})
        for comparison in comparisons(corpus)
        if comparison.level == "rows"
    )
    return pl.concat([pl.DataFrame(schema={"id": pl.String, "member": pl.Boolean}), *parts])
