"""Drawing tokens: one from each row of a block of logits, all rows in one pass.

    sampler = Sampler(n_vocab, top_p=0.95)
    tokens, log_probabilities = sampler.draw(logits, numbers)  # float32 (rows, n_vocab), (rows,)

A token is the inverse of the distribution function at a uniform number, so it is a function of its
own row and of that number alone.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from alignment_extraction.files import InputError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.int32]

_BLOCK = 256  # entries of the vocabulary whose weights are summed at once
CACHE = 1 << 17  # logits handled at a time: 512 KiB, so that they stay in a core's cache


class Sampler:
    """Draws one token from each row of a block of logits.

    In the order of llama.cpp's own chain: top_k, top_p and min_p on the model's distribution, then
    the temperature on what is left.
    """

    def __init__(
        self,
        n_vocab: int,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        threads: int = 1,
    ) -> None:
        """Check the parameters and allocate the work space; `InputError` names one out of range.

        Args:
            n_vocab: columns of the logits.
            temperature: at least 0; 0 takes the likeliest token (the first of equals).
            top_k: keep the k likeliest tokens; 0 keeps all.
            top_p: keep the fewest likeliest tokens whose probabilities reach it; in (0, 1].
            min_p: keep tokens of at least this share of the likeliest one's probability; [0, 1].
            threads: rows are shared out over this many threads.
        """
        if not 0 <= temperature < float("inf"):
            raise InputError(f"temperature must be at least 0 and finite, not {temperature}")
        if top_k < 0:
            raise InputError(f"top_k must be at least 0 (0 keeps every token), not {top_k}")
        if not 0 < top_p <= 1:
            raise InputError(f"top_p must be above 0 and at most 1, not {top_p}")
        if not 0 <= min_p <= 1:
            raise InputError(f"min_p must be at least 0 and at most 1, not {min_p}")
        self.temperature = temperature
        self.top_k = top_k if top_k < n_vocab else 0
        self.top_p = top_p
        self.min_p = min_p
        self.n_vocab = n_vocab
        self._cuts = self.top_k > 0 or top_p < 1 or min_p > 0
        # Whether the weights that tokens are drawn by are others than softmax's.
        self._reshapes = temperature != 0 and (temperature != 1 or self._cuts)
        self._rows = max(1, CACHE // n_vocab)
        self._width = -(-n_vocab // _BLOCK) * _BLOCK
        # The columns beyond the vocabulary stay 0 for ever.
        self._work = [np.zeros((self._rows, self._width), np.float32) for _ in range(threads)]
        self._kept = np.zeros((0, self._width), np.float32)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def draw(self, logits: Floats, uniforms: Doubles) -> tuple[Tokens, Doubles]:
        """One token a row, a function of its own logits and uniform number alone.

        Args:
            logits: float32 (rows, n_vocab).
            uniforms: float64 (rows,) in [0, 1).

        Returns:
            The tokens, int32 (rows,), and their log-probabilities under softmax(logits), float64
            (rows,), nats: before temperature and truncation.

        Raises:
            FloatingPointError: the logits hold a NaN or an infinity.
        """
        rows = len(logits)
        top = np.empty((rows, 1), np.float32)
        normaliser = np.empty(rows, np.float64)
        sums = np.empty((rows, self._width // _BLOCK), np.float64)
        if self._reshapes and len(self._kept) < rows:
            self._kept = np.zeros((rows, self._width), np.float32)

        def part(worker: int) -> None:
            for start in range(worker * self._rows, rows, len(self._work) * self._rows):
                these = slice(start, min(rows, start + self._rows))
                some = logits[these]
                work = self._kept[these] if self._reshapes else self._work[worker][: len(some)]
                weights = work[:, : self.n_vocab]
                np.max(some, axis=1, keepdims=True, out=top[these])
                np.subtract(some, top[these], out=weights)
                np.exp(weights, out=weights)
                blocks = work.reshape(len(some), -1, _BLOCK)
                sums[these] = np.einsum("ijk->ij", blocks)
                normaliser[these] = np.log(sums[these].sum(axis=1))
                if self._reshapes:
                    for row in weights if self._cuts else ():
                        self._truncate(row)
                    if self.temperature != 1:
                        np.power(weights, np.float32(1 / self.temperature), out=weights)
                    sums[these] = np.einsum("ijk->ij", blocks)

        if self._pool is None or rows <= self._rows:
            for worker in range(len(self._work)):
                part(worker)
        else:
            list(self._pool.map(part, range(len(self._work))))
        each = np.arange(rows)
        if self.temperature == 0:
            tokens = logits.argmax(axis=1)
        else:
            block, rest = _invert(sums.cumsum(axis=1), uniforms)
            columns = block[:, None] * _BLOCK + np.arange(_BLOCK)
            if self._reshapes:
                weights = self._kept[each[:, None], columns]
            else:
                inside = np.minimum(columns, self.n_vocab - 1)
                weights = np.exp(logits[each[:, None], inside] - top)
                weights[columns >= self.n_vocab] = 0
            column, _ = _invert(weights.cumsum(axis=1, dtype=np.float64), rest)
            tokens = columns[each, column]
        log_probabilities = logits[each, tokens].astype(np.float64) - top[:, 0] - normaliser
        if not np.isfinite(log_probabilities).all():
            raise FloatingPointError("the model's logits hold a NaN or an infinity")
        return tokens.astype(np.int32), log_probabilities

    def _truncate(self, weights: Floats) -> None:
        """Set to 0 the weights, softmax times a constant, of all tokens but the kept ones."""
        if self.top_k:
            kept = np.argpartition(weights, -self.top_k)[-self.top_k :]
        elif self.top_p < 1:
            # Sorting a whole vocabulary costs far more than the model's step: sort only so many
            # of the likeliest as hold the mass asked for.
            mass = self.top_p * weights.sum(dtype=np.float64)
            threshold = 0.01
            kept = np.flatnonzero(weights >= threshold)
            while threshold > 0 and weights[kept].sum(dtype=np.float64) < mass:
                threshold = threshold / 10 if threshold > 1e-9 else 0.0
                kept = np.flatnonzero(weights >= threshold)
        else:
            kept = np.flatnonzero(weights >= self.min_p)
        if self.top_p < 1:
            kept = kept[np.argsort(-weights[kept], kind="stable")]
            cumulative = weights[kept].cumsum(dtype=np.float64)
            total = cumulative[-1] if self.top_k else weights.sum(dtype=np.float64)
            kept = kept[: 1 + np.searchsorted(cumulative, self.top_p * total)]
        if self.min_p > 0:
            # The likeliest token weighs exactly 1.
            kept = kept[weights[kept] >= self.min_p]
        values = weights[kept]
        weights[:] = 0
        weights[kept] = values

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def _invert(cumulative: Doubles, uniforms: Doubles) -> tuple[npt.NDArray[np.intp], Doubles]:
    """Per row the bin that `uniforms` falls in, never one of no weight, and where in it, [0, 1)."""
    each = np.arange(len(cumulative))
    total = cumulative[:, -1]
    target = np.minimum(uniforms * total, np.nextafter(total, 0))
    index = (cumulative <= target[:, None]).sum(axis=1)
    upper = cumulative[each, index]
    lower = np.where(index > 0, cumulative[each, index - 1], 0)
    return index, (target - lower) / (upper - lower)


def uniforms(seed: int, index: int, count: int) -> Doubles:
    """The random numbers of sample `index`: float64 (count,) in [0, 1), by Philox (seed, index)."""
    key = np.array([seed, index], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)
