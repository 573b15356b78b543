"""The report's browser of matches: its data, and the cards that are there without the script.

The page holds the matches as JSON in a data block: one list for each column, and each corpus text
once, however many generations it matches. The script draws the rows in view alone.
"""

import json
from typing import Any

import polars as pl
from markupsafe import Markup

from alignment_extraction.report import differences

CARDS = 12
"""Matches that stand on the page itself, for readers without the script."""
BELOW = "below the thresholds"
"""The kind of a match that no metric counts as extracted."""
SCORES = ("cosine", "levenshtein", "indel")
_NAMES = ("model", "prefix", "part", "kind", "source", "match_id")
_NUMBERS = ("seed", "index", "occurrences", "span")
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def section(matches: pl.DataFrame) -> dict[str, Any]:
    """What the template `matches.html` shows.

    Args:
        matches: `scores.top_matches` with kind, span and covered (see `copying.with_kinds`).

    Returns:
        matches: the first `CARDS` with their differences; match_count; match_data: JSON for a
        script element; choices: the values of each filter by its name.
    """
    shown = matches.with_columns(kind=pl.col("kind").fill_null(BELOW))
    return {
        "matches": cards(shown.head(CARDS)),
        "match_count": matches.height,
        "match_data": Markup(embedded(data(shown))),
        "choices": {
            name: shown[name].unique(maintain_order=True).to_list()
            for name in ("model", "prefix", "part", "kind", "source")
        },
    }


def cards(matches: pl.DataFrame) -> list[dict[str, Any]]:
    """Matches with their word-level differences, texts fit to be shown."""
    rows = []
    for row in matches.iter_rows(named=True):
        ours, theirs = differences.compare(row["generation"], row["match"])
        texts = {name: differences.visible(row[name]) for name in ("source", "match_id")}
        rows.append({**row, **texts, "ours": ours, "theirs": theirs})
    return rows


def data(matches: pl.DataFrame) -> dict[str, Any]:
    """The matches as columns for the script.

    Returns:
        Of model, prefix, part, kind, source, match_id and match (the text) a dictionary each with
        `values`, the distinct ones, and `codes`, one a match; of the others one list each, scores
        and `covered` with four decimals. Characters that cannot be seen are spelt out.
    """
    columns: dict[str, Any] = {name: _coded(matches[name]) for name in (*_NAMES, "match")}
    for name in (*SCORES, "covered"):
        columns[name] = matches[name].cast(pl.Float64).round(4).to_list()
    for name in _NUMBERS:
        columns[name] = matches[name].to_list()
    columns["generation"] = [differences.visible(text) for text in matches["generation"]]
    return columns


def _coded(texts: pl.Series) -> dict[str, list[Any]]:
    values = texts.unique(maintain_order=True)
    codes = texts.replace_strict(values, pl.int_range(len(values), eager=True))
    return {"values": [differences.visible(text) for text in values], "codes": codes.to_list()}


def embedded(values: Any) -> str:
    """JSON that no HTML parser takes for markup, whatever its texts hold."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode().translate(_ESCAPES)
