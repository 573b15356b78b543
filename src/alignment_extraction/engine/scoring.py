"""Log-likelihood of many short texts under a model, several texts in one batch.

    with Model(Path("model.gguf")) as model:
        prefix = model.tokenize("<|im_start|>user\n")
        scores = score(model, [(prefix, model.tokenize(text)) for text in texts])
        scores.sums()  # log p(text | prefix) in nats, float64 (texts,)
        scores.log_probabilities[scores.offsets[3] : scores.offsets[4]]  # tokens of text 3

Texts of nearly equal length share a batch, one sequence each, padded at the end to the longest.
Only the logits that predict a target token are computed, and reduced to one number a token before
the next batch is decoded.
"""

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alignment_extraction.engine.context import MAX_SEQUENCES, Context
from alignment_extraction.engine.model import Model
from alignment_extraction.engine.sampler import CACHE, Floats
from alignment_extraction.files import InputError


@dataclass(frozen=True)
class TokenScores:
    """What each target token of each text got.

    Attributes:
        log_probabilities: float32 (target tokens of all texts,), nats, at most 0.
        offsets: int64 (texts + 1,); text i has the entries `offsets[i]` to `offsets[i + 1]`.
        means: float32, the same shape, nats: the log-probability expected at that position, the
            sum over the vocabulary of p log p; None unless asked for.
        deviations: float32, the same shape, nats: the log-probability's standard deviation under
            the predicted distribution; None unless asked for.
    """

    log_probabilities: Floats
    offsets: npt.NDArray[np.int64]
    means: Floats | None = None
    deviations: Floats | None = None

    def sums(self) -> npt.NDArray[np.float64]:
        """Log-likelihood of each text, float64 (texts,), nats; 0 for a text without tokens."""
        running = np.cumsum(np.concatenate([[0.0], self.log_probabilities]))
        sums: npt.NDArray[np.float64] = np.diff(running[self.offsets])
        return sums


