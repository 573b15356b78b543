"""Min-K % and Min-K%++ of many texts: the mean over the tokens that the model finds unlikeliest.

A text that was trained on has few tokens of very low probability. Min-K % (Shi et al. 2023, arXiv
2310.16789) is the mean log-probability of the lowest 20 % of a text's tokens. Min-K%++ (Zhang et
al. 2024, arXiv 2404.02936) first normalises each log-probability by its mean and
standard deviation over the vocabulary at that position. As in mimir (iamgroot42/mimir,
`attacks/min_k.py`), 20 % of n tokens are int(0.2 n); here at least one, so that texts of fewer
than five tokens have a score too.
"""

from typing import Any

import numpy as np

from alignment_extraction.engine.scoring import TokenScores

SHARE = 0.2
"""Share of a text's tokens that is averaged: mimir's default."""

Array = np.ndarray[Any, Any]


def lowest_mean(values: Array, starts: Array, lengths: Array, share: float = SHARE) -> Array:
    """Mean of the lowest values of each text.

    Args:
        values: one for each token, shape (tokens,).
        starts: where each text begins in `values`, ascending, shape (texts,).
        lengths: its number of tokens; what follows up to the next start belongs to no text.
        share: of the tokens that is averaged, rounded down, at least one token.

    Returns:
        float64 (texts,); NaN for a text without tokens.
    """
    text = np.repeat(np.arange(len(lengths)), lengths)
    firsts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    within = np.arange(len(text)) - firsts[text]
    own = np.asarray(values, np.float64)[np.asarray(starts)[text] + within]
    # Sorted by text and value, a token's place within its text is its rank there.
    own = own[np.lexsort((own, text))]
    counts = np.maximum(1, (share * np.asarray(lengths)).astype(np.int64))
    lowest = within < counts[text]
    means: Array = np.bincount(text[lowest], own[lowest], len(lengths)) / counts
    means[np.asarray(lengths) == 0] = np.nan
    return means


def normalised(scores: TokenScores) -> Array:
    """(log p - mean) / deviation of every token, float64 (tokens,): what Min-K%++ averages.

    A token that the model gives all probability to has a deviation of 0 and is as likely as
    expected: its value is 0.

    Args:
        scores: with `means` and `deviations`.
    """
    assert scores.means is not None
    assert scores.deviations is not None
    deviations = scores.deviations.astype(np.float64)
    centred = scores.log_probabilities.astype(np.float64) - scores.means
    values: Array = np.divide(centred, deviations, out=np.zeros_like(centred), where=deviations > 0)
    return values
