"""Data sets of the students: arms, copies, labels, and what is taken out of the evaluation."""

import json

import polars as pl
import pytest

from alignment_extraction.distillation.data_sets import (
    COLUMNS,
    build,
    copies,
    evaluation_questions,
)
from alignment_extraction.files import InputError
from alignment_extraction.settings.distillation import DistillationSettings, Family

THRESHOLDS = {"semantic": 0.95, "string": 0.9}
SETTINGS = DistillationSettings.model_validate({"sft": {"model": "m"}, "rl": {"model": "n"}})
TWO = ("original", "extracted")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def spelt(number: int) -> str:
    """A sentence that shares no run of five words with another number's."""
    return " ".join(f"{NUMBERS[int(digit)]}{place}" for place, digit in enumerate(f"{number:04d}"))


def corpus_rows(source: str, role: str, numbers: range) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [f"{source}/{role}/{i}" for i in numbers],
            "source": source,
            "role": role,
            "template": f"of {source}",
            "question": [f"{source} asks {spelt(i)}?" for i in numbers],
            "answer": [f"#### {i}" for i in numbers],
            "metadata": [json.dumps({"result": i}) for i in numbers],
        }
    )


def corpus() -> pl.DataFrame:
    return pl.concat(
        [
            corpus_rows("pretraining", "member", range(50)),
            *(corpus_rows(source, "member", range(60)) for source in ("sft", "rl")),
            *(corpus_rows(source, "twin", range(1000, 1040)) for source in ("sft", "rl")),
            *(corpus_rows(source, "held-out", range(5000, 5010)) for source in ("sft", "rl")),
        ]
    )


def written(model: str, numbers: range) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "model": model,
            "prefix": "user",
            "seed": [i % 2 for i in numbers],
            "index": list(numbers),
            "question": [f"I ask {spelt(i)}?" for i in numbers],
            "answer": [f"#### {i}" for i in numbers],
            "question_finish": "stop",
            "answer_finish": "stop",
        },
        schema_overrides={
            **dict.fromkeys(("model", "prefix"), pl.String),
            **dict.fromkeys(("seed", "index"), pl.Int64),
        },
    )


def scored(model: str, numbers: range, **values: object) -> pl.DataFrame:
    given = {"cosine": 0.3, "levenshtein_best": None, "indel_best": None, "verbatim": False}
    about = {"role": "member", "field": "question"} | given | values
    schema = {"cosine": pl.Float32, "levenshtein_best": pl.Float32, "indel_best": pl.Float32}
    return written(model, numbers).select(
        *("model", "prefix", "seed", "index"),
        *(pl.lit(value, schema.get(name)).alias(name) for name, value in about.items()),
    )


def scores(copied: int = 20) -> pl.DataFrame:
    return pl.concat(
        [
            scored(model, part, cosine=cosine)
            for model in ("m", "n")
            for part, cosine in ((range(copied), 0.96), (range(copied, 70), 0.5))
        ]
    )


def make(
    settings: DistillationSettings = SETTINGS, copied: int = 20, seed: int = 0
) -> dict[str, pl.DataFrame]:
    generations: dict[Family, pl.DataFrame] = {
        "sft": written("m", range(70)),
        "rl": written("n", range(70)),
    }
    return build(generations, scores(copied).lazy(), corpus(), settings, THRESHOLDS, seed)


def test_all_arms_have_the_same_number_of_different_rows() -> None:
    made = make()
    assert made["data"].columns == ["family", "arm", *COLUMNS]
    sizes = made["data"].group_by("family", "arm").agg(pl.len(), distinct=pl.col("id").n_unique())
    assert sizes.height == 2 * 4
    # The smallest: 70 generations less 20 copies, and 50 raw texts.
    assert set(sizes["len"]) == set(sizes["distinct"]) == {50}
    last = made["counts"].filter(pl.col("step") == "not-drawn", pl.col("data_set") != "evaluation")
    assert set(last["left"]) == {50}
    chains = made["counts"].with_columns(earlier=pl.col("left").shift().over("family", "data_set"))
    assert chains.filter(pl.col("earlier") != pl.col("before")).is_empty()


def test_each_arm_has_its_own_rows() -> None:
    made = make()["data"].filter(family="sft")
    starts = {"original": "sft/member/", "other": "pretraining/member/"}
    assert SETTINGS.sft
    for arm in SETTINGS.sft.arms:
        ids = made.filter(arm=arm)["id"]
        assert ids.str.starts_with(starts.get(arm, "m/user/seed-")).all()


def test_other_rows_share_no_template_with_the_original() -> None:
    first_half = pl.col("id").str.extract(r"(\d+)$").cast(pl.Int64) < 25
    of_the_original = pl.col("source").eq("pretraining") & first_half
    mixed = corpus().with_columns(
        pl.when(of_the_original).then(pl.lit("of sft")).otherwise("template").alias("template")
    )
    generations: dict[Family, pl.DataFrame] = {"sft": written("m", range(70))}
    settings = DistillationSettings.model_validate({"sft": {"model": "m"}})
    made = build(generations, scores().lazy(), mixed, settings, THRESHOLDS, 0)
    expected = [f"pretraining/member/{i}" for i in range(25, 50)]
    assert sorted(made["data"].filter(arm="other")["id"]) == expected
    assert made["counts"].filter(step="shared-template")["dropped"].to_list() == [25]
    # Rows of no template, as most people's are, stay.
    without = mixed.with_columns(template=pl.lit(None, pl.String))
    made = build(generations, scores().lazy(), without, settings, THRESHOLDS, 0)
    assert made["data"].filter(arm="other").height == 50


