"""The results of a study: everything that is computed from scores, as files of one folder."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from alignment_extraction.corpora.clusters import clusters
from alignment_extraction.extraction import anatomy, coverage, richness, scores, traits
from alignment_extraction.extraction.calibration_tables import (
    TABLE_COLUMNS,
    calibration_tables,
    headline_numbers,
)
from alignment_extraction.files import read_json, read_parquet, write_json, write_parquet
from alignment_extraction.likelihoods import discoverable, likelihood, membership
from alignment_extraction.settings.config import Cell, ThresholdSettings
from alignment_extraction.statistics import named_seed

TABLES = (
    *("rates", "ratios", "sweep", "items", "verbatim", "coverage", "repetitions", "matches"),
    *("clusters", "richness", "traits", "anatomy", "kinds"),
)
"""Parquet files that `evaluate` leaves in a study's folder, beside metrics.json."""

LIKELIHOOD_TABLES = (
    "likelihood",
    "shifts",
    "likelihood_counts",
    "likelihood_token_counts",
    "membership",
)
"""Parquet files that `compare_likelihoods` leaves there, in a study that asks for it."""

CALIBRATION_TABLES = tuple(TABLE_COLUMNS)
"""Parquet files that `calibrate` leaves there; without held-out rows some have no rows."""

DISCOVERABLE_TABLES = (
    "discoverable",
    "discoverable_calibration",
    "discoverable_cells",
    "discoverable_items",
)
"""Parquet files that `discover` leaves there, in the same studies."""

LIKELIHOOD_THRESHOLDS = tuple(
    float(-value) for value in (160, 120, 80, 60, 40, 30, 20, 15, 10, 5, 2)
)
"""Log-likelihoods of whole texts, in nats, above which texts are counted."""

TOKEN_LIKELIHOOD_THRESHOLDS = tuple(
    math.log(probability) for probability in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
)
"""Mean log-likelihoods of a token, in nats, likewise: of geometric mean probabilities."""


class CellFiles(NamedTuple):
    """The files of one model x prefix x seed."""

    parts: tuple[str, ...]
    generations: tuple[Path, ...]
    matches: Path
    audit: Path

    def read_generations(self) -> pl.DataFrame:
        """All shards of the cell as one frame: index, question, answer."""
        columns = ["index", "question", "answer"]
        return pl.concat([read_parquet(path).select(columns) for path in self.generations])


def score(cells: Mapping[Cell, CellFiles], corpus: pl.DataFrame) -> pl.DataFrame:
    """The scores of all cells of a study: see `scores.score_cell`. No threshold enters."""
    return pl.concat(
        [
            scores.score_cell(
                cell, files.read_generations(), read_parquet(files.matches), corpus, files.parts
            )
            for cell, files in cells.items()
        ]
    )


def search_audit(cells: Mapping[Cell, CellFiles]) -> dict[str, float]:
    """Annoy's recall@1 over all audited queries of a study, and their number."""
    audited = [entry for files in cells.values() for entry in read_json(files.audit).values()]
    queries = sum(entry["queries"] for entry in audited)
    if not queries:
        return {"queries": 0}
    found = sum(entry["queries"] * entry["recall_at_1"] for entry in audited)
    return {"queries": int(queries), "recall_at_1": found / queries}


