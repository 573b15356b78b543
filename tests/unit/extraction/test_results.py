"""A study's results as files, from generations, matches and likelihoods to metrics.json."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from alignment_extraction.extraction import results
from alignment_extraction.extraction.results import CellFiles
from alignment_extraction.files import (
    InputError,
    read_json,
    read_parquet,
    write_json,
    write_parquet,
)
from alignment_extraction.likelihoods import likelihood
from alignment_extraction.settings.studies import ThresholdSettings
from tests.scored_study import CELLS, PARTS, make_corpus, make_generations, make_matches

CORPUS = make_corpus()
PREFIX = "<|im_start|>user\n"
SIDES = ("before", "after")
MIN_K = ("min_k", "min_k_plus_plus")
SETTINGS = {"prefix": PREFIX, "max_tokens": "64"}
SETTINGS |= {"temperature": "1.0", "top_k": "0", "top_p": "1.0", "min_p": "0.0"}
AUDITS = (
    {"a": {"queries": 10, "recall_at_1": 1.0}},
    {"a": {"queries": 30, "recall_at_1": 0.9}},
    {},
)


def cell_files(folder: Path) -> dict[Any, CellFiles]:
    files = {}
    for cell, audit in zip(CELLS, AUDITS, strict=True):
        place = folder / "-".join(map(str, cell))
        generations = make_generations(CORPUS, cell).with_columns(tokens=pl.lit([1, 2]))
        shards = (place / "0.parquet", place / "1.parquet")
        write_parquet(generations[:25], shards[0], SETTINGS)
        write_parquet(generations[25:], shards[1])
        write_parquet(make_matches(generations, CORPUS), place / "matches.parquet")
        write_json(audit, place / "audit.json")
        files[cell] = CellFiles(PARTS, shards, place / "matches.parquet", place / "audit.json")
    return files


def make_likelihoods(folder: Path) -> dict[tuple[str, str], Path]:
    rng = np.random.default_rng(0)
    files = {}
    for pair in (("sft", "rl"), ("base", "sft")):
        frame = pl.DataFrame(
            [
                {
                    "id": f"{group}/{i}",
                    "group": group,
                    "role": role,
                    "template": template,
                    "target": "question",
                    "tokens": 10,
                    "zlib_bytes": 30,
                    "prefix": PREFIX,
                    "instance_of": "sum",
                    **{f"{side}_end": -0.1 if template else None for side in SIDES},
                    **{
                        f"{side}_{name}": float(rng.normal(-4, 1))
                        for side in SIDES
                        for name in MIN_K
                    },
                    "before": float(rng.normal(-20, 4)),
                    "after": float(rng.normal(-18, 4)),
                }
                for template in (True, False)
                for group, role in (("rl.member", "member"), ("rl.fresh-instance", "held-out"))
                for i in range(30)
            ]
        )
        files[pair] = folder / f"{'_'.join(pair)}.parquet"
        write_parquet(frame, files[pair])
    return files


def corpus_likelihoods() -> pl.DataFrame:
    """What `discover` reads, of the study's own corpus."""
    return CORPUS.filter(source="sft").select(
        pl.lit("base").alias("pair_before"),
        pl.lit("sft").alias("pair_after"),
        "id",
        group=pl.concat_str("source", "split", separator="."),
        target=pl.lit("question"),
        template=pl.lit(True),
        prefix=pl.lit(PREFIX),
        tokens=pl.lit(30),
        **{side: pl.lit(math.log(0.02)) for side in SIDES},
        **{f"{side}_end": pl.lit(math.log(0.5)) for side in SIDES},
    )


