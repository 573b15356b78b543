"""Membership: scikit-learn's AUC and ROC, closed forms, coverage by simulation."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from alignment_extraction.likelihoods.membership import (
    ATTACKS,
    allowed,
    attack_scores,
    auc_intervals,
    least_held_out,
    membership,
    true_positive_rate,
)

SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


@given(SCORES, SCORES)
def test_auc_is_scikit_learns(members: list[int], held_out: list[int]) -> None:
    found = auc_intervals(np.array([members]), np.array([held_out]), seed=0, draws=20)
    labels = [1] * len(members) + [0] * len(held_out)
    assert found.estimate[0] == pytest.approx(roc_auc_score(labels, members + held_out))
    assert 0 <= found.low[0] <= found.high[0] <= 1


@given(SCORES, st.lists(st.integers(-5, 5), min_size=1, max_size=300))
def test_true_positive_rate_is_scikit_learns(members: list[int], held_out: list[int]) -> None:
    found = true_positive_rate(np.array(members), np.array(held_out))
    labels = [1] * len(members) + [0] * len(held_out)
    fpr, tpr, _ = roc_curve(labels, members + held_out, drop_intermediate=False)
    assert found.estimate == pytest.approx(tpr[fpr <= 0.01].max())
    assert found.low <= found.estimate <= found.high


def test_a_resample_weighs_items_as_if_they_were_copied() -> None:
    """The bootstrap's shortcut against resampled scores and scikit-learn."""
    rng = np.random.default_rng(0)
    members, held_out = rng.integers(0, 9, (2, 40)).astype(float), rng.normal(3, 3, (2, 25))
    found = auc_intervals(members, held_out, seed=5, draws=150)
    stream = np.random.default_rng(5)
    first = stream.integers(0, 40, (150, 40))
    second = stream.integers(0, 25, (150, 25))
    labels = [1] * 40 + [0] * 25
    for attack in range(2):
        aucs = [
            roc_auc_score(labels, [*members[attack, ours], *held_out[attack, theirs]])
            for ours, theirs in zip(first, second, strict=True)
        ]
        np.testing.assert_allclose(
            [found.low[attack], found.high[attack]], np.quantile(aucs, [0.025, 0.975])
        )


def test_auc_intervals_cover() -> None:
    """Normal scores a distance d apart have an AUC of Phi(d / sqrt 2)."""
    rng = np.random.default_rng(0)
    for distance in (0.0, 1.0):
        truth = norm.cdf(distance / np.sqrt(2))
        runs = 400
        covered = 0
        for run in range(runs):
            found = auc_intervals(
                rng.normal(distance, 1, (1, 80)), rng.normal(0, 1, (1, 60)), run, draws=300
            )
            covered += found.low[0] <= truth <= found.high[0]
        # 95 % less three standard errors and the percentile bootstrap's shortfall of about 1 %.
        assert covered / runs >= 0.905


@pytest.mark.parametrize("held_out", [50, 160, 1000])
def test_true_positive_rate_covers(held_out: int) -> None:
    """Normal scores: at a false positive rate of 1 % the rate is 1 - Phi(z(0.99) - d)."""
    rng = np.random.default_rng(held_out)
    truth = norm.sf(norm.isf(0.01) - 2)
    runs = 1000
    covered = 0
    for _ in range(runs):
        found = true_positive_rate(rng.normal(2, 1, 200), rng.normal(0, 1, held_out))
        covered += found.low <= truth <= found.high
    assert covered / runs >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)


def test_perfect_order_is_not_certain() -> None:
    found = auc_intervals(np.array([[2.0, 3, 4], [0, 0, 0]]), np.array([[1.0] * 5, [1] * 5]), 0)
    assert found.estimate.tolist() == [1, 0]
    # Wilson's bound for 3 of 3: 3 / (3 + z^2).
    bound = 3 / (3 + norm.isf(0.025) ** 2)
    assert found.low.tolist() == [pytest.approx(bound), 0]
    assert found.high.tolist() == [1, pytest.approx(1 - bound)]


def test_few_held_out_items_bound_nothing_from_below() -> None:
    assert [allowed(n) for n in (1, 99, 100, 160, 300, 1000)] == [0, 0, 1, 1, 3, 10]
    members = np.full(500, 10.0)
    assert least_held_out() == 437
    for count, bounded in ((436, False), (437, True)):
        found = true_positive_rate(members, np.zeros(count))
        assert found.estimate == 1
        assert (found.low > 0) == bounded


