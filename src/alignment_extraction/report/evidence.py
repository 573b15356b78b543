"""What the report says beside the rates: controls, conditions, search, embedders, contamination."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from alignment_extraction.extraction.controls import COINCIDENCE
from alignment_extraction.extraction.headline import (
    control_name,
    headline_part,
    headline_reference,
    precision_order,
    readable,
)
from alignment_extraction.figures.style import METRIC_LABELS
from alignment_extraction.figures.style import percent as share
from alignment_extraction.settings.studies import IndexSettings

Tables = Mapping[str, pl.DataFrame]

CARD_LABELS = {
    "embedding": "approximate memorisation (cosine)",
    "levenshtein": "string memorisation (Levenshtein)",
    "verbatim": "verbatim memorisation",
}


def points(value: float) -> str:
    """A difference of rates in percentage points, with its sign."""
    return f"{float(f'{100 * value:.3g}'):+g} points"


def interval(row: Mapping[str, Any], name: str, low: str, high: str) -> str:
    """A share with its 95 % interval; a dash where it is not known."""
    if row[name] is None:
        return "\u2013"
    return f"{share(row[name])} ({share(row[low])} to {share(row[high])})"


def control_cards(tables: Tables) -> list[dict[str, str]]:
    """The headline: of each metric the highest rate of a most sampled cell, less its control's.

    Empty where the study has no control that measures coincidence.
    """
    if "controls" not in tables:
        return []
    table = tables["controls"].filter("strongest")
    cards = []
    for metric, label in CARD_LABELS.items():
        rows = table.filter(metric=metric).sort("rate", descending=True, maintain_order=True)
        if rows.is_empty():
            continue
        row = rows.row(0, named=True)
        cards.append(
            {
                "label": f"{label}, above the strongest control",
                "value": points(row["difference"]),
                "sentence": f"95 % interval {points(row['difference_low'])} to "
                f"{points(row['difference_high'])}. {row['model']}, prefix {row['prefix']}, "
                f"against {readable(row['reference'])}: "
                f"{row['hits']:,} of {row['n']:,} generations, "
                f"{interval(row, 'rate', 'low', 'high')}; {control_name(row)}: "
                f"{_of(row['control_hits'], row['control_n'])}, "
                f"{interval(row, 'control_rate', 'control_low', 'control_high')}.",
            }
        )
    return cards


def _of(hits: int | None, n: int) -> str:
    """So many of n; of n alone where they were weighted."""
    return f"{n:,}" if hits is None else f"{hits:,} of {n:,}"


def control_rows(tables: Tables) -> list[dict[str, Any]]:
    """Rows of the table of controls, as text."""
    return [
        {
            **row,
            "metric": METRIC_LABELS[row["metric"]],
            "control": control_name(row),
            "chance": row["kind"] in COINCIDENCE,
            "target": interval(row, "rate", "low", "high"),
            "against": interval(row, "control_rate", "control_low", "control_high"),
            "change": f"{points(row['difference'])} ({points(row['difference_low'])} to "
            f"{points(row['difference_high'])})",
        }
        for row in tables.get("controls", pl.DataFrame()).iter_rows(named=True)
    ]


def control_words(tables: Tables) -> list[str]:
    """What can be concluded from the controls, and what not."""
    table = tables.get("controls", pl.DataFrame())
    chance = table.filter(pl.col("kind").is_in(COINCIDENCE)) if table.height else table
    if chance.is_empty():
        return [
            "The study has no control: no model that never saw the corpus, no unrelated corpus and "
            "no held-out rows. Nothing tells its rates from coincidence."
        ]
    words = []
    for row in chance.filter("strongest", metric="embedding").iter_rows(named=True):
        verdict = "its generations are nearer to the corpus than coincidence brings them."
        if row["difference_low"] <= 0:
            verdict = "coincidence explains its rate as well."
        words.append(
            f"{row['model']}, prefix {row['prefix']} (cosine): the strongest control is the "
            f"{control_name(row)}, and the difference {points(row['difference'])} (95 % interval "
            f"{points(row['difference_low'])} to {points(row['difference_high'])}): {verdict}"
        )
    missing = [kind for kind in COINCIDENCE if kind not in set(chance["kind"])]
    names = {"model": "model that never saw the corpus", "corpus": "unrelated corpus"}
    words += [
        f"There is no {names.get(kind, kind)} among the controls of this study." for kind in missing
    ]
    return words


def condition_rows(tables: Tables) -> list[dict[str, Any]]:
    """Rows of the table of quantisations and temperatures: the headline's part and reference."""
    if "conditions" not in tables:
        return []
    rates = tables["rates"]
    table = tables["conditions"].filter(
        part=headline_part(rates), reference=headline_reference(rates)
    )
    order = sorted(table["quantisation"].drop_nulls().unique(), key=precision_order)
    places = {kind: place for place, kind in enumerate(order)}
    wide: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in table.iter_rows(named=True):
        key = tuple(row[k] for k in ("model", "prefix", "seed"))
        entry = wide.setdefault(key, {**row, "place": places.get(row["quantisation"], 0)})
        text = interval(row, "rate", "low", "high")
        if (
            row["difference"] is not None
            and not row["difference_low"] <= 0 <= row["difference_high"]
        ):
            text += " *"
        entry[row["metric"]] = text
    return sorted(
        wide.values(),
        key=lambda row: (
            *(row[name] for name in ("family", "first_prefix", "seed", "place")),
            row["temperature"] or 0,
        ),
    )


