"""Drawing tokens: against the softmax, llama.cpp's own samplers and brute force."""

import llama_cpp
import numpy as np
import pytest
from scipy import stats

from alignment_extraction.engine.sampler import Sampler, uniforms
from alignment_extraction.files import InputError

N_VOCAB = 1000


@pytest.fixture(scope="module")
def logits():
    """Rows with long tails, ties, near-certainty and a vocabulary of no round size."""
    rng = np.random.default_rng(0)
    rows = rng.normal(0, [[1], [3], [8]], (3, N_VOCAB))
    tied = np.repeat(np.arange(10.0), N_VOCAB // 10)[None]
    return np.concatenate([rows, rng.permuted(tied, axis=1)]).astype(np.float32)


def softmax(row):
    weights = np.exp(row.astype(np.float64) - row.max())
    return weights / weights.sum()


def draw_at(row, numbers, **options):
    """The tokens that one row and each of `numbers` lead to."""
    sampler = Sampler(len(row), **options)
    tokens, _ = sampler.draw(np.broadcast_to(row, (len(numbers), len(row))), numbers)
    return tokens


def llama_cpp_probabilities(row, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """The distribution that llama.cpp's own sampler chain draws from, float64 (n_vocab,)."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for sampler in (
        llama_cpp.llama_sampler_init_top_k(top_k),
        llama_cpp.llama_sampler_init_top_p(top_p, 1),
        llama_cpp.llama_sampler_init_min_p(min_p, 1),
        llama_cpp.llama_sampler_init_temp(temperature),
        llama_cpp.llama_sampler_init_dist(0),  # turns the logits left into probabilities
    ):
        llama_cpp.llama_sampler_chain_add(chain, sampler)
    data = (llama_cpp.llama_token_data * len(row))(
        *((token, float(logit), 0.0) for token, logit in enumerate(row))
    )
    candidates = llama_cpp.llama_token_data_array(data, len(row), -1, False)
    llama_cpp.llama_sampler_apply(chain, candidates)
    result = np.zeros(len(row))
    for i in range(candidates.size):
        result[candidates.data[i].id] = candidates.data[i].p
    llama_cpp.llama_sampler_free(chain)
    return result


CHAINS = [
    {},
    {"temperature": 0.5},
    {"temperature": 1.7},
    {"top_k": 1},
    {"top_k": 7},
    {"top_p": 0.3},
    {"top_p": 0.95},
    {"top_p": 0.9999},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"top_k": 40, "top_p": 0.9, "min_p": 0.1, "temperature": 0.8},
    {"top_p": 0.8, "min_p": 0.02, "temperature": 2.0},
    {"top_k": 20, "top_p": 0.5},
]


@pytest.mark.parametrize("options", CHAINS, ids=str)
@pytest.mark.parametrize("row", [0, 1, 2])
def test_agrees_with_llama_cpp(logits, row, options) -> None:
    """Each token owns the part of [0, 1) that llama.cpp's probabilities give it, and no other."""
    expected = llama_cpp_probabilities(logits[row], **options)
    assert expected.sum() == pytest.approx(1, abs=1e-5)
    ends = expected.cumsum() / expected.sum()
    starts = ends - expected / expected.sum()
    kept = np.flatnonzero(expected > 1e-5)  # below, float32 has the word
    margin = np.minimum(2e-6, expected[kept] / 4)
    for numbers in (starts[kept] + margin, ends[kept] - margin):
        assert draw_at(logits[row], numbers, **options).tolist() == kept.tolist()


@pytest.mark.parametrize("options", CHAINS, ids=str)
def test_ties_keep_the_same_mass(logits, options) -> None:
    """Of equal tokens the one to be cut is free, but how many are kept is not."""
    # 0.9 of 40 equal tokens is 36 of them exactly, which rounding makes 37 in llama.cpp's float32.
    if "top_p" in options:
        options = {**options, "top_p": options["top_p"] - 0.01}
    draws = 5000
    tokens = draw_at(logits[3], (np.arange(draws) + 0.5) / draws, **options)
    found = np.sort(np.bincount(tokens, minlength=N_VOCAB) / draws)
    expected = np.sort(llama_cpp_probabilities(logits[3], **options))
    np.testing.assert_allclose(found, expected, atol=1.1 / draws)


def test_softmax_by_chi_square(logits) -> None:
    draws = 20_000
    numbers = np.array([uniforms(7, i, 1)[0] for i in range(draws)])
    for row in logits:
        sampler = Sampler(N_VOCAB)
        tokens, _ = sampler.draw(np.broadcast_to(row, (draws, N_VOCAB)), numbers)
        expected = draws * softmax(row)
        order = np.argsort(-expected)
        likely = order[expected[order] >= 5]
        observed = np.bincount(tokens, minlength=N_VOCAB)
        rest = draws - observed[likely].sum(), draws - expected[likely].sum()
        test = stats.chisquare(
            [*observed[likely], rest[0]], [*expected[likely], rest[1]] if rest[1] > 0 else None
        )
        assert test.pvalue > 1e-3


def test_log_probabilities_are_the_models_own(logits) -> None:
    for options in ({}, {"temperature": 0.3, "top_k": 5}, {"temperature": 0.0}):
        sampler = Sampler(N_VOCAB, **options)
        tokens, found = sampler.draw(logits, np.full(len(logits), 0.4))
        expected = [np.log(softmax(row)[t]) for row, t in zip(logits, tokens, strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_greedy_takes_the_first_of_equals(logits) -> None:
    tokens, _ = Sampler(N_VOCAB, temperature=0).draw(logits, np.full(len(logits), 0.99))
    assert tokens.tolist() == [int(np.argmax(row)) for row in logits]
    assert tokens.dtype == np.int32


@pytest.mark.parametrize("n_vocab", [1, 2, 255, 256, 257, 49152])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"top_p": 0.9}], ids=str)
def test_against_brute_force(n_vocab, options) -> None:
    """Any size of vocabulary, number of rows and threads: cumulative sums of all of it."""
    rng = np.random.default_rng(n_vocab)
    rows = rng.normal(0, 4, (19, n_vocab)).astype(np.float32)
    numbers = np.concatenate([[0.0, np.nextafter(1, 0)], rng.random(17)])
    one, many = Sampler(n_vocab, **options), Sampler(n_vocab, threads=3, **options)
    tokens, log_probabilities = one.draw(rows, numbers)
    again, log_again = many.draw(rows, numbers)
    many.close()
    assert (tokens == again).all()
    assert (log_probabilities == log_again).all()
    if "top_p" in options:
        return
    for row, number, token in zip(rows, numbers, tokens, strict=True):
        weights = np.exp((row.astype(np.float64) - row.max()) / options.get("temperature", 1))
        cumulative = weights.cumsum() / weights.sum()
        below = cumulative[token - 1] if token else 0.0
        assert below - 1e-5 <= number <= cumulative[token] + 1e-5


def test_a_row_depends_on_nothing_but_itself(logits) -> None:
    rows = np.tile(logits, (20, 1))
    numbers = np.random.default_rng(1).random(len(rows))
    for options in ({}, {"top_p": 0.9, "temperature": 0.8}):
        sampler = Sampler(N_VOCAB, threads=2, **options)
        together = sampler.draw(rows, numbers)
        alone = [sampler.draw(rows[i : i + 1], numbers[i : i + 1]) for i in range(len(rows))]
        assert together[0].tolist() == [int(tokens[0]) for tokens, _ in alone]
        assert together[1].tolist() == [float(values[0]) for _, values in alone]
        sampler.close()


def test_a_token_without_weight_is_never_drawn() -> None:
    row = np.full((2, 600), -200.0, np.float32)
    row[:, [300, 599]] = 0
    tokens, log_probabilities = Sampler(600).draw(row, np.array([0.0, np.nextafter(1, 0)]))
    assert tokens.tolist() == [300, 599]
    np.testing.assert_allclose(log_probabilities, -np.log(2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers(bad) -> None:
    row = np.zeros((1, 10), np.float32)
    row[0, 3] = bad
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(FloatingPointError, match="NaN or an infinity"),
    ):
        Sampler(10).draw(row, np.array([0.5]))


def test_uniforms_come_from_seed_and_index_alone() -> None:
    assert uniforms(1, 2, 5).tolist() == uniforms(1, 2, 9)[:5].tolist()
    assert uniforms(1, 2, 5).tolist() != uniforms(2, 1, 5).tolist()
    many = np.concatenate([uniforms(0, i, 50) for i in range(400)])
    assert stats.kstest(many, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(uniforms(0, 0, 10_000), uniforms(0, 1, 10_000))[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature must be at least 0 and finite, not -0.1"),
        ({"temperature": float("inf")}, "temperature must be .* not inf"),
        ({"temperature": float("nan")}, "temperature must be .* not nan"),
        ({"top_k": -1}, "top_k must be at least 0 .* not -1"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, not 0"),
        ({"top_p": 1.5}, "top_p must be .* not 1.5"),
        ({"min_p": -0.5}, "min_p must be at least 0 and at most 1, not -0.5"),
        ({"min_p": 1.01}, "min_p must be .* not 1.01"),
    ],
)
def test_values_out_of_range(options, message) -> None:
    with pytest.raises(InputError, match=message):
        Sampler(10, **options)