def evaluate(
    *,
    scored: pl.DataFrame,
    cells: Mapping[Cell, CellFiles],
    corpus: pl.DataFrame,
    about: Mapping[str, Any],
    thresholds: ThresholdSettings,
    folder: Path,
    shifts: pl.DataFrame | None = None,
    calibration: Mapping[str, pl.DataFrame] | None = None,
    members: pl.DataFrame | None = None,
    discovered: pl.DataFrame | None = None,
) -> None:
    """Turn the scores of a study into its `TABLES` and metrics.json.

    Args:
        scored: from `score`.
        cells: files of each cell; only the generations are read, for the best matches.
        corpus: what they were matched with.
        about: counts of the corpus and the search audit, passed on to metrics.json.
        thresholds: from which score on a generation counts as extracted.
        folder: where the files go.
        calibration: the `CALIBRATION_TABLES`, whose numbers join metrics.json.
        shifts, members: `shifts` and `membership` of `compare_likelihoods`, and
        discovered: `discoverable` of `discover`, whose numbers join metrics.json.
    """
    rate_table = scores.rates(scored, thresholds)
    ratio_table = scores.ratios(rate_table)
    parts = scored["part"].unique(maintain_order=True).to_list()
    cluster_table = clusters(corpus, parts)
    items = coverage.item_hits(scored, cluster_table, thresholds)
    generations = {cell: files.read_generations() for cell, files in cells.items()}
    richness_table = richness.richness(scored, items, cluster_table, thresholds, rate_table)
    anatomy_table = anatomy.anatomy(scored, generations, corpus, thresholds)
    kinds = anatomy.kinds(anatomy_table, rate_table, corpus)
    tables = {
        "rates": rate_table,
        "ratios": ratio_table,
        "sweep": scores.sweep(scored, thresholds.sweep),
        "items": items,
        "verbatim": coverage.verbatim_items(items, corpus),
        "coverage": coverage.coverage(
            coverage.unit_hits(items), rate_table, coverage.populations(cluster_table)
        ),
        "repetitions": coverage.by_repetition(items, rate_table, corpus),
        "matches": scores.top_matches(scored, generations, corpus),
        "clusters": cluster_table,
        "richness": richness_table,
        "traits": traits.by_trait(items, rate_table, cluster_table),
        "anatomy": anatomy_table,
        "kinds": kinds,
    }
    for name in TABLES:
        write_parquet(tables[name], folder / f"{name}.parquet")
    metrics = {
        **about,
        "rates": summary(rate_table, ratio_table),
        "richness": richness_summary(richness_table),
        "kinds": kinds_summary(kinds),
    }
    if shifts is not None:
        metrics["likelihood"] = likelihood_summary(shifts)
    if calibration is not None:
        metrics["calibration"] = calibration_summary(calibration)
    if members is not None:
        metrics["membership"] = membership_summary(members)
    if discovered is not None:
        metrics["discoverable"] = discoverable_summary(discovered)
    write_json(metrics, folder / "metrics.json")


def calibrate(
    *,
    scored: pl.DataFrame,
    held_out: pl.DataFrame,
    corpus: pl.DataFrame,
    thresholds: ThresholdSettings,
    seed: int,
    folder: Path,
) -> None:
    """Turn scores and the held-out rows' matches into a study's `CALIBRATION_TABLES`.

    Args:
        scored: from `score`.
        held_out: from `matching.match_held_out`.
        corpus: what both were matched with.
        thresholds: the fixed ones, beside which calibrated ones are reported.
        seed: of the bootstrap.
        folder: where the files go.
    """
    tables = calibration_tables(scored, held_out, corpus, thresholds, seed)
    for name, table in tables.items():
        write_parquet(table, folder / f"{name}.parquet")


