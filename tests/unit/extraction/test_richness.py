"""Tables of what is extractable, and of what extracted items have in common."""

import collections
import math

import polars as pl
import pytest

from alignment_extraction.corpora.clusters import clusters
from alignment_extraction.extraction import coverage, scores
from alignment_extraction.extraction.coverage import METRIC_KEYS, UNIT_KEYS
from alignment_extraction.extraction.richness import richness
from alignment_extraction.extraction.scores import METRICS
from alignment_extraction.extraction.traits import TRAITS, by_trait
from alignment_extraction.extraction.unseen import chao1, extrapolate
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import wilson
from tests.scored_study import CELLS, PARTS, make_corpus, make_generations, make_matches

CORPUS = make_corpus()
THRESHOLDS = ThresholdSettings()
CLUSTERS = clusters(CORPUS, PARTS)


@pytest.fixture(scope="module")
def scored() -> pl.DataFrame:
    frames = []
    for cell in CELLS:
        generations = make_generations(CORPUS, cell)
        matches = make_matches(generations, CORPUS)
        frames.append(scores.score_cell(cell, generations, matches, CORPUS, PARTS))
    return pl.concat(frames)


@pytest.fixture(scope="module")
def rates(scored: pl.DataFrame) -> pl.DataFrame:
    return scores.rates(scored, THRESHOLDS)


@pytest.fixture(scope="module")
def items(scored: pl.DataFrame) -> pl.DataFrame:
    return coverage.item_hits(scored, CLUSTERS, THRESHOLDS)


@pytest.fixture(scope="module")
def table(scored: pl.DataFrame, items: pl.DataFrame, rates: pl.DataFrame) -> pl.DataFrame:
    return richness(scored, items, CLUSTERS, THRESHOLDS, rates)


def test_every_cell_group_metric_and_unit(table: pl.DataFrame) -> None:
    assert table.select(UNIT_KEYS).is_unique().all()
    assert table.height == len(CELLS) * len(PARTS) * 4 * len(METRICS) * 2
    assert not table["reference"].str.starts_with("role:").any()


def test_counts_and_estimates_are_those_of_the_items(
    table: pl.DataFrame, items: pl.DataFrame
) -> None:
    hits = coverage.unit_hits(items)
    seen = 0
    for row in table.iter_rows(named=True):
        own = hits.filter(*[pl.col(key) == row[key] for key in UNIT_KEYS])["hits"].to_numpy()
        assert row["hits"] == own.sum()
        assert row["distinct"] == len(own)
        assert (row["singletons"], row["doubletons"]) == ((own == 1).sum(), (own == 2).sum())
        for name, interval in (
            ("chao1", chao1(own, row["n"])),
            ("predicted", extrapolate(own, row["n"], 10)),
        ):
            expected = [min(value, row["population"]) for value in interval]
            assert [row[f"{name}{end}"] for end in ("", "_low", "_high")] == expected
        assert (row["coverage"] is None) == (len(own) == 0)
        seen += len(own) > 1
    assert seen > 10


def test_the_first_tenth_predicts_the_whole(scored: pl.DataFrame, table: pl.DataFrame) -> None:
    for row in table.filter(metric="embedding", unit="item").iter_rows(named=True):
        own = scored.filter(
            *[pl.col(key) == row[key] for key in ("model", "prefix", "seed", "part", "reference")]
        ).sort("index")
        assert row["n"] == own.height
        first = own.head(own.height // 10)
        assert row["tenth_n"] == first.height
        found = first.filter(pl.col("cosine") >= 0.95 - 1e-6)["match_id"]
        assert row["tenth_distinct"] == found.n_unique()
        counts = found.value_counts()["count"].to_numpy()
        expected = extrapolate(counts, first.height, own.height / first.height)
        bounded = [min(value, row["population"]) for value in expected]
        assert [row["tenth_predicted"], row["tenth_low"], row["tenth_high"]] == bounded


def test_fewer_than_ten_generations_have_no_tenth(scored: pl.DataFrame) -> None:
    few = scored.filter(pl.col("index") < 5)
    rates = scores.rates(few, THRESHOLDS)
    found = richness(
        few, coverage.item_hits(few, CLUSTERS, THRESHOLDS), CLUSTERS, THRESHOLDS, rates
    )
    assert found.height > 0
    assert found["tenth_n"].null_count() == found["tenth_high"].null_count() == found.height


def test_no_hits_are_bounded(scored: pl.DataFrame, table: pl.DataFrame) -> None:
    none = scored.with_columns(pl.col("cosine", "levenshtein_best", "indel_best") / 2)
    rates = scores.rates(none, THRESHOLDS)
    items = coverage.item_hits(none, CLUSTERS, THRESHOLDS)
    found = richness(none, items, CLUSTERS, THRESHOLDS, rates)
    assert found.schema == table.schema
    assert (found["distinct"] == 0).all()
    assert (found["predicted"] == 0).all()
    assert (found["predicted_high"] == found["population"]).all()
    assert (found["chao1_high"] == found["population"]).all()


def test_traits_are_shares_of_the_items(items: pl.DataFrame, rates: pl.DataFrame) -> None:
    table = by_trait(items, rates, CLUSTERS)
    population: collections.Counter[tuple[object, ...]] = collections.Counter()
    extracted: collections.Counter[tuple[object, ...]] = collections.Counter()
    for trait in TRAITS:
        for row in CLUSTERS.iter_rows(named=True):
            band = 2 ** math.floor(math.log2(row[trait]))
            population[row["part"], row["reference"], trait, band] += 1
        for row in items.iter_rows(named=True):
            band = 2 ** math.floor(math.log2(row[trait]))
            extracted[(*(row[key] for key in METRIC_KEYS), trait, band)] += 1
    assert table.height == len(CELLS) * len(METRICS) * len(population)
    assert table["extracted"].sum() == sum(extracted.values()) == 3 * items.height
    for row in table.iter_rows(named=True):
        band = (row["trait"], row["band_low"])
        assert row["band_high"] == 2 * row["band_low"] - 1
        assert row["items"] == population[(row["part"], row["reference"], *band)]
        assert row["extracted"] == extracted[(*(row[key] for key in METRIC_KEYS), *band)]
        interval = wilson(row["extracted"], row["items"])
        assert (row["rate"], row["low"], row["high"]) == tuple(map(float, interval))
