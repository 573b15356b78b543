"""Min-K % and Min-K%++ of many texts: the mean over the tokens that the model finds unlikeliest.

Min-K % (Shi et al. 2023, arXiv 2310.16789) is the mean log-probability of the lowest 20 % of a
text's tokens; Min-K%++ (Zhang et al. 2024, arXiv 2404.02936) first normalises each by its mean and
standard deviation over the vocabulary at that position. As in mimir (iamgroot42/mimir,
`attacks/min_k.py`), 20 % of n tokens are int(0.2 n), but at least one.
"""

from typing import Any

import numpy as np

from alignment_extraction.engine.scoring import TokenScores

Array = np.ndarray[Any, Any]


def lowest_mean(values: Array, starts: Array, lengths: Array, share: float = 0.2) -> Array:
    """Mean of the lowest `share` of each text's values, float64 (texts,); NaN of none.

    Text i has the `lengths[i]` entries of `values` from `starts[i]` on; starts ascend.
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

    A token that the model gives all probability to has a deviation of 0, and the value 0.
    """
    assert scores.means is not None
    assert scores.deviations is not None
    deviations = scores.deviations.astype(np.float64)
    centred = scores.log_probabilities.astype(np.float64) - scores.means
    values: Array = np.divide(centred, deviations, out=np.zeros_like(centred), where=deviations > 0)
    return values
