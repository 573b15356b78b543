"""Populations of items with known chances of being hit, to check what is said of the unseen."""

import numpy as np


def _scaled(weights: np.ndarray, mass: float) -> np.ndarray:
    return mass * weights / weights.sum()


POPULATIONS = {
    "uniform, 500 items": np.full(500, 0.5 / 500),
    "Zipf, exponent 0.7, 2,000 items": _scaled(np.arange(1.0, 2001) ** -0.7, 0.2),
    "Zipf, exponent 1, 5,000 items": _scaled(np.arange(1.0, 5001) ** -1, 0.5),
    "Zipf, exponent 1.3, 5,000 items": _scaled(np.arange(1.0, 5001) ** -1.3, 0.3),
    "log-normal, 1,000 items": _scaled(np.exp(np.random.default_rng(1).normal(0, 2, 1000)), 0.3),
    "20 often and 1,000 seldom": np.r_[np.full(20, 0.01), np.full(1000, 0.0001)],
    "geometric, 400 items": _scaled(0.97 ** np.arange(400), 0.4),
}
"""The chance of each item to be hit by one sample; with what is left a sample hits none."""


def draw(population: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Hits of each item in so many samples."""
    return rng.multinomial(samples, np.r_[population, 1 - population.sum()])[:-1]
