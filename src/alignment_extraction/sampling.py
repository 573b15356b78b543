"""Many samples that continue one short prefix, decoded together and drawn in one pass.

    with Model(Path("model.gguf")) as model:
        prefix = model.tokenize("<|im_start|>user\n")
        frame = sample(model, prefix, 1000, seed=7, max_tokens=128)

The prefix is decoded once; every slot of the batch holds a copy of it. A slot whose sample ends
goes back to the prefix and starts the next one from the logits that followed the prefix, so nothing
is ever prefilled and every step decodes one token a slot.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from alignment_extraction.files import InputError
from alignment_extraction.model import MAX_SEQUENCES, Context, Model

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.int32]

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "index": pl.Int64,
    "question": pl.String,
    "question_tokens": pl.List(pl.Int32),
    "question_finish": pl.String,
    "question_log_likelihood": pl.Float64,
    "answer": pl.String,
    "answer_tokens": pl.List(pl.Int32),
    "answer_finish": pl.String,
    "answer_log_likelihood": pl.Float64,
}
_BLOCK = 256  # entries of the vocabulary whose weights are summed at once
_PREFILL = 512  # the prefix is decoded in pieces of this many tokens, whatever the slots
# llama.cpp's CPU kernels take the rows of a batch in groups of 4 or 8 and treat the rest otherwise.
# With whole groups alone, a row's result depends on nothing but that row.
_GROUP = 8
_CACHE = 1 << 17  # logits handled at a time: 512 KiB, so that they stay in a core's cache


class Sampler:
    """Draws one token from each row of a block of logits.

    Truncation and temperature come in the order of llama.cpp's own chain: top_k, top_p and min_p on
    the model's distribution, then the temperature on what is left.
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
        """Check the parameters and allocate the work space.

        Args:
            n_vocab: columns of the logits.
            temperature: at least 0; 0 takes the likeliest token (the first of equals).
            top_k: keep the k likeliest tokens; 0 keeps all.
            top_p: keep the fewest likeliest tokens whose probabilities reach it; in (0, 1].
            min_p: keep tokens of at least this share of the likeliest one's probability; [0, 1].
            threads: rows are shared out over this many threads.

        Raises:
            InputError: a value out of range.
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
        # Whether the weights that tokens are drawn by are others than softmax's.
        self._reshapes = temperature != 0 and (
            temperature != 1 or self.top_k > 0 or top_p < 1 or min_p > 0
        )
        self._rows = max(1, _CACHE // n_vocab)
        self._width = -(-n_vocab // _BLOCK) * _BLOCK
        # The columns beyond the vocabulary stay 0 for ever.
        self._work = [np.zeros((self._rows, self._width), np.float32) for _ in range(threads)]
        self._kept = np.zeros((0, self._width), np.float32)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def draw(self, logits: Floats, uniforms: Doubles) -> tuple[Tokens, Doubles]:
        """One token a row.

        Args:
            logits: float32 (rows, n_vocab).
            uniforms: float64 (rows,) in [0, 1); each row's token is a function of its own logits
                and its own uniform number alone.

        Returns:
            tokens: int32 (rows,).
            log_probabilities: float64 (rows,), nats, of these tokens under softmax(logits), that
                is before temperature and truncation.

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
                    for row in weights:
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
        if not (self.top_k or self.top_p < 1 or self.min_p > 0):
            return
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
    """Inverse of the distribution function: per row, the bin that `uniforms` falls in.

    Also where it falls within that bin, in [0, 1). A bin of no weight is never hit.
    """
    each = np.arange(len(cumulative))
    total = cumulative[:, -1]
    target = np.minimum(uniforms * total, np.nextafter(total, 0))
    index = (cumulative <= target[:, None]).sum(axis=1)
    upper = cumulative[each, index]
    lower = np.where(index > 0, cumulative[each, index - 1], 0)
    return index, (target - lower) / (upper - lower)


