"""The controlled study's data: coins, pairs, sizes, repeatability."""

import json

import polars as pl
import pytest
from pydantic import ValidationError

from alignment_extraction.files import InputError
from alignment_extraction.settings.controlled import ControlledSettings
from alignment_extraction.training.controlled import build, post_training, statistics
from alignment_extraction.training.problems import EDITS, SHORT_TEMPLATES, verify
from alignment_extraction.vocabulary import CORPUS as SCHEMA

TOY = ControlledSettings(
    pretraining_templates=3,
    pretraining_instances=4,
    pretraining_short_instances=4,
    sft_templates=6,
    sft_repetitions={1: 4, 4: 2, 64: 1},
    sft_seed_problems=2,
    rl_instances=3,
    rl_twins=8,
    rl_wide_instances=5,
)


@pytest.fixture(scope="module")
def corpus() -> pl.DataFrame:
    return build(TOY, seed=1)


@pytest.fixture(scope="module")
def full() -> pl.DataFrame:
    return build(ControlledSettings(), seed=0)


def test_it_has_the_corpus_schema_and_sizes(corpus: pl.DataFrame) -> None:
    assert corpus.schema == SCHEMA
    counts = {
        (source, role): n
        for source, role, n in corpus.group_by("source", "role").agg(pl.len()).iter_rows()
    }
    rows = 7 + 2 * len(EDITS)
    assert counts == {
        ("pretraining", "member"): 3 * 4 + len(SHORT_TEMPLATES) * 4,
        ("sft", "member"): 3 * rows,
        ("sft", "twin"): 3 * rows,
        ("sft", "held-out"): 3 * rows,
        ("rl", "member"): 3 * 3,
        ("rl", "twin"): 3 * 8,
        ("rl-wide", "member"): 3 * 5,
        ("rl-wide", "twin"): 3 * 5,
    }
    assert corpus["id"].is_unique().all()


def test_the_default_corpus_is_large_enough(full: pl.DataFrame) -> None:
    sft, rl = full.filter(source="sft"), full.filter(source="rl")
    for role in ("member", "twin", "held-out"):
        rows = sft.filter(role=role)
        assert rows.height >= 1500
        assert rows["template"].n_unique() >= 30
        assert set(rows["repetitions"]) == {1, 2, 4, 8, 16, 32, 64}
        each = rows.group_by("template").agg(pl.col("repetitions").n_unique())
        assert set(each["repetitions"]) == {7}
    assert 100 <= rl.filter(role="member").height <= 200
    assert rl.filter(role="twin").height >= 1000


def test_templates_of_different_roles_are_disjoint(full: pl.DataFrame) -> None:
    def templates(**kind: str) -> set[str]:
        return set(full.filter(**kind)["template"])

    parts = [
        templates(source="pretraining") - set(SHORT_TEMPLATES),
        templates(source="sft", role="member"),
        templates(source="sft", role="held-out"),
        templates(source="rl"),
    ]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert templates(source="sft", role="twin") == templates(source="sft", role="member")
    assert templates(source="rl", role="twin") == templates(source="rl", role="member")


def test_a_member_and_its_twin_are_of_one_kind(full: pl.DataFrame) -> None:
    paired = full.filter(pl.col("pair").is_not_null())
    kinds = ["source", "template", "repetitions", "edit"]
    pairs = paired.group_by("pair").agg(pl.len(), pl.col("role").sort(), pl.col(*kinds).n_unique())
    assert set(pairs["len"]) == {2}
    assert set(pairs["role"].list.join(" ")) == {"member twin"}
    assert set(pairs.select(pl.max_horizontal(kinds)).to_series()) == {1}
    assert set(full.filter(pl.col("pair").is_null())["role"]) == {"member", "held-out", "twin"}
    assert (
        paired.filter(source="sft", role="twin").height
        == full.filter(source="sft", role="member").height
    )


