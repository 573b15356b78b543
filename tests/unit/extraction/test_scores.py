"""Scores, rates, ratios and sweeps against the same in plain Python, row by row."""

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from alignment_extraction.corpora.texts import groups_of
from alignment_extraction.extraction import scores
from alignment_extraction.extraction.scores import KEYS, METRICS, score_cell
from alignment_extraction.files import InputError
from alignment_extraction.settings.studies import Cell, SweepSettings, ThresholdSettings
from alignment_extraction.statistics import ratio, wilson
from tests.scored_study import CELLS, PARTS, make_corpus, make_generations, make_matches

CORPUS = make_corpus()
GENERATIONS = {cell: make_generations(CORPUS, cell) for cell in CELLS}
MATCHES = {cell: make_matches(GENERATIONS[cell], CORPUS) for cell in CELLS}
THRESHOLDS = ThresholdSettings(sweep=SweepSettings(start=0.5, stop=1, points=11))
GROUPS = {"sft.member", "sft.fresh-instance", "sft.held-out-template", "other"}
ROLES = {
    "role:member": {"sft.member"},
    "role:held-out": {"sft.fresh-instance", "sft.held-out-template"},
    "role:unknown": {"other"},
}


@pytest.fixture(scope="module")
def scored() -> pl.DataFrame:
    return pl.concat(
        [score_cell(cell, GENERATIONS[cell], MATCHES[cell], CORPUS, PARTS) for cell in CELLS]
    )


def by_hand(cell: Cell, index: int, part: str, groups: set[str]) -> dict[str, Any]:
    """The best of each score of one generation over some groups."""
    text = GENERATIONS[cell][part][index]
    rows = MATCHES[cell].filter(pl.col("group").is_in(groups), text=text, part=part).to_dicts()
    nearest = max(rows, key=lambda row: row["cosine"], default=None)
    best: dict[str, Any] = {
        name: nearest[name] if nearest else None
        for name in ("match_id", "cosine", "levenshtein", "indel")
    }
    for name in ("levenshtein_best", "indel_best"):
        reached = [row for row in rows if row[name] is not None]
        top = max(reached, key=lambda row: row[name], default=None)
        best[name] = top[name] if top else None
        best[f"{name}_id"] = top[f"{name}_id"] if top else None
    return best


def test_one_row_for_each_generation_part_and_reference(scored: pl.DataFrame) -> None:
    assert set(scored["reference"]) == GROUPS | set(ROLES)
    keys = [*KEYS, "index"]
    assert scored.select(keys).is_unique().all()
    for cell in CELLS:
        for part in PARTS:
            drawn = GENERATIONS[cell].filter(pl.col(part).is_not_null())["index"].to_list()
            for reference in scored["reference"].unique():
                rows = scored.filter(part=part, reference=reference, **cell._asdict())
                assert rows["index"].to_list() == drawn, (cell, part, reference)


def test_scores_are_the_best_of_each_reference(scored: pl.DataFrame) -> None:
    sides = {**{group: {group} for group in GROUPS}, **ROLES}
    for row in scored.iter_rows(named=True):
        cell = Cell(row["model"], row["prefix"], row["seed"])
        expected = by_hand(cell, row["index"], row["part"], sides[row["reference"]])
        found = {name: row[name] for name in expected}
        # Of equal scores in a role any may be named.
        for name, score in (
            ("match_id", "cosine"),
            ("levenshtein_best_id", "levenshtein_best"),
            ("indel_best_id", "indel_best"),
        ):
            if row["reference"] in ROLES and expected[score] == found[score]:
                expected[name] = found[name]
        if row["reference"] in ROLES and expected["match_id"] == found["match_id"]:
            expected |= {name: found[name] for name in ("levenshtein", "indel")}
        assert found == expected
        assert row["characters"] == len(GENERATIONS[cell][row["part"]][row["index"]])


def test_empty_generations_count_and_have_no_score(scored: pl.DataFrame) -> None:
    empty = scored.filter(part="question", characters=0)
    assert set(empty["index"]) == {10, 21, 32, 43, 54}
    assert empty["cosine"].null_count() == empty["match_id"].null_count() == empty.height
    table = scores.rates(scored, THRESHOLDS)
    assert set(table.filter(part="question")["n"]) == {60}