def write_results(
    files: dict[Any, CellFiles], pairs: dict[tuple[str, str], Path], to: Path
) -> None:
    scored = results.score(files, CORPUS)
    results.compare_likelihoods(pairs, 0, to)
    results.discover(
        likelihoods=corpus_likelihoods(), scored=scored, cells=files, corpus=CORPUS, folder=to
    )
    results.evaluate(
        scored=scored,
        cells=files,
        corpus=CORPUS,
        about={"corpus": {"rows": 48}, "search": results.search_recall(files)},
        thresholds=ThresholdSettings(),
        folder=to,
        shifts=read_parquet(to / "shifts.parquet"),
        members=read_parquet(to / "membership.parquet"),
        discovered=read_parquet(to / "discoverable.parquet"),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_results(cell_files(folder), make_likelihoods(folder), folder / "results")
    return folder / "results"


TABLES = results.TABLES + results.LIKELIHOOD_TABLES + results.DISCOVERABLE_TABLES


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for entry in value.values() for leaf in leaves(entry)]
    return [value]


def test_every_table_and_nothing_else(folder: Path) -> None:
    names = {f"{name}.parquet" for name in TABLES}
    assert {path.name for path in folder.iterdir()} == names | {"metrics.json", "headline.json"}
    # The study has one temperature and one quantisation.
    empty = {name for name in names if read_parquet(folder / name).is_empty()}
    assert empty == {"conditions.parquet"}


def test_shards_are_read_in_order_and_in_part(folder: Path) -> None:
    files = cell_files(folder.parent)[CELLS[0]]
    frame = files.read_generations()
    assert frame.columns == ["index", "question", "answer"]
    assert frame["index"].to_list() == list(range(60))


def test_score_stacks_the_cells(folder: Path) -> None:
    scored = results.score(cell_files(folder.parent), CORPUS)
    assert set(scored.select("model", "prefix", "seed").iter_rows()) == set(CELLS)


def test_audit_weighs_by_queries(folder: Path) -> None:
    files = cell_files(folder.parent)
    assert results.search_recall(files) == {"queries": 40, "recall_at_1": pytest.approx(0.925)}
    assert results.search_recall({CELLS[2]: files[CELLS[2]]}) == {"queries": 0}


def test_metrics_hold_every_rate(folder: Path) -> None:
    metrics = read_json(folder / "metrics.json")
    assert metrics["corpus"] == {"rows": 48}
    assert metrics["search"]["queries"] == 40
    ratios = {
        row[:-1]: row[-1]
        for row in read_parquet(folder / "ratios.parquet")
        .select("model", "prefix", "seed", "part", "reference", "metric", "ratio")
        .iter_rows()
    }
    rates = read_parquet(folder / "rates.parquet")
    seen = 0
    for row in rates.iter_rows(named=True):
        keys = (row["model"], row["prefix"], row["seed"], row["part"], row["reference"])
        entry = metrics["rates"][row["model"]][row["prefix"]][f"seed-{row['seed']}"]
        entry = entry[row["part"]][row["reference"]][row["metric"]]
        for name in ("n", "hits", "rate", "low", "high", "mean_score"):
            assert entry[name] == pytest.approx(row[name], rel=1e-5)
        ratio = ratios.get((*keys, row["metric"]), math.nan)
        if math.isfinite(ratio):
            assert entry["embedding_ratio"] == pytest.approx(ratio, rel=1e-5)
        else:
            assert "embedding_ratio" not in entry
        seen += len(entry)
    assert seen == len(leaves(metrics["rates"]))


def test_the_headline_pools_seeds_and_is_short(folder: Path) -> None:
    headline = read_json(folder / "headline.json")
    rates = read_parquet(folder / "rates.parquet").filter(part="question", metric="embedding")
    assert 1 < len([(model, prefix) for model in headline for prefix in headline[model]]) <= 4
    for model, prefixes in headline.items():
        for prefix, roles in prefixes.items():
            own = rates.filter(model=model, prefix=prefix)
            for role, metrics in roles.items():
                of_role = own.filter(reference=f"role:{role}")
                expected = of_role["hits"].sum() / of_role["n"].sum()
                assert metrics["embedding"]["rate"] == pytest.approx(expected, rel=1e-5)
                assert metrics["embedding"]["low"] <= expected <= metrics["embedding"]["high"]
            assert len(roles) == own["reference"].str.starts_with("role:").cast(int).sum() / len(
                own["seed"].unique()
            )