def score(
    model: Model,
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    moments: bool = False,
    slots: int = 32,
    batch_tokens: int = 256,
    flash_attention: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> TokenScores:
    """log p(target token | context, the target's earlier tokens), for every text.

    Args:
        model: the model.
        texts: (context tokens, target tokens) each. The context, at least one token, is not scored;
            the target may be empty.
        moments: give `means` and `deviations` too.
        slots: most texts in one batch, 1 to 256.
        batch_tokens: most tokens in one batch; float32 (batch_tokens, n_vocab) is held twice. On a
            CPU more is no faster, and pads more; a GPU wants thousands.
        flash_attention: up to a tenth faster on a CPU, in half precision; what a text scores
            then depends on the texts beside it.
        progress: called after each batch with the numbers of texts and of target tokens done.

    Raises:
        InputError: no texts, an empty context, a token outside the vocabulary, a text longer than
            the model's context, or a number out of range.
    """
    if not 1 <= slots <= MAX_SEQUENCES:
        raise InputError(f"slots must be from 1 to {MAX_SEQUENCES}, not {slots}")
    if batch_tokens < slots:
        raise InputError(f"batch_tokens must be at least slots ({slots}), not {batch_tokens}")
    if not len(texts):
        raise InputError("no texts to score; give at least one")
    for i, (given, target) in enumerate(texts):
        size = len(given) + len(target)
        if not given:
            raise InputError(
                f"text {i} has an empty context; give the beginning-of-sequence token at least"
            )
        if size > model.n_ctx_train:
            raise InputError(
                f"text {i} has {size} tokens with its context, more than the {model.n_ctx_train} "
                f"of {model.path}; shorten it"
            )
        model.check_tokens(given, f"context of text {i}")
        model.check_tokens(target, f"text {i}")
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(target) for _, target in texts], out=offsets[1:])
    # The last token predicts nothing that is wanted, so it is not fed.
    lengths = np.array([len(context) + len(target) - 1 for context, target in texts], np.int64)
    lengths[np.diff(offsets) == 0] = 0
    # Longest first; equals in their own order.
    order = np.argsort(-lengths, kind="stable")
    order = order[: np.count_nonzero(lengths)]
    out = np.empty((3 if moments else 1, offsets[-1]), np.float32)
    empty, scored = len(texts) - len(order), 0
    with contextlib.ExitStack() as stack:
        reducer = stack.enter_context(contextlib.closing(_Reducer(model, moments)))
        context: Context | None = None
        capacity = at = 0
        while at < len(order):
            longest = int(lengths[order[at]])
            # A stream has room for a multiple of 256 tokens. Long texts get a context of their own
            # with fewer streams, so that memory does not grow with slots x the longest text.
            needed = 256 * -(-longest // 256)
            if context is None or needed < capacity:
                if context is not None:
                    context.close()
                capacity = needed
                streams = max(1, min(slots, batch_tokens // (capacity - 255)))
                room = {"positions": capacity, "batch": batch_tokens, "outputs": batch_tokens}
                context = Context(model, sequences=streams, flash_attention=flash_attention, **room)
                stack.enter_context(context)
            assert context is not None
            size = max(1, min(streams, batch_tokens // longest))
            group = order[at : at + size]
            places = [range(offsets[i], offsets[i + 1]) for i in group]
            _score_group(context, reducer, [texts[i] for i in group], places, out)
            at += len(group)
            scored += sum(map(len, places))
            if progress is not None:
                progress(empty + at, scored)
    return TokenScores(out[0], offsets, *(out[1:] if moments else ()))


def _score_group(
    context: Context,
    reducer: "_Reducer",
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
    places_of: Sequence[range],
    out: Floats,
) -> None:
    """Score `texts`, one sequence each, the longest first, into these places of `out`."""
    rows, length = len(texts), len(texts[0][0]) + len(texts[0][1]) - 1
    fed = np.zeros((rows, length), np.int32)
    targets = np.zeros((rows, length), np.int32)  # the token that each position predicts
    places = np.full((rows, length), -1, np.int64)  # and its place in the result; -1: unwanted
    for row, (given, target) in enumerate(texts):
        start, stop = len(given) - 1, len(given) + len(target) - 1
        fed[row, : start + 1] = given
        fed[row, start + 1 : stop] = target[:-1]
        targets[row, start:stop] = target
        places[row, start:stop] = places_of[row]
    context.clear()
    step = max(1, len(context.tokens) // rows)
    for first in range(0, length, step):
        columns = slice(first, min(length, first + step))
        count = fed[:, columns].size
        wanted = places[:, columns].ravel() >= 0
        context.tokens[:count] = fed[:, columns].ravel()
        context.positions[:count] = np.tile(np.arange(columns.start, columns.stop), rows)
        context.sequences[:count] = np.repeat(np.arange(rows), columns.stop - columns.start)
        context.wanted[:count] = wanted
        # A long text's first piece may want none; llama.cpp is given one to compute all the same.
        if not wanted.any():
            context.wanted[count - 1] = 1
        context.decode(count)
        if wanted.any():
            out[:, places[:, columns].ravel()[wanted]] = reducer.reduce(
                context.logits(int(wanted.sum())), targets[:, columns].ravel()[wanted]
            )


class _Reducer:
    """Reduces rows of logits to the log-probability of one token each, and its moments."""

    def __init__(self, model: Model, moments: bool) -> None:
        self.moments = moments
        self.rows = max(1, CACHE // model.n_vocab)
        shape = 2 if moments else 1, self.rows, model.n_vocab
        self.work = [np.empty(shape, np.float32) for _ in range(model.threads)]
        self.pool = ThreadPoolExecutor(model.threads)

    def reduce(self, logits: Floats, targets: npt.NDArray[np.int32]) -> Floats:
        """float32 (1 or 3, rows): log-probability of the target; expected value; deviation."""
        out = np.empty((3 if self.moments else 1, len(logits)), np.float32)
        workers = len(self.work)

        def part(worker: int) -> None:
            for start in range(worker * self.rows, len(logits), workers * self.rows):
                rows = slice(start, min(len(logits), start + self.rows))
                out[:, rows] = self._reduce(logits[rows], targets[rows], self.work[worker])

        list(self.pool.map(part, range(workers)))
        if not np.isfinite(out[0]).all():
            raise FloatingPointError("the model's logits hold a NaN or an infinity")
        return out

    def _reduce(self, logits: Floats, targets: npt.NDArray[np.int32], work: Floats) -> Floats:
        rows = len(logits)
        top = logits.max(axis=1)
        shifted, weights = work[0, :rows], work[-1, :rows]  # the same array without moments
        np.subtract(logits, top[:, None], out=shifted)
        np.exp(shifted, out=weights)
        if not self.moments:
            total = np.log(weights.sum(axis=1, dtype=np.float32))
            chosen: Floats = logits[np.arange(rows), targets] - top - total
            return chosen[None]
        mass = weights.sum(axis=1, dtype=np.float64)
        total = np.log(mass)
        np.multiply(weights, shifted, out=weights)
        mean = weights.sum(axis=1, dtype=np.float64) / mass
        np.multiply(weights, shifted, out=weights)
        square = weights.sum(axis=1, dtype=np.float64) / mass
        likely = shifted[np.arange(rows), targets] - total
        return np.stack([likely, mean - total, np.sqrt(np.maximum(square - mean**2, 0))]).astype(
            np.float32
        )

    def close(self) -> None:
        self.pool.shutdown()