def test_generations_without_any_text_have_rates_of_zero() -> None:
    nothing = GENERATIONS[CELLS[0]].with_columns(question=pl.lit(""))
    scored = score_cell(CELLS[0], nothing, MATCHES[CELLS[0]].clear(), CORPUS, ["question"])
    table = scores.rates(scored, THRESHOLDS)
    assert set(table["n"]) == {60}
    assert set(table["hits"]) == {0}
    assert set(table["reference"]) == GROUPS | set(ROLES)


def test_matches_of_other_generations() -> None:
    cell, other = CELLS[0], CELLS[1]
    message = r"the matches lack generation \d+ \(question\) against sft.member: they are of other"
    with pytest.raises(InputError, match=message):
        score_cell(cell, GENERATIONS[cell], MATCHES[other], CORPUS, PARTS)


def test_matches_of_another_corpus() -> None:
    cell = CELLS[0]
    renamed = CORPUS.with_columns(source=pl.lit("new"))
    with pytest.raises(InputError, match=r"against new\.member: .*run the matching step again"):
        score_cell(cell, GENERATIONS[cell], MATCHES[cell], renamed, PARTS)


def hit_by_hand(row: dict[str, Any], metric: str, threshold: float) -> bool:
    if metric == "verbatim":
        cell = Cell(row["model"], row["prefix"], row["seed"])
        text = GENERATIONS[cell][row["part"]][row["index"]]
        sides = {**{group: {group} for group in GROUPS}, **ROLES}[row["reference"]]
        items = CORPUS.filter(groups_of(CORPUS).is_in(list(sides)))
        return text in items[row["part"]].to_list()
    column = "cosine" if metric == "embedding" else f"{metric}_best"
    return row[column] is not None and row[column] >= threshold - 1e-6


def test_rates_are_those_of_plain_python(scored: pl.DataFrame) -> None:
    table = scores.rates(scored, THRESHOLDS)
    assert table.height == len(CELLS) * len(PARTS) * 7 * len(METRICS)
    for row in table.iter_rows(named=True):
        own = scored.filter(*[pl.col(key) == row[key] for key in KEYS]).to_dicts()
        threshold = {"embedding": 0.95, "verbatim": 1.0}.get(row["metric"], 0.9)
        hits = sum(hit_by_hand(entry, row["metric"], threshold) for entry in own)
        assert (row["threshold"], row["n"], row["hits"]) == (threshold, len(own), hits)
        interval = wilson(hits, len(own))
        assert (row["rate"], row["low"], row["high"]) == tuple(map(float, interval))
        name = {"embedding": "cosine", "verbatim": "levenshtein"}.get(row["metric"], row["metric"])
        values = [entry[name] for entry in own if entry[name] is not None]
        assert row["mean_score"] == pytest.approx(np.mean(values), abs=1e-6)


def test_members_are_extracted_and_the_base_model_extracts_nothing(scored: pl.DataFrame) -> None:
    table = scores.rates(scored, THRESHOLDS).filter(part="question", metric="verbatim")
    hits = {(row["model"], row["reference"]): row["hits"] for row in table.iter_rows(named=True)}
    assert hits["sft", "sft.member"] > 0
    assert all(count == 0 for (model, _), count in hits.items() if model == "base")


def test_verbatim_is_one_and_nothing_less() -> None:
    long = "a" * 3000
    frame = pl.DataFrame(
        {"levenshtein_best": [1.0, 1 - 1 / len(long), None]},
        schema={"levenshtein_best": pl.Float32},
    )
    assert frame.select(scores.is_hit("verbatim", 1.0))["levenshtein_best"].to_list() == [
        True,
        False,
        False,
    ]


def test_a_score_a_rounding_below_the_threshold_counts() -> None:
    frame = pl.DataFrame({"cosine": [0.9499999, 0.9499, None]}, schema={"cosine": pl.Float32})
    assert frame.select(scores.is_hit("embedding", 0.95))["cosine"].to_list() == [
        True,
        False,
        False,
    ]


def test_no_match_is_no_hit_at_any_threshold() -> None:
    frame = pl.DataFrame(
        {"cosine": [None], "indel_best": [None]},
        schema={"cosine": pl.Float32, "indel_best": pl.Float32},
    )
    for metric in ("embedding", "indel"):
        assert not frame.select(scores.is_hit(metric, -1.0)).item()