def test_the_coins_are_fair() -> None:
    """The member is as often the lesser one of its pair by anything that was drawn."""
    settings = TOY.model_copy(update={"pretraining_templates": 1, "sft_templates": 78})
    rows = build(settings, seed=3).filter(pl.col("source") == "sft", pl.col("pair").is_not_null())
    pairs = rows.sort("pair", "role").group_by("pair", maintain_order=True).agg("question", "edit")
    for edited in (True, False):
        some = pairs.filter((pl.col("edit").list.first() != "original") == edited)
        first = sum(member < twin for member, twin in some["question"])
        assert abs(first - some.height / 2) < 3 * some.height**0.5 / 2


def test_edited_versions_belong_to_a_trained_original(full: pl.DataFrame) -> None:
    sft = full.filter(source="sft")
    edited = sft.filter(pl.col("edit") != "original")
    assert set(edited["edit"]) == set(EDITS)
    seeds = edited.join(sft, left_on="seed_problem", right_on="id", suffix="_seed")
    assert seeds.height == edited.height
    assert set(seeds["edit_seed"]) == {"original"}
    kinds = seeds.select("role", "role_seed").unique().sort("role").rows()
    assert kinds == [("held-out", "held-out"), ("member", "member"), ("twin", "member")]
    assert (seeds["repetitions"] == seeds["repetitions_seed"]).all()
    assert (seeds["question"] != seeds["question_seed"]).all()
    own = sft.filter(edit="original")
    assert own["seed_problem"].equals(own["id"].rename("seed_problem"))
    for kind in ("names", "order", "wording", "distractor"):
        same = seeds.filter(edit=kind)
        assert (
            same["metadata"].str.json_path_match("$.result")
            == same["metadata_seed"].str.json_path_match("$.result")
        ).all()


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another(corpus: pl.DataFrame) -> None:
    assert build(TOY, seed=1).equals(corpus)
    other = build(TOY, seed=2)
    assert not set(other["question"]) & set(corpus["question"])


def test_more_of_one_source_leaves_the_others_as_they_are(corpus: pl.DataFrame) -> None:
    more = build(TOY.model_copy(update={"rl_instances": 6}), seed=1)
    unchanged = corpus.filter(pl.col("source") != "rl")
    assert more.filter(pl.col("source") != "rl").equals(unchanged)


def test_statistics_count_each_source(corpus: pl.DataFrame) -> None:
    counts = statistics(
        pl.concat([corpus, corpus.filter(source="rl").with_columns(role=pl.lit("x"))])
    )
    assert counts["rows"] == counts["usable"] == corpus.height + 33
    assert counts["duplicates"] == counts["sources"]["rl.x"]["rows"] == 33
    assert counts["sources"]["sft.twin"] == {"rows": 3 * (7 + 2 * len(EDITS))}


def test_every_answer_satisfies_the_verifier_and_the_turns_hold_it(full: pl.DataFrame) -> None:
    for row in full.iter_rows(named=True):
        assert verify(row["answer"], row["metadata"]) == 1.0
        turns = [(turn["role"], turn["content"]) for turn in row["messages"]]
        expected = [("user", row["question"]), ("assistant", row["answer"])]
        assert turns == ([] if row["source"] == "pretraining" else expected)
        result = json.loads(row["metadata"])["result"]
        assert row["text"].endswith(f"#### {result}")
        assert row["question"] in row["text"]
        assert not row["text"].startswith("Task")  # what only reinforcement learning shows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sft_templates": 90}, "sft_templates"),
        ({"rl_templates": ("short/none",)}, "short/none"),
    ],
)
def test_impossible_sizes_are_refused_by_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(TOY.model_copy(update=changes), seed=1)


@pytest.mark.parametrize(
    "changes", [{"sft_templates": 5}, {"sft_seed_problems": 9}, {"rl_twins": 2, "rl_instances": 3}]
)
def test_sizes_that_do_not_agree_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        ControlledSettings.model_validate(changes)


def test_pretraining_text_is_a_control_of_what_is_searched(corpus: pl.DataFrame) -> None:
    found = post_training(corpus, ["sft", "rl"])
    assert found.drop("role").equals(corpus.drop("role"))
    assert set(found.filter(source="pretraining")["role"]) == {"control"}
    assert set(found.filter(source="rl-wide")["role"]) == {"control"}
    others = pl.col("source").is_in(["sft", "rl"])
    assert found.filter(others).equals(corpus.filter(others))
