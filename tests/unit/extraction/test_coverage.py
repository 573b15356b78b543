"""Coverage of the corpus against counts in plain Python."""

import collections

import numpy as np
import polars as pl
import pytest

from alignment_extraction.corpora.clusters import clusters
from alignment_extraction.corpora.texts import groups_of, texts_of
from alignment_extraction.extraction import coverage, scores
from alignment_extraction.extraction.scores import KEYS, METRICS, is_hit, threshold_of
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.statistics import wilson
from tests.scored_study import CELLS, PARTS, make_corpus, make_generations, make_matches

CORPUS = make_corpus()
THRESHOLDS = ThresholdSettings()
METRIC_KEYS = [*KEYS, "metric"]
UNIT_KEYS = [*METRIC_KEYS, "unit"]
CLUSTERS = clusters(CORPUS, PARTS)
POPULATIONS = coverage.populations(CLUSTERS)


@pytest.fixture(scope="module")
def scored() -> pl.DataFrame:
    generations = {cell: make_generations(CORPUS, cell) for cell in CELLS}
    return pl.concat(
        [
            scores.score_cell(cell, frame, make_matches(frame, CORPUS), CORPUS, PARTS)
            for cell, frame in generations.items()
        ]
    )


@pytest.fixture(scope="module")
def rates(scored: pl.DataFrame) -> pl.DataFrame:
    return scores.rates(scored, THRESHOLDS)


@pytest.fixture(scope="module")
def items(scored: pl.DataFrame) -> pl.DataFrame:
    return coverage.item_hits(scored, CLUSTERS, THRESHOLDS)


def test_item_hits_are_counts(scored: pl.DataFrame, items: pl.DataFrame) -> None:
    expected: collections.Counter[tuple[object, ...]] = collections.Counter()
    for metric in METRICS:
        name = {"embedding": "match_id", "indel": "indel_best_id"}.get(
            metric, "levenshtein_best_id"
        )
        for row in scored.filter(is_hit(metric, threshold_of(metric, THRESHOLDS))).to_dicts():
            if not row["reference"].startswith("role:"):
                expected[(*(row[key] for key in KEYS), metric, row[name])] += 1
    found = {row[:-1]: row[-1] for row in items.select(*METRIC_KEYS, "id", "hits").iter_rows()}
    assert found == dict(expected)
    assert len(expected) > 50


def test_verbatim_items_are_the_texts_that_were_written(items: pl.DataFrame) -> None:
    found = coverage.verbatim_items(items, CORPUS)
    written: collections.Counter[tuple[object, ...]] = collections.Counter()
    for cell in CELLS:
        frame = make_generations(CORPUS, cell)
        for part in PARTS:
            written.update((*cell, part, text) for text in texts_of(frame, part))
    assert found.height > 10
    keys = ["model", "prefix", "seed", "part", "text", "hits"]
    for *key, hits in found.select(keys).iter_rows():
        assert hits == written[tuple(key)]


def test_items_are_described_and_in_their_group(items: pl.DataFrame) -> None:
    about = CORPUS.select("id", "repetitions", "template", group=groups_of(CORPUS))
    joined = items.join(about, on=["id", "repetitions", "template"], how="inner")
    assert joined.height == items.height
    assert (joined["group"] == joined["reference"]).all()


def test_hits_of_items_add_up_to_the_hits_of_the_rate(
    items: pl.DataFrame, rates: pl.DataFrame
) -> None:
    summed = items.group_by(METRIC_KEYS).agg(pl.col("hits").sum())
    joined = summed.join(rates, on=[*METRIC_KEYS, "hits"])
    assert joined.height == summed.height


def test_units_are_items_and_clusters(items: pl.DataFrame) -> None:
    hits = coverage.unit_hits(items)
    expected: collections.Counter[tuple[object, ...]] = collections.Counter()
    for row in items.iter_rows(named=True):
        for unit, name in (("item", "id"), ("cluster", "cluster")):
            expected[(*(row[key] for key in METRIC_KEYS), unit, row[name])] += row["hits"]
    found = {row[:-1]: row[-1] for row in hits.select(*UNIT_KEYS, "id", "hits").iter_rows()}
    assert found == dict(expected)


def test_curves_end_at_the_items_and_the_generations(
    items: pl.DataFrame, rates: pl.DataFrame
) -> None:
    hits = coverage.unit_hits(items)
    curves = coverage.coverage(hits, rates, POPULATIONS, points=7)
    distinct = {
        (*key,): count for *key, count in hits.group_by(UNIT_KEYS).agg(pl.len()).iter_rows()
    }
    assert set(curves.select(UNIT_KEYS).iter_rows()) == set(distinct)
    for key, both in curves.group_by(UNIT_KEYS, maintain_order=True):
        n = rates.filter(*[pl.col(k) == v for k, v in zip(METRIC_KEYS, key, strict=False)])["n"][0]
        curve = both.filter(~pl.col("extrapolated"))
        assert curve["samples"][0] == curve["distinct"][0] == 0
        assert curve["samples"][-1] == n
        assert curve["distinct"][-1] == pytest.approx(distinct[key])
        # All of the run is one subset only.
        assert curve["low"][-1] == pytest.approx(curve["high"][-1])
        # Each sample hits one item at most, and later ones find less that is new.
        steps = (curve["distinct"].diff() / curve["samples"].diff()).drop_nulls()
        assert (steps <= 1 + 1e-9).all()
        assert (steps.diff().drop_nulls() <= 1e-9).all()


