"""Generations of a study beside the held-out rows of its corpus, their lengths made alike.

Every held-out row was searched as if a model had written it (`matching.match_held_out`), in the
same indexes and scored alike. Lengths are made alike in two ways. Over all generations, held-out
rows are weighted by length band, so that each band weighs as much as it does among the generations.
And the generations of each band stand beside the held-out rows of that band. The bands are quarters
of the held-out rows by their number of characters.
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from alignment_extraction.corpora.texts import groups_of
from alignment_extraction.extraction.calibration import Populations
from alignment_extraction.extraction.scores import KEYS, METRICS, SCORE, is_hit, threshold_of
from alignment_extraction.search.matching import SUSPECTED_ROLES
from alignment_extraction.search.string_search import LEAST_SIMILARITY
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import Array

ALL_HELD_OUT, ALL_LENGTHS = "role:held-out", "all"
"""Names of the held-out rows of every group, and of all length bands together."""

_QUARTERS = (0.25, 0.5, 0.75)


class Comparison(NamedTuple):
    """Generations of one cell, part and reference, and the held-out rows beside them."""

    keys: dict[str, Any]
    """The columns of `scores.KEYS`; held_out (a group, `ALL_HELD_OUT`, or None where the corpus has
    no held-out row) and length_band."""
    generations: pl.DataFrame
    """Rows of scores, at least one."""
    held_out: pl.DataFrame
    """Rows of `held_out_scores`."""
    weights: Array
    """Of the held-out rows, positive."""
    matched: float | None
    """Share of the generations as long as the shortest held-out row to the longest; None without
    rows. Longer ones are in the last band, shorter ones in the first."""

    @property
    def headline(self) -> bool:
        """Whether it is of all held-out rows and all lengths."""
        return (self.keys["held_out"], self.keys["length_band"]) == (ALL_HELD_OUT, ALL_LENGTHS)


def held_out_scores(matches: pl.DataFrame, corpus: pl.DataFrame) -> pl.DataFrame:
    """The best scores of each held-out row over the groups of a role, as `scores` has generations'.

    Args:
        matches: `matching.HELD_OUT_SCHEMA`.
        corpus: in the corpus schema.

    Returns:
        One row for each held-out row x part x reference (a role, `role:member`): id, part,
        own_group, characters, reference, cosine, levenshtein_best, indel_best (null below 0.5).
    """
    roles = corpus.select(group=groups_of(corpus), role="role").unique(maintain_order=True)
    return (
        matches.join(roles, on="group", maintain_order="left")
        .group_by(
            "id",
            "part",
            "own_group",
            "characters",
            reference=pl.lit("role:") + pl.col("role"),
            maintain_order=True,
        )
        .agg(pl.col(*SCORE.values()).max())
    )


def band_edges(lengths: Array) -> Array:
    """The greatest length of each band but the last, in characters, so that each band has a length.

    Args:
        lengths: shape (texts,), at least one; the bands are quarters of them where lengths differ.
    """
    quarters = np.unique(np.quantile(lengths, _QUARTERS, method="lower"))
    edges: Array = quarters[quarters < lengths.max()]
    return edges


def band_labels(edges: Array) -> list[str]:
    """What the bands are called."""
    if not len(edges):
        return [ALL_LENGTHS]
    inner = [
        f"{high}" if high == low + 1 else f"{low + 1} to {high}"
        for low, high in itertools.pairwise(edges)
    ]
    return [f"up to {edges[0]}", *inner, f"over {edges[-1]}"]


def length_weights(bands: Array, held_out_bands: Array, count: int) -> Array:
    """Weights that give the bands of held-out rows the generations' shares; the mean is at most 1.

    Args:
        bands: band of each generation, 0 to count - 1.
        held_out_bands: the same of each held-out row.
        count: number of bands.
    """
    shares, held_out_shares = (
        np.bincount(of, minlength=count) / max(len(of), 1) for of in (bands, held_out_bands)
    )
    weights: Array = shares[held_out_bands] / held_out_shares[held_out_bands]
    return weights


def comparisons(scored: pl.DataFrame, negatives: pl.DataFrame) -> Iterator[Comparison]:
    """Each cell, part and suspected role: with all held-out rows, each group of them, by length.

    Args:
        scored: from `results.score`.
        negatives: from `held_out_scores`; without rows the bands are quarters of the generations.
    """
    references = [f"role:{role}" for role in SUSPECTED_ROLES]
    suspected = scored.filter(pl.col("reference").is_in(references))
    for (part,), of_part in suspected.group_by("part", maintain_order=True):
        rows = negatives.filter(part=part)
        lengths = (rows.unique("id") if rows.height else of_part)["characters"].to_numpy()
        edges = band_edges(lengths)
        rows, of_part = _with_bands(rows, edges), _with_bands(of_part, edges)
        for values, own in of_part.group_by(KEYS, maintain_order=True):
            keys = dict(zip(KEYS, values, strict=True))
            yield from _against(keys, own, rows.filter(reference=keys["reference"]), edges)


def _with_bands(frame: pl.DataFrame, edges: Array) -> pl.DataFrame:
    return frame.with_columns(band=np.searchsorted(edges, frame["characters"].to_numpy()))


def _against(
    keys: dict[str, Any], own: pl.DataFrame, rows: pl.DataFrame, edges: Array
) -> Iterator[Comparison]:
    labels = band_labels(edges)
    groups = rows["own_group"].unique(maintain_order=True).sort().to_list()
    everything = ALL_HELD_OUT if rows.height else None
    bands = own["band"].to_numpy()
    for name in [everything, *(groups if len(groups) > 1 else [])]:
        of_name = rows if name == everything else rows.filter(own_group=name)
        weights = length_weights(bands, of_name["band"].to_numpy(), len(labels))
        yield Comparison(
            {**keys, "held_out": name, "length_band": ALL_LENGTHS},
            own,
            of_name.filter(weights > 0),
            weights[weights > 0],
            _share_within(own, of_name),
        )
    for number, label in enumerate(labels if len(labels) > 1 else []):
        of_band, like = own.filter(band=number), rows.filter(band=number)
        if of_band.height:
            yield Comparison(
                {**keys, "held_out": everything, "length_band": label},
                of_band,
                like,
                np.ones(like.height),
                _share_within(of_band, like),
            )


def _share_within(own: pl.DataFrame, rows: pl.DataFrame) -> float | None:
    if not rows.height:
        return None
    shortest, longest = np.min(rows["characters"].to_numpy()), np.max(rows["characters"].to_numpy())
    within = own.select(pl.col("characters").is_between(shortest, longest))
    return float(within.to_series().to_numpy().mean())


def _values(frame: pl.DataFrame) -> dict[str, Array]:
    """Scores by metric, without rounding noise; what was not searched for lies below all others."""
    least = {"embedding": -1.0}
    found = {
        metric: frame[column].cast(pl.Float64).fill_null(least.get(metric, LEAST_SIMILARITY))
        for metric, column in SCORE.items()
    }
    found["verbatim"] = frame.select(is_hit("verbatim", 1).cast(pl.Float64)).to_series()
    return {metric: values.to_numpy().round(6) for metric, values in found.items()}


def fixed_hits(frame: pl.DataFrame, thresholds: ThresholdSettings) -> dict[str, Array]:
    """Whether each row counts as extracted at the fixed thresholds, by metric."""
    return {
        metric: frame.select(is_hit(metric, threshold_of(metric, thresholds)))
        .to_series()
        .to_numpy()
        for metric in METRICS
    }


def populations(comparison: Comparison, thresholds: ThresholdSettings) -> Populations:
    """What `calibration.calibrate` takes: scores by metric, items, hits and weights."""
    own = comparison.generations
    # Empty generations have no nearest item: each is one of its own.
    items = own.select(pl.coalesce("match_id", pl.format("empty {}", "index"))).to_series()
    return Populations(
        _values(own),
        items.rank("dense").to_numpy().astype(np.int64) - 1,
        {metric: int(hits.sum()) for metric, hits in fixed_hits(own, thresholds).items()},
        _values(comparison.held_out),
        comparison.weights,
    )