def likelihoods(groups: dict[str, tuple[str, int]], shift: float = 0.0) -> pl.DataFrame:
    """Random items of each group: name -> (role, count); members gain `shift` nats a token."""
    rng = np.random.default_rng(1)
    frames = []
    for group, (role, count) in groups.items():
        tokens = rng.integers(5, 30, count)
        before = rng.normal(-2, 0.5, count)
        after = before + 0.3 + shift * (role == "member") + rng.normal(0, 0.1, count)
        for template in (True, False):
            frame = pl.DataFrame(
                {
                    "id": [f"{group}/{i}" for i in range(count)],
                    "group": group,
                    "role": role,
                    "instance_of": None,
                    "template": template,
                    "target": "question",
                    "tokens": tokens,
                    "zlib_bytes": tokens * 3,
                    "before": before * tokens,
                    "after": after * tokens,
                    **{
                        f"{side}_{attack}": rng.normal(-5, 1, count)
                        for side in ("before", "after")
                        for attack in ("min_k", "min_k_plus_plus")
                    },
                }
            )
            frames.append(frame.with_columns(pl.col("instance_of").cast(pl.String)))
    return pl.concat(frames)


GROUPS = {
    "sft.member": ("member", 60),
    "sft.fresh-instance": ("held-out", 30),
    "sft.held-out-template": ("held-out", 20),
    "rl.member": ("member", 10),
    "rl.fresh-instance": ("held-out", 10),
    "other": ("unknown", 10),
}


def test_every_member_group_meets_the_held_out_groups_of_its_source() -> None:
    table = membership(likelihoods(GROUPS, shift=0.3), seed=0)
    pairs = set(table.select("group", "control", "members", "held_out").iter_rows())
    assert pairs == {
        ("sft.member", "sft.fresh-instance", 60, 30),
        ("sft.member", "sft.held-out-template", 60, 20),
        ("rl.member", "rl.fresh-instance", 10, 10),
    }
    sides = set(table.select("side", "attack").iter_rows())
    assert sides == {(s, a) for s in ("before", "after") for a in ATTACKS} - {("before", "ref")}
    assert table.height == 3 * 2 * 9
    # Training moved the members alone: the reference attack sees it, the model before does not.
    ref = table.filter(attack="ref", group="sft.member")
    assert (ref["auc_low"] > 0.8).all()
    before = table.filter(side="before", attack="loss", group="sft.member")
    assert (before["auc_low"] < 0.6).all()
    assert (before["auc_high"] > 0.5).all()


def test_another_sources_held_out_items_stand_in() -> None:
    table = membership(
        likelihoods({"a.member": ("member", 9), "b": ("held-out", 5), "c": ("held-out", 4)}), seed=0
    )
    assert set(table["control"]) == {"b", "c"}


def test_like_is_compared_with_like() -> None:
    """Members of templates that the held-out group lacks are left out, where it shares any."""
    names = [f"template {i}" for i in range(5)]
    frame = likelihoods(GROUPS).with_columns(
        instance_of=pl.when(group="sft.member")
        .then(pl.lit("template ") + (pl.col("id").str.extract(r"(\d+)$").cast(int) % 5).cast(str))
        .when(group="sft.fresh-instance")
        .then(pl.lit("template ") + (pl.col("id").str.extract(r"(\d+)$").cast(int) % 3).cast(str))
    )
    assert set(frame["instance_of"].drop_nulls()) == set(names)
    table = membership(frame, seed=0)
    counts = table.select("group", "control", "templates", "members", "held_out").unique()
    assert set(counts.iter_rows()) == {
        ("sft.member", "sft.fresh-instance", 3, 36, 30),
        ("sft.member", "sft.held-out-template", 0, 60, 20),
        ("rl.member", "rl.fresh-instance", 0, 10, 10),
    }


def test_nothing_held_out_gives_no_rows() -> None:
    table = membership(likelihoods({"a": ("member", 9), "b": ("unknown", 5)}), seed=0)
    assert table.is_empty()
    assert "auc_low" in table.columns


def test_texts_that_did_not_fit_are_left_out() -> None:
    frame = likelihoods(GROUPS).with_columns(
        after=pl.when(pl.col("id") == "sft.member/0").then(None).otherwise("after")
    )
    assert set(membership(frame, 0).filter(group="sft.member")["members"]) == {59}


def test_membership_is_seeded() -> None:
    frame = likelihoods(GROUPS)
    assert membership(frame, 1).equals(membership(frame, 1))
    assert not membership(frame, 1).equals(membership(frame, 2))


def test_attacks_are_mimirs() -> None:
    """mimir's scores are losses: loss, loss - loss of the reference, loss / zlib bytes."""
    frame = likelihoods(GROUPS)
    scores = attack_scores(frame)
    for i, row in enumerate(frame.head(20).iter_rows(named=True)):
        loss = -row["after"] / row["tokens"]
        assert scores["after", "loss"][i] == pytest.approx(-loss)
        assert scores["after", "zlib"][i] == pytest.approx(-loss / row["zlib_bytes"])
        reference = -row["before"] / row["tokens"]
        assert scores["after", "ref"][i] == pytest.approx(-(loss - reference))
        assert scores["before", "min_k"][i] == row["before_min_k"]
