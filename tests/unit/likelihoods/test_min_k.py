"""Min-K % and Min-K%++ against a loop over texts, as mimir has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_extraction.engine.scoring import TokenScores
from alignment_extraction.likelihoods.min_k import lowest_mean, normalised

TEXTS = st.lists(
    st.tuples(st.lists(st.floats(-20, 0, width=32), max_size=40), st.integers(0, 3)), min_size=1
)


def plain(values: list[float], share: float) -> float:
    """mimir's attacks/min_k.py with a window of one token, and at least one token."""
    if not values:
        return np.nan
    return float(np.mean(sorted(values)[: max(1, int(len(values) * share))]))


@given(TEXTS, st.sampled_from([0.1, 0.2, 0.5, 1.0]))
def test_lowest_mean_is_that_of_a_loop(texts: list[tuple[list[float], int]], share: float) -> None:
    # What ends a text follows it and is not its own.
    values = np.concatenate([[*text, *[-99.0] * ends] for text, ends in texts])
    sizes = np.array([len(text) + ends for text, ends in texts])
    starts = np.cumsum(sizes) - sizes
    lengths = np.array([len(text) for text, _ in texts])
    found = lowest_mean(values, starts, lengths, share)
    np.testing.assert_allclose(found, [plain(text, share) for text, _ in texts], rtol=1e-6)


def test_a_fifth_of_the_tokens() -> None:
    values = np.array([-1.0, -5, -2, -3, -4, -6, -7, -8, -9, -10])
    assert lowest_mean(values, np.array([0]), np.array([10]))[0] == -9.5
    assert lowest_mean(values, np.array([0]), np.array([9]))[0] == -9
    assert lowest_mean(values, np.array([0]), np.array([4]))[0] == -5


def test_normalised() -> None:
    scores = TokenScores(
        np.array([-1.0, -3.0, 0.0], np.float32),
        np.array([0, 3]),
        np.array([-2.0, -2.0, 0.0], np.float32),
        np.array([0.5, 2.0, 0.0], np.float32),
    )
    assert normalised(scores).tolist() == [2, -0.5, 0]


def test_scores_need_their_moments() -> None:
    with pytest.raises(AssertionError):
        normalised(TokenScores(np.zeros(1, np.float32), np.array([0, 1])))