def audit_rows(tables: Tables) -> list[dict[str, Any]]:
    """Rows of the search audit, with their speed."""
    if "search_audit" not in tables:
        return []
    joined = tables["search_audit"].join(
        tables["search_speed"].drop("queries"),
        on=["trees", "search_k"],
        how="left",
        maintain_order="left",
    )
    return [
        {
            **row,
            "recall_1": interval(row, "recall_at_1", "recall_at_1_low", "recall_at_1_high"),
            "recall_10": interval(row, "recall_at_10", "recall_at_10_low", "recall_at_10_high"),
            "own_rate": interval(row, "rate", "rate_low", "rate_high"),
            "lost": interval(row, "missed", "missed_low", "missed_high"),
        }
        for row in joined.iter_rows(named=True)
    ]


def audit_words(tables: Tables, index: IndexSettings) -> list[str]:
    """What the audit says of exact search and of the study's own setting."""
    if index.exact:
        return []
    if "search_audit" not in tables:
        return ["The search was not compared with exact search (`search_audit` in params.yaml)."]
    table, speed = tables["search_audit"], tables["search_speed"]
    exact = speed.filter(pl.col("trees").is_null()).row(0, named=True)
    first = table.row(0, named=True)
    words = [
        f"{first['queries']:,} generations were searched in {first['rows']:,} rows, exactly and by "
        f"Annoy. Exact search answers {exact['queries_per_second']:,.0f} queries a second "
        f"({exact['slowest']:,.0f} to {exact['fastest']:,.0f} in three passes), and extracts "
        f"{interval(first, 'exact_rate', 'exact_rate_low', 'exact_rate_high')}."
    ]
    trees, search_k = index.trees, index.search_k
    own = table.filter(trees=trees, search_k=search_k)
    if own.height:
        row = own.row(0, named=True)
        words.append(
            f"The study's own setting, {trees} trees and search_k {search_k}, finds the nearest "
            f"row of {interval(row, 'recall_at_1', 'recall_at_1_low', 'recall_at_1_high')} of "
            f"them, and misses {interval(row, 'missed', 'missed_low', 'missed_high')} of all "
            "generations because exact search extracts them and Annoy does not."
        )
    else:
        words.append(
            f"The study's own setting, {trees} trees and search_k {search_k}, is not among those "
            "compared."
        )
    return words


def embedder_rows(tables: Tables) -> list[dict[str, Any]]:
    """One row for each cell and operating point: both embedders and their agreement, as text."""
    if "embedders" not in tables:
        return []
    rows = []
    names = tables["embedders"]["embedder"].unique(maintain_order=True).to_list()
    keys = ["model", "prefix", "seed", "false_positive_rate"]
    for row in tables["embedder_agreement"].iter_rows(named=True):
        sides = []
        for name in names:
            own = tables["embedders"].filter(
                *[pl.col(key).eq_missing(pl.lit(row[key])) for key in keys], embedder=name
            )
            side = own.row(0, named=True)
            reached = side["threshold"] is not None
            sides.append(
                {
                    "name": name,
                    "threshold": f"{side['threshold']:.4f}" if reached else "out of reach",
                    "rate": interval(side, "rate", "low", "high"),
                }
            )
        rows.append(
            {
                **row,
                "sides": sides,
                "agreement": interval(row, "agree", "agree_low", "agree_high"),
                "kappa_text": _number(row, "kappa"),
                "correlation_text": _number(row, "correlation"),
            }
        )
    return rows


def _number(row: Mapping[str, Any], name: str) -> str:
    if row[name] is None:
        return "\u2013"
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"


def contamination_rows(tables: Tables) -> list[dict[str, Any]]:
    """Rates with and without tagged items of the most sampled cells, against the headline."""
    if "contamination_rates" not in tables:
        return []
    rates = tables["rates"]
    table = tables["contamination_rates"].filter(
        part=headline_part(rates), reference=headline_reference(rates)
    )
    table = table.filter(pl.col("n") == pl.col("n").max())
    wide: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in table.iter_rows(named=True):
        key = tuple(row[k] for k in ("model", "prefix", "seed", "metric"))
        entry = wide.setdefault(key, {**row, "metric": METRIC_LABELS[row["metric"]]})
        entry[row["rows"]] = interval(row, "rate", "low", "high")
    return list(wide.values())


def contamination_counts(tables: Tables) -> list[dict[str, Any]]:
    """Of each group how many items were tagged, by which test."""
    if "contamination" not in tables:
        return []
    counts = (
        tables["contamination"]
        .group_by("group", maintain_order=True)
        .agg(
            pl.len().alias("items"),
            pl.col("by_ngram").sum(),
            pl.col("by_embedding").sum(),
            pl.col("tagged").sum(),
        )
    )
    return counts.to_dicts()


def section(tables: Tables, index: IndexSettings) -> dict[str, Any]:
    """What `templates/evidence.html` shows, for any study.

    Args:
        tables: the study's.
        index: how the study itself searches.
    """
    return {
        "controls": control_rows(tables),
        "control_words": control_words(tables),
        "conditions": condition_rows(tables),
        "audit": audit_rows(tables),
        "audit_words": audit_words(tables, index),
        "embedders": embedder_rows(tables),
        "contamination": contamination_rows(tables),
        "contamination_counts": contamination_counts(tables),
    }