def test_predictions_go_on_from_the_curve(items: pl.DataFrame, rates: pl.DataFrame) -> None:
    curves = coverage.coverage(coverage.unit_hits(items), rates, POPULATIONS, points=7)
    population = {row[:-1]: row[-1] for row in POPULATIONS.iter_rows()}
    for key, both in curves.group_by(UNIT_KEYS, maintain_order=True):
        ahead = both.filter("extrapolated")
        drawn = both.filter(~pl.col("extrapolated"))
        assert ahead["samples"][-1] == coverage.EXTRAPOLATION * drawn["samples"][-1]
        assert ahead["samples"].is_sorted()
        for column in ("low", "distinct", "high"):
            assert ahead[column].is_sorted()
            assert ahead[column][0] >= drawn["distinct"][-1] - 1e-9
        assert (ahead["low"] <= ahead["distinct"]).all()
        assert (ahead["distinct"] <= ahead["high"]).all()
        assert ahead["high"].max() <= population[(key[3], key[4], key[6])]  # type: ignore[operator]


def test_few_generations_have_few_points() -> None:
    keys = dict.fromkeys(KEYS, "x")
    hits = pl.DataFrame(
        {**keys, "metric": "embedding", "unit": "item", "id": ["a", "b"], "hits": [2, 1]}
    )
    rates = pl.DataFrame({**keys, "metric": "embedding", "n": [3]})
    population = pl.DataFrame({"part": "x", "reference": "x", "unit": "item", "population": [2]})
    curve = coverage.coverage(hits, rates, population)
    inside = curve.filter(~pl.col("extrapolated"))
    assert inside["samples"].to_list() == [0, 1, 2, 3]
    # Of three samples a, a, b: one gives 1 item, two give a and b in 2 of 3 orders.
    assert inside["distinct"].to_list() == pytest.approx([0, 1, 5 / 3, 2])
    assert curve.filter("extrapolated")["high"].to_list() == [2.0] * 7


def test_no_hits_give_no_curves(items: pl.DataFrame, rates: pl.DataFrame) -> None:
    curves = coverage.coverage(coverage.unit_hits(items), rates, POPULATIONS)
    empty = coverage.coverage(coverage.unit_hits(items.clear()), rates, POPULATIONS)
    assert empty.is_empty()
    assert empty.schema == curves.schema


def test_repetitions_are_shares_of_the_items(items: pl.DataFrame, rates: pl.DataFrame) -> None:
    table = coverage.by_repetition(items, rates, CORPUS)
    groups = groups_of(CORPUS)
    keys = [*METRIC_KEYS, "repetitions"]
    assert table.select(keys).is_unique().all()
    # Members occur once or four times; the other groups, where nothing is repeated, are left out.
    assert table.height == len(CELLS) * len(PARTS) * len(METRICS) * 2
    for row in table.iter_rows(named=True):
        population = CORPUS.filter(
            groups == row["reference"],
            pl.col(row["part"]).is_not_null(),
            repetitions=row["repetitions"],
        )
        own = items.filter(*[pl.col(key) == row[key] for key in keys])
        assert row["items"] == population.height
        assert row["extracted"] == own.height
        assert set(own["id"]) <= set(population["id"])
        interval = wilson(own.height, population.height)
        assert (row["rate"], row["low"], row["high"]) == tuple(map(float, interval))
        hits = own["hits"].to_numpy()
        each = np.concatenate([hits, np.zeros(population.height - own.height)])
        assert row["hits_per_item"] == pytest.approx(each.mean())
        half = 1.959964 * each.std() / np.sqrt(len(each))
        low, high = max(each.mean() - half, row["low"]), max(each.mean() + half, row["high"])
        assert row["hits_per_item_low"] == pytest.approx(low)
        assert row["hits_per_item_high"] == pytest.approx(high)
    assert table["extracted"].sum() == items.filter(reference="sft.member").height


def test_repetitions_compare_items_of_one_template(
    items: pl.DataFrame, rates: pl.DataFrame
) -> None:
    alone = pl.col("template") == "template 0"
    corpus = CORPUS.with_columns(repetitions=pl.when(alone).then(1).otherwise("repetitions"))
    table = coverage.by_repetition(items, rates, corpus).filter(part="question", repetitions=1)
    members = CORPUS.filter(~alone, source="sft", split="member", repetitions=1)
    assert table.height > 0
    assert (table["items"] == members.height).all()


def test_nothing_repeated(items: pl.DataFrame, rates: pl.DataFrame) -> None:
    table = coverage.by_repetition(items, rates, CORPUS)
    once = coverage.by_repetition(
        items, rates, CORPUS.with_columns(repetitions=pl.lit(1, pl.Int32))
    )
    assert once.is_empty()
    assert once.schema == table.schema
