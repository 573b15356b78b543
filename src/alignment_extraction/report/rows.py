"""The rows as the page holds them: small enough for a page, and without texts where masked."""

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import polars as pl
import polars.selectors as cs

from alignment_extraction.attribution.risk import AT_RISK
from alignment_extraction.report import wording
from alignment_extraction.report.tables import SCHEMAS

MOST_ROWS = 100_000
"""Rows that a page shows; those most at risk first. rows.parquet has all."""
PAGE_BYTES = 2_100_000
"""Room for the rows in a page of 4 MB, as compressed base64."""
TEXTS = ("question", "answer", "best_generation")
"""Columns with texts of the corpus or of a model."""
_HIDDEN = ("template", "trained", *TEXTS)
_SHOWN = [name for name in SCHEMAS["rows"] if name not in _HIDDEN and name[:6] != "chance"]


class PageRows(NamedTuple):
    """What the page's table is made from."""

    data: str  # gzipped JSON as base64
    shown: int  # rows in it
    texts: int  # of those, the ones with their texts


def ranked(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows by risk, the riskiest first, with `seen`: what happened to the row, in words."""
    seen = (
        pl.when(pl.col("verbatim_hits") > 0).then(pl.lit("written verbatim"))
        .when(pl.col("near_hits") > 0).then(pl.lit("written nearly"))
        .when(pl.col("chance_1e6") >= AT_RISK).then(pl.lit("at risk, not seen"))
        .otherwise(pl.lit("neither"))
    )  # fmt: skip
    order = ["trained", "log_probability", "verbatim_hits", "near_hits"]
    return rows.with_columns(seen=seen).sort(
        *order, "id", descending=[True] * len(order) + [False], nulls_last=True
    )


def worst(rows: pl.DataFrame, model: str, number: int) -> list[tuple[str, ...]]:
    """The rows of a model most at risk, as text: id, chance, times trained, seen, question."""
    own = ranked(rows.filter("trained", model=model)).head(number)
    columns = own.select(
        "id", "chance_1e6", "repetitions", "seen", pl.col("question").fill_null("")
    )
    return [
        (id_, wording.percent(chance), wording.count(times), *texts)
        for id_, chance, times, *texts in columns.iter_rows()
    ]


def leaked(rows: pl.DataFrame) -> pl.DataFrame:
    """Training rows that were written, or are likely to be in a million samples; one a row."""
    out = (pl.col("verbatim_hits") > 0) | (pl.col("chance_1e6") >= AT_RISK)
    return rows.filter(pl.col("trained") & out).unique("id", maintain_order=True)


def mask(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows without any text: the first 16 hex digits of their SHA-256 stand for texts.

    The same text has the same hash, so that someone who has the data can find a row again.
    """

    def hashed(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    return rows.with_columns(pl.col("template", *TEXTS).map_elements(hashed, pl.String))


def page_data(rows: pl.DataFrame, models: Sequence[str]) -> PageRows:
    """The rows of models for the page, from the whole table `rows`.

    Chances are left out: the page works them out from the log-probabilities. Texts of the least
    likely rows are left out where they would make the page larger than it may be.
    """
    table = ranked(rows.filter(pl.col("model").is_in(list(models)))).head(MOST_ROWS)
    table = table.select(
        cs.string().fill_null("").map_elements(wording.visible, pl.String),
        cs.float().round_sig_figs(6).fill_nan(None),
        cs.integer(),
        cs.boolean().cast(pl.Int8),
    )
    data, kept = table.select("seen", *_SHOWN).to_dict(as_series=False), table.height
    while True:
        data |= table.select(TEXTS).head(kept).to_dict(as_series=False)
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        packed = base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
        if len(packed) <= PAGE_BYTES or kept == 0:
            return PageRows(packed, table.height, kept)
        kept = int(kept * min(0.9, PAGE_BYTES / len(packed)))
        kept = 0 if kept < 50 else kept