def uniforms(seed: int, index: int, count: int) -> Doubles:
    """The random numbers of sample `index`: float64 (count,) in [0, 1), by Philox.

    The key is (seed, index) and the counter starts at 0, so that they depend on nothing else.
    """
    key = np.array([seed, index], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def _padded(slots: int) -> int:
    return max(1, -(-slots // _GROUP)) * _GROUP


@dataclass(frozen=True)
class _Turn:
    """One turn of one sample: its tokens, why it ended, and its log-likelihood in nats."""

    tokens: list[int]
    finish: str
    log_likelihood: float


@dataclass
class _Sample:
    question: _Turn
    answer: _Turn | None = None


_PER_SLOT = (
    *("index", "token", "position", "forced", "length", "limit"),
    *("log_likelihood", "drawn", "written", "uniforms"),
)


class _Slots:
    """What every slot of the batch is writing: arrays of one entry a slot."""

    def __init__(
        self,
        count: int,
        *,
        seed: int,
        indices: range,
        max_tokens: int,
        header: Sequence[int],
        max_answer_tokens: int,
        eog: frozenset[int],
        n_vocab: int,
    ) -> None:
        self.seed = seed
        self.indices = indices
        self.upcoming = itertools.count(indices.start)
        self.results: dict[int, _Sample] = {}
        self.tokens_drawn = 0
        self.max_tokens = max_tokens
        self.max_answer_tokens = max_answer_tokens
        # The last entry is what slots without forced tokens look up in vain.
        self.header = np.array([*header, 0], np.int32)
        self.is_end = np.zeros(n_vocab, bool)
        self.is_end[list(eog)] = True
        self.index = np.full(count, indices.stop, np.int64)  # the sample being written
        self.token = np.zeros(count, np.int32)  # the token to feed next
        self.position = np.zeros(count, np.int32)  # and its position
        self.forced = np.zeros(count, np.int64)  # tokens of the header still to be fed
        self.length = np.zeros(count, np.int64)  # tokens written in this turn
        self.limit = np.zeros(count, np.int64)  # most tokens in this turn
        self.log_likelihood = np.zeros(count, np.float64)  # of this turn
        self.drawn = np.zeros(count, np.int64)  # tokens drawn for this sample
        draws = max_tokens + max_answer_tokens
        self.written = np.zeros((count, max(max_tokens, max_answer_tokens)), np.int32)
        self.uniforms = np.zeros((count, draws + 1), np.float64)
        self.question: list[_Turn | None] = [None] * count  # once it is over

    def compact(self) -> dict[int, int]:
        """Once few samples are left, move them to the first slots and drop the others.

        Gives {slot: the lower slot that its sample moved to}.
        """
        live = np.flatnonzero(self.index < self.indices.stop)
        width = _padded(len(live))
        if width > len(self.index) // 2:
            return {}
        free = np.setdiff1d(np.arange(width), live)
        moves = dict(zip(live[live >= width].tolist(), free.tolist(), strict=False))
        order = np.arange(width)
        order[list(moves.values())] = list(moves)
        for name in _PER_SLOT:
            setattr(self, name, getattr(self, name)[order])
        self.question = [self.question[slot] for slot in order]
        return moves

    def start(self, slots: npt.NDArray[np.intp], prefix_length: int) -> None:
        """Give each of `slots` the next sample, at the end of the prefix.

        Samples beyond the last one wanted keep the batch in shape; they are thrown away.
        """
        self.position[slots] = prefix_length - 1
        self.forced[slots] = self.length[slots] = self.drawn[slots] = 0
        self.limit[slots] = self.max_tokens
        self.log_likelihood[slots] = 0
        for slot in slots:
            index = next(self.upcoming)
            self.index[slot] = index
            self.uniforms[slot, :-1] = uniforms(self.seed, index, self.uniforms.shape[1] - 1)
            self.question[slot] = None

    def next_uniforms(self, slots: npt.NDArray[np.intp]) -> Doubles:
        return self.uniforms[slots, self.drawn[slots]]

    def take(
        self, slots: npt.NDArray[np.intp], tokens: Tokens, log_probabilities: Doubles
    ) -> npt.NDArray[np.intp]:
        """Take one drawn token a slot; gives the slots whose sample is over."""
        forced = self.forced[slots]
        free = forced == 0
        self.token[slots] = np.where(free, tokens, self.header[-1 - forced])
        self.position[slots] += 1
        self.forced[slots] -= ~free
        wanted = self.index[slots] < self.indices.stop
        ends = self.is_end[tokens] & free & wanted
        length = self.length[slots]
        self.written[slots, length] = tokens
        length += free & ~ends
        self.length[slots] = length
        self.drawn[slots] += free
        self.log_likelihood[slots] += np.where(free, log_probabilities, 0.0)
        self.tokens_drawn += int(np.count_nonzero(free & wanted))
        over = np.flatnonzero(ends | (free & (length == self.limit[slots])))
        return np.array(
            [slots[i] for i in over if self._end_turn(int(slots[i]), bool(ends[i]))], np.intp
        )

    def _end_turn(self, slot: int, stopped: bool) -> bool:
        """Put the turn away; True if that was the sample's last one."""
        index = int(self.index[slot])
        if index >= self.indices.stop:
            return True
        turn = _Turn(
            self.written[slot, : self.length[slot]].tolist(),
            "stop" if stopped else "length",
            float(self.log_likelihood[slot]),
        )
        question = self.question[slot]
        if question is not None:
            self.results[index] = _Sample(question, turn)
            return True
        if not stopped or not self.max_answer_tokens:
            self.results[index] = _Sample(turn)
            return True
        self.question[slot] = turn
        self.token[slot] = self.header[0]
        self.forced[slot] = len(self.header) - 2
        self.length[slot] = 0
        self.limit[slot] = self.max_answer_tokens
        self.log_likelihood[slot] = 0
        return False


def sample(
    model: Model,
    prefix: Sequence[int],
    n: int,
    *,
    seed: int,
    first: int = 0,
    max_tokens: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    answer_header: Sequence[int] | None = None,
    max_answer_tokens: int = 0,
    slots: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Samples `first` to `first + n - 1` of what the model writes after `prefix`.

    A turn ends with any end-of-generation token ("stop") or at its limit ("length"). Sample i draws
    its random numbers from Philox with key (seed, i), whatever else is sampled with it.

    Args:
        model: the model.
        prefix: tokens that every sample continues; at least one.
        n: number of samples, at least 1.
        seed: at least 0.
        first: index of the first sample.
        max_tokens: most tokens of the question, the end token not counted.
        temperature, top_k, top_p, min_p: see `Sampler`; the defaults are the model's own
            distribution, temperature 0 is greedy.
        answer_header: tokens fed after a question that ended with "stop" (its end token is not
            fed: begin with the template's end of turn), after which the answer is sampled. None for
            questions alone.
        max_answer_tokens: most tokens of the answer; at least 1 with `answer_header`.
        slots: sequences decoded together, 1 to 256, rounded up to a multiple of 8.
        progress: called about twice a second and at the end with the number of finished samples
            and the number of tokens drawn since the last call.

    Returns:
        One row a sample in order of index: index Int64; question Utf8, without special tokens;
        question_tokens List(Int32), without the end token; question_finish "stop" or "length";
        question_log_likelihood Float64, nats, of the drawn tokens (the end token too) under the
        model's own distribution (temperature 1, nothing cut off); the same four for the answer,
        null where there is none.

    Raises:
        InputError: a value out of range, an empty prefix, or turns that do not fit the context.
    """
    header = list(answer_header or [])
    _check(model, prefix, n, seed, first, max_tokens, header, max_answer_tokens, slots)
    if not header:
        max_answer_tokens = 0
    room = len(prefix) + max_tokens + len(header) + max_answer_tokens
    sampler = Sampler(
        model.n_vocab,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        threads=model.threads,
    )
    # Never more slots than samples; the samples come out the same with any number of them.
    width = _padded(min(slots, n))
    state = _Slots(
        width,
        seed=seed,
        indices=range(first, first + n),
        max_tokens=max_tokens,
        header=header,
        max_answer_tokens=max_answer_tokens,
        eog=model.eog,
        n_vocab=model.n_vocab,
    )
    every = np.arange(width)
    clock = _Clock(state, progress)
    with (
        contextlib.closing(sampler),
        Context(
            model, sequences=width, positions=room, batch=max(width, _PREFILL), outputs=width
        ) as context,
    ):
        prefix_logits = _decode_prefix(context, prefix)
        for slot in range(1, width):
            context.copy(0, slot)
        context.sequences[:width] = every
        context.wanted[:width] = 1
        over = every
        while True:
            while len(over):
                state.start(over, len(prefix))
                rows = np.broadcast_to(prefix_logits, (len(over), model.n_vocab))
                over = state.take(over, *sampler.draw(rows, state.next_uniforms(over)))
            if len(state.results) == n:
                break
            if len(state.results) > n - len(every) // 2:
                for source, target in state.compact().items():
                    context.copy(source, target)
                every = every[: len(state.index)]
            context.tokens[: len(every)] = state.token
            context.positions[: len(every)] = state.position
            context.decode(len(every))
            over = state.take(
                every, *sampler.draw(context.logits(len(every)), state.next_uniforms(every))
            )
            for done in over:
                context.truncate(int(done), len(prefix))
            clock.tick()
    clock.tick(last=True)
    return _frame(model, [(i, state.results[i]) for i in state.indices])


def _decode_prefix(context: Context, prefix: Sequence[int]) -> Floats:
    """Decode `prefix` into sequence 0; the logits that follow it, float32 (n_vocab,)."""
    for start in range(0, len(prefix), _PREFILL):
        part = prefix[start : start + _PREFILL]
        context.tokens[: len(part)] = part
        context.positions[: len(part)] = np.arange(start, start + len(part))
        context.sequences[: len(part)] = 0
        context.wanted[: len(part)] = 0
        context.wanted[len(part) - 1] = 1
        context.decode(len(part))
    row: Floats = context.logits(1)[0].copy()
    return row


class _Clock:
    """Calls `progress` now and then."""

    def __init__(self, state: _Slots, progress: Callable[[int, int], None] | None) -> None:
        self._state = state
        self._progress = progress
        self._told = 0
        self._last = time.monotonic()

    def tick(self, *, last: bool = False) -> None:
        if self._progress is None:
            return
        now = time.monotonic()
        if last or now - self._last >= 0.5:
            self._progress(len(self._state.results), self._state.tokens_drawn - self._told)
            self._told = self._state.tokens_drawn
            self._last = now


def _check(
    model: Model,
    prefix: Sequence[int],
    n: int,
    seed: int,
    first: int,
    max_tokens: int,
    header: Sequence[int],
    max_answer_tokens: int,
    slots: int,
) -> None:
    if n < 1:
        raise InputError(f"number of samples must be at least 1, not {n}")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed must be from 0 to 2^63 - 1, not {seed}")
    if first < 0:
        raise InputError(f"index of the first sample must be at least 0, not {first}")
    if max_tokens < 1:
        raise InputError(f"max_tokens must be at least 1, not {max_tokens}")
    if header and max_answer_tokens < 1:
        raise InputError(f"max_answer_tokens must be at least 1, not {max_answer_tokens}")
    if max_answer_tokens and not header:
        raise InputError(f"max_answer_tokens is {max_answer_tokens} but no answer_header is given")
    if not 1 <= slots <= MAX_SEQUENCES:
        raise InputError(f"slots must be from 1 to {MAX_SEQUENCES}, not {slots}")
    if not prefix:
        raise InputError("the prefix is empty; give at least one token, such as the template's")
    model.check_tokens(prefix, "prefix")
    model.check_tokens(header, "answer_header")
    room = len(prefix) + max_tokens + len(header) + max_answer_tokens
    if room > model.n_ctx_train:
        raise InputError(
            f"prefix ({len(prefix)} tokens), question ({max_tokens}), answer header "
            f"({len(header)}) and answer ({max_answer_tokens}) need {room} tokens, more than the "
            f"{model.n_ctx_train} of {model.path}; shorten the prefix or lower the limits"
        )
    if not model.forgets:
        raise InputError(
            f"{model.path}: a recurrent model, whose state cannot go back to the prefix; sampling "
            "needs a model with attention alone"
        )


def _frame(model: Model, samples: list[tuple[int, _Sample]]) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {"index": [index for index, _ in samples]}
    for name in ("question", "answer"):
        turns = [getattr(made, name) for _, made in samples]
        columns[name] = [turn and model.detokenize(turn.tokens) for turn in turns]
        columns[f"{name}_tokens"] = [turn and turn.tokens for turn in turns]
        columns[f"{name}_finish"] = [turn and turn.finish for turn in turns]
        columns[f"{name}_log_likelihood"] = [turn and turn.log_likelihood for turn in turns]
    return pl.DataFrame(columns, schema=SCHEMA)