def test_metrics_are_finite_numbers(folder: Path) -> None:
    values = leaves(read_json(folder / "metrics.json"))
    assert values
    assert all(type(value) in (int, float) and math.isfinite(value) for value in values)
    # At most six digits, so that noise in the last ones is no difference.
    assert all(
        float(f"{value:.6g}") == value
        for value in leaves(read_json(folder / "metrics.json")["rates"])
    )


def test_metrics_hold_richness_and_kinds(folder: Path) -> None:
    metrics = read_json(folder / "metrics.json")
    richness = read_parquet(folder / "richness.parquet").filter(pl.col("hits") > 0)
    seen = 0
    for row in richness.iter_rows(named=True):
        if row["metric"] in ("embedding", "verbatim"):
            entry = metrics["richness"][row["model"]][row["prefix"]][f"seed-{row['seed']}"]
            entry = entry[row["part"]][row["reference"]][row["metric"]][row["unit"]]
            assert entry["distinct"] == row["distinct"]
            assert entry["predicted_high"] == pytest.approx(row["predicted_high"], rel=1e-5)
            seen += 1
    assert seen > 10
    for row in read_parquet(folder / "kinds.parquet").iter_rows(named=True):
        entry = metrics["kinds"][row["model"]][row["prefix"]][f"seed-{row['seed']}"]
        entry = entry[row["part"]][row["reference"]][row["kind"]]
        assert entry["hits"] == row["hits"]
        assert ("share" in entry) == (row["extracted"] > 0)


def test_metrics_name_groups_and_roles(folder: Path) -> None:
    references = read_json(folder / "metrics.json")["rates"]["sft"]["user"]["seed-1"]["question"]
    assert set(references) == {
        "sft.member",
        "sft.fresh-instance",
        "sft.held-out-template",
        "other",
        "role:member",
        "role:held-out",
        "role:unknown",
    }


def test_the_same_inputs_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_results(cell_files(folder.parent), make_likelihoods(tmp_path), tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_a_study_without_likelihood(folder: Path, tmp_path: Path) -> None:
    files = cell_files(folder.parent)
    results.evaluate(
        scored=results.score(files, CORPUS),
        cells=files,
        corpus=CORPUS,
        about={},
        thresholds=ThresholdSettings(embedding=0.5, string=0.5),
        folder=tmp_path,
    )
    assert {path.stem for path in tmp_path.iterdir()} == {*results.TABLES, "metrics", "headline"}
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics) == {"rates", "richness", "kinds"}
    # Lower thresholds find more.
    before = read_parquet(folder / "rates.parquet")["hits"].sum()
    assert read_parquet(tmp_path / "rates.parquet")["hits"].sum() > before


def test_likelihood_tables_hold_every_pair(folder: Path) -> None:
    for name in results.LIKELIHOOD_TABLES:
        table = read_parquet(folder / f"{name}.parquet")
        assert table.columns[:2] == ["pair_before", "pair_after"]
        pairs = table.select("pair_before", "pair_after").unique(maintain_order=True)
        assert pairs.rows() == [("sft", "rl"), ("base", "sft")]
    assert read_parquet(folder / "likelihood.parquet").height == 2 * 2 * 2 * 30


def test_likelihood_counts(folder: Path) -> None:
    items = read_parquet(folder / "likelihood.parquet")
    for name, thresholds, tokens in (
        ("likelihood_counts", results.LIKELIHOOD_THRESHOLDS, 1),
        ("likelihood_token_counts", results.TOKEN_LIKELIHOOD_THRESHOLDS, 10),
    ):
        table = read_parquet(folder / f"{name}.parquet")
        assert table.height == 2 * 2 * 2 * len(thresholds)
        row = table.filter(pl.col("threshold") == thresholds[5], pair_after="rl", template=True)
        row = row.filter(group="rl.member")
        own = items.filter(pair_after="rl", template=True, group="rl.member")
        for side in ("before", "after"):
            assert row[side].item() == (own[side] / tokens >= thresholds[5]).sum()