def calibration_summary(tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """`headline_numbers` as nested dictionaries, keyed as `summary` keys the rates."""
    metrics: dict[str, Any] = {}
    table = headline_numbers(tables)
    names = [name for name in table.columns if name not in (*scores.KEYS, "metric")]
    for row in table.iter_rows(named=True):
        keys = (row["model"], row["prefix"], f"seed-{row['seed']}")
        _put(metrics, (*keys, row["part"], row["reference"], row["metric"]), row, names)
    return metrics


def compare_likelihoods(files: Mapping[tuple[str, str], Path], seed: int, folder: Path) -> None:
    """Turn the likelihoods of a study's pairs of models into its `LIKELIHOOD_TABLES`.

    Args:
        files: (model before, model after) -> output of `likelihood.compare`.
        seed: of the bootstrap.
        folder: where the files go; each table has the columns pair_before and pair_after. They are
            `likelihood` (all that was compared), `shifts` (see `likelihood.shifts`), and, above
            thresholds on whole texts and on the mean of their tokens, `likelihood_counts` and
            `likelihood_token_counts` (see `likelihood.counts_above`), and `membership` (see
            `membership.membership`).
    """
    tables: dict[str, list[pl.DataFrame]] = {name: [] for name in LIKELIHOOD_TABLES}
    for (before, after), path in files.items():
        frame = read_parquet(path)
        made = (
            frame,
            likelihood.shifts(frame, named_seed(seed, f"likelihood/{before}/{after}")),
            likelihood.counts_above(frame, LIKELIHOOD_THRESHOLDS),
            likelihood.counts_above(frame, TOKEN_LIKELIHOOD_THRESHOLDS, per_token=True),
            membership.membership(frame, named_seed(seed, f"membership/{before}/{after}")),
        )
        for name, table in zip(LIKELIHOOD_TABLES, made, strict=True):
            pair = (pl.lit(before).alias("pair_before"), pl.lit(after).alias("pair_after"))
            tables[name].append(table.select(*pair, pl.all()))
    for name, parts in tables.items():
        write_parquet(pl.concat(parts), folder / f"{name}.parquet")


def discover(
    *,
    likelihoods: pl.DataFrame,
    scored: pl.DataFrame,
    cells: Mapping[Cell, CellFiles],
    corpus: pl.DataFrame,
    folder: Path,
) -> None:
    """Hold a study's verbatim hits against its likelihoods: its `DISCOVERABLE_TABLES`.

    Args:
        likelihoods: the table `likelihood` of `compare_likelihoods`.
        scored: from `score`.
        cells: files of each cell; only the metadata of the generations is read.
        corpus: what they were matched with.
        folder: where the files go; see `discoverable.predict`.
    """
    sampled = discoverable.sampled_cells({c: files.generations[0] for c, files in cells.items()})
    tables = discoverable.predict(likelihoods, scored, sampled, corpus)
    for name in DISCOVERABLE_TABLES:
        write_parquet(tables[name], folder / f"{name}.parquet")


def likelihood_summary(shifts: pl.DataFrame) -> dict[str, Any]:
    """Mean shifts as nested dictionaries: pair > target > with(out)-template > group > number."""
    names = ["n", "before", "after", "shift", "shift_low", "shift_high"]
    names += ["excess", "excess_low", "excess_high"]
    metrics: dict[str, Any] = {}
    for row in shifts.iter_rows(named=True):
        template = "with-template" if row["template"] else "without-template"
        pair = f"{row['pair_before']}_{row['pair_after']}"
        _put(metrics, (pair, row["target"], template, row["group"]), row, names)
    return metrics


def membership_summary(table: pl.DataFrame) -> dict[str, Any]:
    """Attacks as nested dictionaries.

    Keys: pair > target > with(out)-template > group > control > side > attack > number.
    """
    names = ["members", "held_out", "auc", "auc_low", "auc_high", "tpr", "tpr_low", "tpr_high"]
    metrics: dict[str, Any] = {}
    for row in table.iter_rows(named=True):
        template = "with-template" if row["template"] else "without-template"
        pair = f"{row['pair_before']}_{row['pair_after']}"
        keys = (pair, row["target"], template, row["group"], row["control"])
        _put(metrics, (*keys, row["side"], row["attack"]), row, names)
    return metrics


def discoverable_summary(table: pl.DataFrame) -> dict[str, Any]:
    """Predictions for the samples drawn, and for the most: model > prefix > seed-N > group > n."""
    cell = [*scores.CELL_KEYS, "reference"]
    names = table.columns[len(cell) :]
    most = pl.col("samples") == pl.col("samples").max().over(cell)
    metrics: dict[str, Any] = {}
    for row in table.filter((pl.col("samples") == pl.col("drawn")) | most).iter_rows(named=True):
        keys = (row["model"], row["prefix"], f"seed-{row['seed']}", row["reference"])
        _put(metrics, (*keys, f"n-{row['samples']}"), row, names)
    return metrics


def summary(rate_table: pl.DataFrame, ratio_table: pl.DataFrame) -> dict[str, Any]:
    """Rates as nested dictionaries: model > prefix > seed-N > part > reference > metric > number.

    `embedding_ratio` is how many times more the embedding found than a string metric.
    """
    metrics: dict[str, Any] = {}
    names = ["n", "hits", "rate", "low", "high", "mean_score", "embedding_ratio"]
    ratios = ratio_table.select(*scores.KEYS, "metric", embedding_ratio="ratio")
    table = rate_table.join(ratios, on=[*scores.KEYS, "metric"], how="left", maintain_order="left")
    for row in table.iter_rows(named=True):
        keys = (row["model"], row["prefix"], f"seed-{row['seed']}")
        _put(metrics, (*keys, row["part"], row["reference"], row["metric"]), row, names)
    return metrics


def richness_summary(table: pl.DataFrame) -> dict[str, Any]:
    """Richness as nested dictionaries: cell > part > group > metric > unit > number.

    Of the metrics the embedding and verbatim, in groups of which something was extracted.
    """
    chosen = table.filter(pl.col("metric").is_in(["embedding", "verbatim"]), pl.col("hits") > 0)
    return _nested(chosen, [*scores.KEYS, "metric", "unit"])


def kinds_summary(table: pl.DataFrame) -> dict[str, Any]:
    """Kinds of copying as nested dictionaries: cell > part > reference > kind > number."""
    return _nested(table, [*scores.KEYS, "kind"])


def _nested(table: pl.DataFrame, keys: Sequence[str]) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    names = [name for name in table.columns if name not in keys]
    for row in table.iter_rows(named=True):
        path = [f"seed-{row[key]}" if key == "seed" else row[key] for key in keys]
        _put(metrics, path, row, names)
    return metrics


def _put(
    metrics: dict[str, Any], keys: Sequence[str], row: Mapping[str, Any], names: Sequence[str]
) -> None:
    """Add numbers of `row`: finite ones, since JSON has no others, to six digits."""
    for key in keys:
        metrics = metrics.setdefault(key, {})
    for name in names:
        value = row[name]
        if value is not None and math.isfinite(value):
            metrics[name] = value if isinstance(value, int) else float(f"{value:.6g}")