def test_copies_are_left_out_and_nothing_else() -> None:
    made = make()
    for model, family in (("m", "sft"), ("n", "rl")):
        own = made["data"].filter(family=family, arm="extracted-without-copies")
        assert sorted(own["id"]) == sorted(f"{model}/user/seed-{i % 2}/{i}" for i in range(20, 70))
        row = made["counts"].filter(family=family, step="copy").row(0, named=True)
        assert (row["data_set"], row["dropped"]) == ("extracted-without-copies", 20)


@pytest.mark.parametrize(
    ("values", "copied"),
    [
        ({"cosine": 0.95}, True),
        ({"cosine": 0.949}, False),
        ({"levenshtein_best": 0.9}, True),
        ({"indel_best": 0.91}, True),
        ({"indel_best": 0.89, "levenshtein_best": 0.89, "cosine": 0.94}, False),
        ({"verbatim": True, "cosine": None}, True),
        ({"cosine": 0.99, "role": "twin"}, False),
        ({"cosine": 0.99, "field": "both"}, True),
        ({"cosine": 0.99, "field": "answer"}, False),
        ({"cosine": None}, False),
    ],
)
def test_a_copy_reaches_any_threshold_against_members(
    values: dict[str, object], copied: bool
) -> None:
    rows = pl.concat([scored("m", range(3), **values), scored("m", range(1), cosine=0.1)])
    assert copies(rows.lazy(), THRESHOLDS).height == (3 if copied else 0)


def test_copies_of_another_model_do_not_count() -> None:
    one = SETTINGS.model_copy(update={"rl": None})
    foreign = scores(0).filter(model="n").with_columns(cosine=pl.lit(1.0, pl.Float32))
    both = pl.concat([scores(0).filter(model="m"), foreign])
    made = build({"sft": written("m", range(70))}, both.lazy(), corpus(), one, THRESHOLDS, 0)
    assert made["counts"].filter(step="copy")["dropped"].item() == 0


def test_rl_questions_occur_once_with_their_first_answer() -> None:
    rows = written("n", range(60))
    again = rows.head(2).with_columns(
        answer=pl.lit("a long way to another answer it is indeed\n#### 7"),
        index=pl.lit(90) + pl.int_range(2),
    )
    generations = {"rl": pl.concat([rows, again.cast(rows.schema)])}
    only = DistillationSettings.model_validate({"rl": {"model": "n", "arms": TWO}})
    made = build(generations, scores(0).lazy(), corpus(), only, THRESHOLDS, 0)  # type: ignore[arg-type]
    labels = dict(made["data"].filter(arm="extracted").select("question", "label").iter_rows())
    assert len(labels) == 60
    assert [labels[rows["question"][i]] for i in range(3)] == ["0", "1", "2"]


def test_nothing_left_is_an_error_that_says_of_what() -> None:
    with pytest.raises(InputError, match="sft: nothing is left of the arm 'extracted-without-cop"):
        make(copied=70)
    given = {"sft": {"model": "m", "arms": TWO}, "rl": {"model": "n", "arms": TWO}}
    kept = DistillationSettings.model_validate(given)
    assert make(kept, copied=70)["data"].height == 2 * 2 * 60


def test_twins_are_asked() -> None:
    made = make()
    assert set(made["questions"]["benchmark"]) == {"sft.twin", "rl.twin"}
    assert made["questions"].filter(family="rl")["id"].str.starts_with("rl/twin/").all()
    without = corpus().filter(pl.col("role") != "twin")
    with pytest.raises(InputError, match="'sft' has no twins that no student has seen"):
        evaluation_questions(without, "sft", pl.Series("question", [], pl.String))
    few = SETTINGS.model_copy(update={"questions": 7})
    assert make(few)["questions"].height == 2 * 7


def test_questions_that_occur_in_training_data_are_not_asked() -> None:
    rows = corpus()
    twins = rows.filter(source="sft", role="twin")
    members = twins[:3].with_columns(role=pl.lit("member"), source=pl.lit("pretraining"))
    repeated = twins[5:6].with_columns(id=pl.lit("again"))
    changed = pl.concat([rows, members, repeated])
    trained = twins[2:5].select(pl.col("question").str.to_uppercase().str.replace(" ", "  "))
    asked = evaluation_questions(changed, "sft", trained.to_series())
    assert asked.counts.rows() == [
        ("repeated-question", 41, 1, 40),
        ("seen-in-training", 40, 5, 35),
    ]
    assert asked.rows["id"].to_list() == twins["id"][5:].to_list()


def test_the_same_seed_draws_the_same_rows() -> None:
    first, again, other = make(), make(), make(seed=1)
    assert first["data"].equals(again["data"])
    drawn = {"family": "sft", "arm": "original"}
    assert not first["data"].filter(**drawn).equals(other["data"].filter(**drawn))
