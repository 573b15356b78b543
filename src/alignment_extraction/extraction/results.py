"""The results of a study: everything that is computed from scores, as files of one folder."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from alignment_extraction.corpora.clusters import clusters
from alignment_extraction.distillation.results import DISTILLATION_TABLES
from alignment_extraction.extraction import (
    anatomy,
    conditions,
    coverage,
    metrics,
    richness,
    scores,
    traits,
)
from alignment_extraction.extraction.calibration_tables import (
    TABLE_COLUMNS,
    calibration_tables,
)
from alignment_extraction.files import read_json, read_parquet, write_json, write_parquet
from alignment_extraction.likelihoods import discoverable, likelihood, membership
from alignment_extraction.settings.studies import Cell, StudySettings, ThresholdSettings
from alignment_extraction.statistics import named_seed

TABLES = (
    *("rates", "ratios", "sweep", "items", "verbatim", "coverage", "repetitions", "matches"),
    *("clusters", "richness", "traits", "anatomy", "kinds", "conditions"),
)
"""Parquet files that `evaluate` leaves in a study's folder, beside two of JSON."""

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


def table_names(study: StudySettings, *, distilled: bool) -> list[str]:
    """The Parquet files that a study's results consist of, beside scores.parquet.

    Others in its folder are left from other settings, or are steps on the way.

    Args:
        study: its settings.
        distilled: whether its students' tables belong to them.
    """
    names = [*TABLES, *CALIBRATION_TABLES, "controls"]
    if study.likelihood:
        names += [*LIKELIHOOD_TABLES, *DISCOVERABLE_TABLES]
    if study.audits_search:
        names += ["search_audit", "search_speed"]
    if study.contamination:
        names += ["contamination", "contamination_rates"]
    if study.second_embedder:
        names += ["embedders", "embedder_agreement"]
    return [*names, *DISTILLATION_TABLES] if distilled else names


def made_tables(study: StudySettings, folder: Path) -> list[Path]:
    """Those of `table_names` and scores.parquet in a study's folder, students' where complete."""
    students = [folder / f"{name}.parquet" for name in DISTILLATION_TABLES]
    distilled = study.distillation is not None and all(path.exists() for path in students)
    return [
        folder / f"{name}.parquet" for name in ("scores", *table_names(study, distilled=distilled))
    ]


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


def search_recall(cells: Mapping[Cell, CellFiles]) -> dict[str, float]:
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
    evidence: Mapping[str, pl.DataFrame] | None = None,
    matches: int = scores.MATCHES,
) -> None:
    """Turn the scores of a study into its `TABLES`, metrics.json and headline.json.

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
        evidence: tables of `metrics.EVIDENCE`, likewise.
        matches: how many of the best matches are kept.
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
        "matches": scores.top_matches(scored, generations, corpus, matches),
        "clusters": cluster_table,
        "richness": richness_table,
        "traits": traits.by_trait(items, rate_table, cluster_table),
        "anatomy": anatomy_table,
        "kinds": kinds,
        "conditions": conditions.conditions(
            rate_table,
            conditions.sampled_at({cell: files.generations[0] for cell, files in cells.items()}),
        ),
    }
    for name in TABLES:
        write_parquet(tables[name], folder / f"{name}.parquet")
    numbers = {
        **about,
        "rates": metrics.rates(rate_table, ratio_table),
        "richness": metrics.richness(richness_table),
        "kinds": metrics.kinds(kinds),
    }
    if shifts is not None:
        numbers["likelihood"] = metrics.likelihood(shifts)
    if calibration is not None:
        numbers["calibration"] = metrics.calibration(calibration)
    if members is not None:
        numbers["membership"] = metrics.membership(members)
    if discovered is not None:
        numbers["discoverable"] = metrics.discoverable(discovered)
    for name, table in (evidence or {}).items():
        numbers[name] = metrics.evidence(name, table)
    write_json(numbers, folder / "metrics.json")
    write_json(metrics.headline(rate_table), folder / "headline.json")


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