def test_likelihood_in_the_metrics(folder: Path) -> None:
    metrics = read_json(folder / "metrics.json")["likelihood"]
    assert set(metrics) == {"sft_rl", "base_sft"}
    shifts = read_parquet(folder / "shifts.parquet")
    for row in shifts.iter_rows(named=True):
        form = "with-template" if row["template"] else "without-template"
        entry = metrics[f"{row['pair_before']}_{row['pair_after']}"][row["target"]][form][
            row["group"]
        ]
        names = {"n", "before", "after", "shift", "shift_low", "shift_high"}
        if row["role"] == "member":
            names |= {"excess", "excess_low", "excess_high"}
        assert entry == {name: pytest.approx(row[name], rel=1e-5) for name in names}


def test_membership_in_the_metrics(folder: Path) -> None:
    metrics = read_json(folder / "metrics.json")["membership"]
    table = read_parquet(folder / "membership.parquet")
    assert table.height == 2 * 2 * 9
    for row in table.iter_rows(named=True):
        form = "with-template" if row["template"] else "without-template"
        pair = metrics[f"{row['pair_before']}_{row['pair_after']}"]["question"][form]
        entry = pair["rl.member"]["rl.fresh-instance"][row["side"]][row["attack"]]
        assert entry["auc_low"] == pytest.approx(row["auc_low"], rel=1e-5)
        assert (entry["members"], entry["held_out"]) == (30, 30)


def test_predictions_and_verbatim_hits(folder: Path) -> None:
    """The hits are those of the table `items`, which evaluation counts in its own way."""
    items = read_parquet(folder / "discoverable_items.parquet")
    keys = ["model", "prefix", "seed", "reference", "id"]
    verbatim = read_parquet(folder / "verbatim.parquet").filter(part="question")
    expected = verbatim.filter(pl.col("reference").str.starts_with("sft.")).select(*keys, "hits")
    assert expected.height > 3
    found = items.filter(pl.col("hits") > 0).select(*keys, "hits")
    assert found.sort(keys).equals(expected.sort(keys))
    assert items["expected"].to_list() == pytest.approx([60 * 0.01] * len(items))
    metrics = read_json(folder / "metrics.json")["discoverable"]
    assert set(metrics) == {"base", "sft"}
    entry = metrics["sft"]["user"]["seed-0"]["sft.member"]
    assert set(entry) == {"n-60", "n-600"}
    assert entry["n-60"]["expected_hits"] == pytest.approx(12 * 0.6)
    assert (
        entry["n-60"]["hits"]
        == expected.filter(model="sft", seed=0, reference="sft.member")["hits"].sum()
    )


def test_likelihoods_of_another_corpus(folder: Path, tmp_path: Path) -> None:
    files = cell_files(folder.parent)
    with pytest.raises(InputError, match="item sft/member/0 has a likelihood but is not in"):
        results.discover(
            likelihoods=corpus_likelihoods(),
            scored=results.score(files, CORPUS),
            cells=files,
            corpus=CORPUS.tail(5),
            folder=tmp_path,
        )


def test_pairs_have_random_streams_of_their_own(tmp_path: Path) -> None:
    path = make_likelihoods(tmp_path)["sft", "rl"]
    results.compare_likelihoods({("a", "b"): path, ("c", "d"): path}, 0, tmp_path / "x")
    shifts = read_parquet(tmp_path / "x" / "shifts.parquet")
    first, second = (shifts.filter(pair_before=name) for name in ("a", "c"))
    assert first["shift"].equals(second["shift"])
    assert not first["shift_low"].equals(second["shift_low"])
    expected = likelihood.shifts(read_parquet(path), seed=0)
    assert first["shift"].to_list() == pytest.approx(expected["shift"].to_list())
