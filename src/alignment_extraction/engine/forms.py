"""What another form of a model's weights is worth on this machine.

    faster = faster_form(Path("model.gguf"), measure(model, prefix, texts), prefix, texts)

llama.cpp has fast kernels for some types of weights on some processors and slow ones for others, so
that a larger file can draw faster: SmolLM2-135M in Q8_0 draws about twice the tokens of its Q4_1.
"""

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from alignment_extraction.engine.context import Context
from alignment_extraction.engine.model import Model
from alignment_extraction.engine.quantisation import quantise
from alignment_extraction.engine.sampling import sample
from alignment_extraction.engine.scoring import score

FAST = "Q8_0"  # the form that is tried
_SLOTS, _TOKENS = 64, 12  # sequences that are drawn at once, and tokens of each


class Form(NamedTuple):
    """What a file of a model's weights does on this machine."""

    read: float  # tokens per second, in log-likelihoods
    drawn: float  # tokens per second, with all slots full
    log_likelihoods: npt.NDArray[np.float64]  # of the texts that were read, nats
    first: npt.NDArray[np.float64]  # probability of each token behind the prefix, (n_vocab,)

    def beside(self, given: Self) -> str:
        """What it is worth beside the weights as they are, in words."""
        change = np.abs(self.log_likelihoods - given.log_likelihoods)
        return (
            f"{FAST} draws {self.drawn / given.drawn:.1f} times as fast here; a text's "
            f"log-likelihood changes by {change.mean():.2f} nats in the mean, {change.max():.2f} "
            "at most"
        )


def measure(
    model: Model,
    prefix: Sequence[int],
    texts: Sequence[Sequence[int]],
    *,
    seconds: float = math.inf,
) -> Form:
    """Read texts, tokens of each after a prefix, for about so many seconds, and draw some.

    Two are read first, then twice as many: a large model reads one in seconds.
    """
    sums: list[float] = []
    begin, size = time.perf_counter(), 2
    while len(sums) < len(texts) and time.perf_counter() - begin < seconds:
        some = texts[len(sums) : len(sums) + size]
        sums += score(model, [(prefix, text) for text in some]).sums().tolist()
        size *= 2
    read = sum(map(len, texts[: len(sums)])) / (time.perf_counter() - begin)
    # No token ends a turn, so that every slot is busy to the end.
    ends, model.eog = model.eog, frozenset()
    begin = time.perf_counter()
    try:
        sample(model, prefix, _SLOTS, seed=0, max_tokens=_TOKENS, slots=_SLOTS)
    finally:
        model.eog = ends
    drawn = _SLOTS * _TOKENS / (time.perf_counter() - begin)
    return Form(read, drawn, np.array(sums), next_token(model, prefix))


def faster_form(
    path: Path,
    given: Form,
    prefix: Sequence[int],
    texts: Sequence[Sequence[int]],
    *,
    samples: int = 1000,
    threads: int | None = None,
) -> Form | None:
    """A model in `FAST`, if that is faster here and no sample could tell it from the first.

    It has to draw a fifth faster and to read no slower, and to change what comes first after the
    prefix by less, in total variation, than `samples` draws vary. Models of over 1 GB, which would
    take long to turn, are not tried. `given` was measured of the GGUF, with `prefix` and `texts`.
    """
    if path.stat().st_size > 1 << 30:
        return None
    with tempfile.TemporaryDirectory(dir=".") as folder:
        other = Path(folder) / "model.gguf"
        quantise(path, other, FAST, threads or 0)
        with Model(other, threads=threads) as model:
            form = measure(model, prefix, texts[: len(given.log_likelihoods)])
    # E|X/n - p| of a binomial, by the normal approximation.
    spread = np.sqrt(2 * given.first * (1 - given.first) / (np.pi * samples))
    noise = np.minimum(spread, 2 * given.first).sum()
    gap = np.abs(form.first - given.first).sum()  # none if it is in that form already
    faster = form.drawn > 1.2 * given.drawn and form.read > given.read
    return form if faster and 0 < gap <= noise else None


def next_token(model: Model, prefix: Sequence[int]) -> npt.NDArray[np.float64]:
    """The model's probabilities of what follows `prefix`, float64 (n_vocab,)."""
    size = len(prefix)
    with Context(model, sequences=1, positions=size, batch=size, outputs=1) as context:
        context.tokens[:] = prefix
        context.positions[:] = np.arange(size)
        context.wanted[:] = 0
        context.wanted[-1] = 1
        context.decode(size)
        logits = context.logits(1)[0].astype(np.float64)
    weights = np.exp(logits - logits.max())
    probabilities: npt.NDArray[np.float64] = weights / weights.sum()
    return probabilities
