"""Scores: every generation of a condition beside the rows that it is nearest to, group by group."""

from collections.abc import Sequence

import polars as pl

from alignment_extraction.corpora.texts import texts_of
from alignment_extraction.files import InputError
from alignment_extraction.vocabulary import MATCHES, SCORES, Condition


def score(
    condition: Condition, generations: pl.DataFrame, matches: pl.DataFrame, fields: Sequence[str]
) -> pl.DataFrame:
    """Join the generations of one condition with the matches of their texts.

    Args:
        condition: model, prefix and seed, put into columns.
        generations: columns index, question, answer.
        matches: `vocabulary.MATCHES`, of these texts and maybe others.
        fields: the fields that were matched.

    Returns:
        `vocabulary.SCORES`, in the order of field, group and index. A generation that lacks a field
        has no row for it; one whose text is empty has rows without scores, since it was drawn and
        copies nothing.

    Raises:
        InputError: the matches are not of these generations.
    """
    frames = [pl.DataFrame(schema=SCORES)]
    for field in fields:
        of_field = matches.filter(field=field)
        groups = of_field.select("group").unique().sort("group")
        texts = generations.select("index", text=texts_of(generations, field)).drop_nulls("text")
        scored = texts.join(groups, how="cross").join(
            of_field, on=["text", "group"], how="left", maintain_order="left"
        )
        unmatched = scored.filter(pl.col("match_id").is_null(), pl.col("text") != "")
        if len(unmatched):
            raise InputError(
                f"the matches of {condition.model} lack generation {unmatched['index'][0]} "
                f"({field}) against {unmatched['group'][0]}: they are of other generations or of "
                "another corpus; run the matching step again"
            )
        # A source's name may have dots; a role has none.
        group = pl.col("group").str.extract_groups(r"^(?<source>.*)\.(?<role>[^.]*)$")
        frames.append(
            scored.sort("group", "index", maintain_order=True).select(
                pl.lit(condition.model).alias("model"),
                pl.lit(condition.prefix).alias("prefix"),
                pl.lit(condition.seed, pl.Int64).alias("seed"),
                "index",
                pl.lit(field).alias("field"),
                group.struct.unnest(),
                *[name for name in MATCHES if name not in ("text", "field", "group")],
                (pl.col("levenshtein_best") == 1).fill_null(False).alias("verbatim"),
                pl.col("text").str.len_chars().cast(pl.Int64).alias("characters"),
            )
        )
    return pl.concat(frames)