def test_ratios(scored: pl.DataFrame) -> None:
    table = scores.rates(scored, THRESHOLDS)
    found = scores.ratios(table)
    hits = {tuple(row[k] for k in (*KEYS, "metric")): row["hits"] for row in table.to_dicts()}
    assert set(found["metric"]) == {"levenshtein", "indel", "verbatim"}
    assert found.height == table.height * 3 // 4
    kinds = set()
    for row in found.iter_rows(named=True):
        key = tuple(row[k] for k in KEYS)
        embedding, other = hits[*key, "embedding"], hits[*key, row["metric"]]
        assert (row["embedding_hits"], row["hits"]) == (embedding, other)
        expected = ratio(embedding, other, row["n"])
        assert [row["ratio"], row["low"], row["high"]] == pytest.approx(
            [float(bound) for bound in expected], nan_ok=True
        )
        kinds.add(
            "nan" if math.isnan(row["ratio"]) else "number" if row["ratio"] < math.inf else "inf"
        )
    assert kinds >= {"nan", "number"}


def test_sweep_is_the_rate_at_every_threshold(scored: pl.DataFrame) -> None:
    table = scores.sweep(scored, THRESHOLDS.sweep)
    assert table.columns == [*KEYS, "metric", "threshold", "n", "rate"]
    assert table.height == len(CELLS) * len(PARTS) * 7 * 3 * 11
    assert table["threshold"].unique().sort().to_list() == pytest.approx(np.linspace(0.5, 1, 11))
    for (*key, metric), curve in table.group_by(*KEYS, "metric", maintain_order=True):
        own = scored.filter(*[pl.col(k) == v for k, v in zip(KEYS, key, strict=True)]).to_dicts()
        expected = [
            np.mean([hit_by_hand(entry, str(metric), threshold) for entry in own])
            for threshold in curve["threshold"]
        ]
        assert curve["rate"].to_list() == pytest.approx(expected)
        assert curve["rate"].is_sorted(descending=True)


def test_sweep_passes_through_the_rates(scored: pl.DataFrame) -> None:
    sweep = scores.sweep(scored, THRESHOLDS.sweep)
    table = scores.rates(scored, THRESHOLDS).filter(pl.col("metric") != "verbatim")
    joined = table.join(
        sweep.with_columns(pl.col("threshold").round(6)),
        on=[*KEYS, "metric", "threshold", "n", "rate"],
    )
    assert joined.height == table.height


def test_top_matches_are_the_best_distinct_texts_and_the_best_of_each_cell(
    scored: pl.DataFrame,
) -> None:
    table = scores.top_matches(scored, GENERATIONS, CORPUS, count=30)
    for part in PARTS:
        rows = table.filter(part=part)
        assert rows.height == 15
        assert rows["generation"].is_unique().all()
        order = rows.select("cosine", "levenshtein", "occurrences").rows()
        assert order == sorted(order, reverse=True)
        texts = {
            text
            for cell in CELLS
            for text in GENERATIONS[cell][part]
            if text and text not in set(rows["generation"])
        }
        others = pl.concat(MATCHES.values()).filter(pl.col("text").is_in(list(texts)), part=part)
        # Of 15 places, 8 are for the best of all, and the others for the cells in turns.
        assert others["cosine"].max() <= rows["cosine"][7] + 1e-5
        assert set(rows.select("model", "prefix", "seed").rows()) == set(CELLS)
    for row in table.iter_rows(named=True):
        cell = Cell(row["model"], row["prefix"], row["seed"])
        assert row["generation"] == GENERATIONS[cell][row["part"]][row["index"]]
        counts = {c: GENERATIONS[c][row["part"]].to_list().count(row["generation"]) for c in CELLS}
        assert row["occurrences"] == counts[cell] == max(counts.values())
        item = CORPUS.filter(id=row["match_id"]).row(0, named=True)
        assert row["match"] == item[row["part"]]
        assert row["source"] == item["source"]
        assert row["reference"] in GROUPS


def test_top_matches_show_equal_texts_once(scored: pl.DataFrame) -> None:
    again = {
        cell: frame.with_columns(question=pl.lit(CORPUS["question"][0]))
        for cell, frame in GENERATIONS.items()
    }
    matches = {cell: make_matches(frame, CORPUS) for cell, frame in again.items()}
    same = pl.concat(
        [score_cell(cell, again[cell], matches[cell], CORPUS, ["question"]) for cell in CELLS]
    )
    table = scores.top_matches(same, again, CORPUS)
    assert table.height == 1
    assert table.row(0, named=True)["occurrences"] == 60
    assert table["match_id"][0] == CORPUS["id"][0]
