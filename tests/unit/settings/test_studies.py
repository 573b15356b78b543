"""Studies: which conditions they sample, and mistakes in them."""

from typing import Any

import pytest

from alignment_extraction.settings.studies import LiteralPrefix, StudySettings
from alignment_extraction.vocabulary import Condition

PAPER = {"name": "paper", "text": "<|user|>"}
STUDY: dict[str, Any] = {
    "title": "x",
    "models": ["a", "b"],
    "corpus": "c",
    "embedder": "e",
    "prefixes": ["user", PAPER],
    "sampling": {"samples": 10},
}


def study(**changes: Any) -> StudySettings:
    return StudySettings.model_validate({**STUDY, **changes})


def test_without_conditions_every_model_is_sampled_at_every_prefix() -> None:
    plain = study(seeds=[0, 3])
    assert plain.all_conditions() == [
        Condition(model, prefix, seed)
        for model in ("a", "b")
        for prefix in ("user", "paper")
        for seed in (0, 3)
    ]
    assert {plain.sampling_of(c).samples for c in plain.all_conditions()} == {10}
    assert plain.prefix_of(Condition("a", "paper", 0)) == LiteralPrefix(**PAPER)


def test_conditions_replace_the_grid_and_have_sampling_of_their_own() -> None:
    given = study(
        conditions=[
            {"models": ["a"], "prefixes": ["user"], "sampling": {"samples": 99}},
            {
                "models": ["a"],
                "prefixes": ["user"],
                "name": "t0.7",
                "sampling": {"temperature": 0.7},
            },
        ],
        likelihood={"models": ["a", "b"]},
    )
    first, second = given.all_conditions()
    assert (first, second) == (Condition("a", "user", 0), Condition("a", "user-t0.7", 0))
    assert [given.sampling_of(c).samples for c in (first, second)] == [99, 10]
    assert [given.sampling_of(c).temperature for c in (first, second)] == [1, 0.7]
    assert [given.sampling_of(c).plain for c in (first, second)] == [True, False]
    assert given.prefix_of(second) == "user"
    assert given.sampled_models == ("a",)
    assert given.used_models == ("a", "b")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"models": ["c"], "prefixes": ["user"]}, "conditions.1.models: .c. is not in `models`"),
        ({"models": ["b"], "prefixes": ["full"]}, "'full' is not in `prefixes`"),
        ({"models": ["b"], "prefixes": ["user"], "sampling": {"x": 1}}, "sampling: x: unknown key"),
        ({"models": ["a"], "prefixes": ["user"]}, "a at prefix user is there already"),
    ],
)
def test_mistakes_in_conditions(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        study(conditions=[{"models": ["a"], "prefixes": ["user"]}, entry])


def test_likelihood_is_taken_after_a_prefix_of_the_study() -> None:
    with pytest.raises(ValueError, match=r"likelihood\.prefix: .full. is not in `prefixes`"):
        study(likelihood={"models": ["a"], "prefix": "full"})
