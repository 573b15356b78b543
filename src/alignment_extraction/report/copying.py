"""The report's sections on coverage and on kinds of copying: tables, and what they say in words."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from alignment_extraction.extraction.anatomy import KINDS
from alignment_extraction.extraction.coverage import EXTRAPOLATION
from alignment_extraction.extraction.headline import (
    CELL,
    headline_cells,
    headline_part,
    headline_reference,
    pool_seeds,
    readable,
)
from alignment_extraction.extraction.scores import CELL_KEYS
from alignment_extraction.figures.copying import most_extracted_group
from alignment_extraction.figures.style import percent
from alignment_extraction.report import differences
from alignment_extraction.statistics import wilson

Tables = Mapping[str, pl.DataFrame]

TABLES = ("richness", "items", "anatomy", "kinds")
"""What the sections are written from, beside the rates."""

_EXCERPT = 300  # characters of an example


def between(low: float, high: float) -> str:
    """An interval of counts, as `1 to 1,234`."""
    return f"{low:,.0f} to {high:,.0f}"


def section(tables: Tables) -> dict[str, Any]:
    """What the template `copying.html` shows."""
    return {
        "coverage": coverage_sentences(tables),
        "richness": richness_rows(tables),
        "most_hit": most_hit_items(tables),
        "kinds": kind_rows(tables),
        "kind_sentences": kind_sentences(tables),
        "reference": readable(headline_reference(tables["rates"])),
    }


def _of_headline(table: pl.DataFrame, rates: pl.DataFrame) -> pl.DataFrame:
    """Rows of the cells and the part that are shown first, in the order of the cells."""
    cells = headline_cells(pool_seeds(rates)).select(CELL)
    return cells.join(table, on=CELL, maintain_order="left_right").filter(part=headline_part(rates))


def richness_rows(tables: Tables) -> list[dict[str, Any]]:
    """Estimates of the headline cells: hits by embedding, and verbatim ones where there are any."""
    chosen = _of_headline(tables["richness"], tables["rates"]).filter(
        (pl.col("metric") == "embedding") | (pl.col("metric") == "verbatim") & (pl.col("hits") > 0)
    )
    rows = []
    for row in chosen.iter_rows(named=True):
        texts = {
            "distinct": f"{row['distinct']:,} of {row['population']:,}",
            "chao1": f"{row['chao1']:,.0f} ({between(row['chao1_low'], row['chao1_high'])})",
            "predicted": f"{row['predicted']:,.0f} "
            f"({between(row['predicted_low'], row['predicted_high'])})",
            "coverage": "\u2013",
            "check": "\u2013",
        }
        if row["hits"]:
            texts["coverage"] = (
                f"{percent(row['coverage'])} "
                f"({percent(row['coverage_low'])} to {percent(row['coverage_high'])})"
            )
        if row["tenth_n"] is not None and row["hits"]:
            texts["check"] = (
                f"{row['tenth_predicted']:,.0f} ({between(row['tenth_low'], row['tenth_high'])})"
            )
        rows.append({**row, **texts})
    return rows


def coverage_sentences(tables: Tables) -> list[str]:
    """What can be concluded from the richness of the cell with the most generations."""
    group = most_extracted_group(tables)
    if group is None:
        cell = headline_cells(pool_seeds(tables["rates"])).row(0, named=True)
        own = _of_headline(tables["richness"], tables["rates"]).filter(
            *[pl.col(key) == cell[key] for key in CELL], metric="embedding", unit="item"
        )
        most = max(own["predicted_high"].to_list())
        return [
            f"{cell['model']}, prefix {cell['prefix']}, gave away no item (cosine).",
            f"At 95 % confidence, {EXTRAPOLATION} times the generations would give away at most "
            f"{most:,.0f}. How many are extractable in all cannot be told without a single hit.",
        ]
    rows = tables["richness"].filter(
        *[pl.col(key) == value for key, value in group.items()], metric="embedding"
    )
    item, cluster = (rows.filter(unit=unit).row(0, named=True) for unit in ("item", "cluster"))
    sentences = [
        f"In {item['n']:,} generations, {group['model']} (prefix {group['prefix']}) gave away "
        f"{item['distinct']:,} of the {item['population']:,} items of {group['reference']} "
        f"(cosine), which lie in {cluster['distinct']:,} clusters of near-duplicates.",
        f"{EXTRAPOLATION} times as many generations would give away "
        f"{item['predicted']:,.0f} items (95 % interval "
        f"{between(item['predicted_low'], item['predicted_high'])}).",
        f"At least {item['chao1']:,.0f} (95 % interval "
        f"{between(item['chao1_low'], item['chao1_high'])}) are extractable in all: a lower bound, "
        "which says nothing of items with a chance far below one in these generations.",
    ]
    if item["tenth_n"] is not None:
        inside = item["tenth_low"] <= item["distinct"] <= item["tenth_high"]
        sentences.append(
            f"Check: from the first {item['tenth_n']:,} generations alone, "
            f"{item['tenth_predicted']:,.0f} ({between(item['tenth_low'], item['tenth_high'])}) "
            f"were predicted for all {item['n']:,}; {item['distinct']:,} came, "
            f"{'within' if inside else 'outside'} the interval."
        )
    return sentences


def most_hit_items(tables: Tables, most: int = 10) -> list[dict[str, Any]]:
    """The items hit most by embedding in the group that gave away the most.

    Each with its hits, rate with interval, repetitions, characters, cluster_size, and as `example`
    the generation nearest to it.
    """
    group = most_extracted_group(tables)
    if group is None:
        return []
    own = [pl.col(key) == value for key, value in group.items()]
    n = tables["richness"].filter(*own)["n"][0]
    examples = (
        tables["anatomy"]
        .filter(*own, "hit")
        .sort(pl.col("cosine").round(5), "index", descending=[True, False])
        .unique("match_id", keep="first", maintain_order=True)
        .select("generation", id="match_id")
    )
    items = tables["items"].filter(*own, metric="embedding").head(most)
    rows = []
    for row in items.join(examples, on="id", how="left", maintain_order="left").to_dicts():
        interval = wilson(row["hits"], n)
        rate = f"{percent(interval.estimate)} ({percent(interval.low)} to {percent(interval.high)})"
        example = differences.visible((row["generation"] or "")[:_EXCERPT])
        rows.append({**row, "rate": rate, "example": example})
    return rows


def kind_rows(tables: Tables) -> list[dict[str, Any]]:
    """Kinds of copying of the headline cells against the headline reference."""
    reference = headline_reference(tables["rates"])
    rows = []
    for row in (
        _of_headline(tables["kinds"], tables["rates"])
        .filter(pl.col("extracted") > 0, reference=reference)
        .iter_rows(named=True)
    ):
        covered = "\u2013"
        if row["covered"] is not None:
            quartiles = f"{percent(row['covered_low'])} to {percent(row['covered_high'])}"
            covered = f"{percent(row['covered'])} ({quartiles})"
        rows.append(
            {
                **row,
                "share": f"{percent(row['share'])} "
                f"({percent(row['share_low'])} to {percent(row['share_high'])})",
                "rate": f"{percent(row['rate'])} ({percent(row['low'])} to {percent(row['high'])})",
                "covered": covered,
            }
        )
    return rows


def kind_sentences(tables: Tables) -> list[str]:
    """What kind of copying it was, in the headline cell where anything was extracted."""
    reference = headline_reference(tables["rates"])
    kinds = _of_headline(tables["kinds"], tables["rates"]).filter(
        pl.col("extracted") > 0, reference=reference
    )
    if kinds.is_empty():
        return [
            "No generation of these cells was extracted, by embedding or by string, so there is no "
            "copying to take apart."
        ]
    first = {key: kinds[key][0] for key in CELL_KEYS}
    own = {row["kind"]: row for row in kinds.filter(**first).iter_rows(named=True)}
    total = own["verbatim"]["extracted"]
    words = ", ".join(
        f"{percent(own[kind]['share'])} {kind} (95 % interval {percent(own[kind]['share_low'])} to "
        f"{percent(own[kind]['share_high'])})"
        for kind in KINDS
    )
    sentences = [
        f"Of the {total:,} generations of {first['model']}, prefix {first['prefix']}, that were "
        f"extracted (against {readable(reference)}): {words}."
    ]
    templated = own["templated"]
    if templated["hits"]:
        changed = wilson(templated["numbers_changed"], templated["hits"])
        sentences.append(
            f"Of the templated, {percent(float(changed.estimate))} (95 % interval "
            f"{percent(float(changed.low))} to {percent(float(changed.high))}) hold other numbers "
            "than their match: the template was memorised, not the instance."
        )
    return sentences


def with_kinds(matches: pl.DataFrame, anatomy: pl.DataFrame) -> pl.DataFrame:
    """The best matches with their kind, longest common span and its share (null where unknown)."""
    keys = [*CELL_KEYS, "part", "reference", "generation"]
    about = anatomy.select(*keys, "kind", "span", "covered")
    return matches.join(about, on=keys, how="left", maintain_order="left")
