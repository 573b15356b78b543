"""How often the interval of a prediction holds what ten times the samples then bring.

    python benchmarks/extrapolation.py    # about a minute

The peer is extrapolation to Chao1's asymptote (Colwell et al. 2012, equation 9), as iNEXT does it,
which gives its new items as a share of those that came.
"""

import numpy as np
from alignment_extraction.extraction.unseen import chao1, extrapolate
from record import write
from tests.populations import POPULATIONS, draw

FACTOR = 10
SAMPLES = (200, 1000, 5000)
RUNS = 200


def asymptotic(counts: np.ndarray, samples: int) -> float:
    """New items in `FACTOR` times the samples by equation 9 of Colwell et al. 2012."""
    unseen = chao1(counts, samples).estimate - (counts > 0).sum()
    if not unseen:
        return 0.0
    f1 = (counts == 1).sum()
    more = (FACTOR - 1) * samples
    return float(unseen * -np.expm1(more * np.log1p(-f1 / (samples * unseen + f1))))


def measure(population: np.ndarray, samples: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    inside, ours, peers, came = 0, [], [], []
    for _ in range(RUNS):
        counts = draw(population, samples, rng)
        distinct = int((counts > 0).sum())
        later = counts + draw(population, (FACTOR - 1) * samples, rng)
        found = extrapolate(counts, samples, FACTOR)
        inside += found.low <= (later > 0).sum() <= found.high
        ours.append(found.estimate - distinct)
        peers.append(asymptotic(counts, samples))
        came.append((later > 0).sum() - distinct)
    return {
        "intervals that hold the truth": inside / RUNS,
        "new items predicted over those that came": round(np.mean(ours) / np.mean(came), 2),
        "the peer's": round(np.mean(peers) / np.mean(came), 2),
    }


if __name__ == "__main__":
    figures = {
        name: {f"{samples} samples": measure(population, samples) for samples in SAMPLES}
        for name, population in POPULATIONS.items()
    }
    write("extrapolation", {"runs": RUNS, "factor": FACTOR, **figures})
