"""What every slot of a batch is writing: the book-keeping of many samples decoded together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.request import Request
from alignment_extraction.engine.sampler import Doubles, Tokens, uniforms

Indices = npt.NDArray[np.intp]

# llama.cpp's CPU kernels take the rows of a batch in groups of 4 or 8 and treat the rest otherwise.
# With whole groups alone, a row's result depends on nothing but that row.
_GROUP = 8


def padded(slots: int) -> int:
    """The least multiple of 8 that is at least `slots` and 8."""
    return max(1, -(-slots // _GROUP)) * _GROUP


class Written(NamedTuple):
    """One turn of one sample as it was written."""

    tokens: list[int]
    """Those written, without the end token or end text."""
    finish: str
    """`stop` or `length`."""
    log_likelihood: float
    """Of the drawn tokens, those of the end included, in nats."""
    excess: bytes | None = None
    """Bytes of the last token that belong to the end text; None if none ended the turn."""


class Sample(NamedTuple):
    """The turns of one sample; no answer where none was wanted or the question did not end."""

    question: Written
    answer: Written | None = None


_PER_SLOT = (
    *("index", "token", "position", "forced", "length", "limit"),
    *("log_likelihood", "drawn", "written", "uniforms"),
)


class Slots:
    """What every slot of the batch is writing: arrays of one entry a slot.

    A text can end the question as an end token does: the header of the next turn. In templates like
    Llama 2's (`[/INST]`) and OLMo 2's (`<|assistant|>`) no end token stands between the user's
    words and the assistant's, so the model goes on to the header by itself. White space or the tail
    before the header goes with it, and so does the rest of the token that completes it.

    Attributes:
        results: finished samples by index.
        tokens_drawn: tokens drawn so far.
        token: int32 (slots,), the token to feed next.
        position: int32 (slots,), its position.
    """

    def __init__(self, count: int, request: Request[Sequence[int]], model: Model) -> None:
        """Make `count` empty slots."""
        self.request = request
        self.indices = range(request.first, request.first + request.samples)
        self.started = request.first  # the next sample to start
        self.results: dict[int, Sample] = {}
        self.tokens_drawn = 0
        self.pieces = model.pieces
        self.tails = [tail.encode() for tail in request.tails]
        text = request.end_text.strip() or request.end_text
        self.end_text = text.encode()
        self.lead = self.tails[0] or request.end_text[: request.end_text.find(text)].encode()
        # The tokens with which the text can come to its end.
        self.may_close = np.array([self.end_text[-1:] in piece for piece in self.pieces])
        # The last entry is what slots without forced tokens look up: in vain, or while idle.
        self.header = np.array([*(request.answer_header or ()), 0], np.int32)
        self.is_end = np.zeros(model.n_vocab, bool)
        self.is_end[list(model.eog)] = True
        self.index = np.full(count, self.indices.stop, np.int64)  # the sample being written
        self.token = np.zeros(count, np.int32)
        self.position = np.zeros(count, np.int32)
        self.forced = np.zeros(count, np.int64)  # tokens of the header still to be fed
        self.length = np.zeros(count, np.int64)  # tokens written in this turn
        self.limit = np.zeros(count, np.int64)  # most tokens in this turn
        self.log_likelihood = np.zeros(count, np.float64)  # of this turn
        self.drawn = np.zeros(count, np.int64)  # tokens drawn for this sample
        limits = request.max_tokens, request.max_answer_tokens
        self.written = np.zeros((count, max(limits)), np.int32)
        self.uniforms = np.zeros((count, sum(limits) + 1), np.float64)
        self.question: list[Written | None] = [None] * count  # once it is over

    def compact(self) -> dict[int, int]:
        """Drop groups of slots without a sample; {slot: the lower one that its sample moved to}."""
        live = np.flatnonzero(self.index < self.indices.stop)
        width = padded(len(live))
        if width >= len(self.index):
            return {}
        free = np.setdiff1d(np.arange(width), live)
        moves = dict(zip(live[live >= width].tolist(), free.tolist(), strict=False))
        order = np.arange(width)
        order[list(moves.values())] = list(moves)
        for name in _PER_SLOT:
            setattr(self, name, getattr(self, name)[order])
        self.question = [self.question[slot] for slot in order]
        return moves

    def start(self, slots: Indices, prefix_length: int) -> Indices:
        """Give each of `slots` the next sample, at the end of the prefix; those that got one.

        The others keep the batch in shape: fed token 0 behind the prefix again and again (`idle`).
        """
        self.forced[slots] = self.length[slots] = self.drawn[slots] = 0
        slots, rest = np.split(slots, [self.indices.stop - self.started])
        self.index[rest] = self.indices.stop
        self.token[rest] = 0
        self.position[rest] = prefix_length
        self.position[slots] = prefix_length - 1
        self.limit[slots] = self.request.max_tokens
        self.log_likelihood[slots] = 0
        draws = self.uniforms.shape[1] - 1
        for slot in slots:
            self.index[slot] = self.started
            self.uniforms[slot, :-1] = uniforms(self.request.seed, self.started, draws)
            self.question[slot] = None
            self.started += 1
        return slots

    @property
    def idle(self) -> Indices:
        """Slots without a sample; what they were fed is to be forgotten after each step."""
        return np.flatnonzero(self.index == self.indices.stop)

    def next_uniforms(self, slots: Indices) -> Doubles:
        """The random numbers that the next tokens of `slots` are drawn with."""
        return self.uniforms[slots, self.drawn[slots]]

    def take(self, slots: Indices, tokens: Tokens, log_probabilities: Doubles) -> Indices:
        """Take one drawn token a slot; the slots whose sample is over."""
        busy = self.index[slots] < self.indices.stop
        forced = self.forced[slots]
        free = busy & (forced == 0)
        self.token[slots] = np.where(free, tokens, self.header[-1 - forced])
        self.position[slots] += busy
        self.forced[slots] -= forced > 0
        ends = self.is_end[tokens] & free
        length = self.length[slots]
        self.written[slots, length] = tokens
        length += free & ~ends
        self.length[slots] = length
        self.drawn[slots] += free
        self.log_likelihood[slots] += np.where(free, log_probabilities, 0.0)
        self.tokens_drawn += int(np.count_nonzero(free))
        over = ends | (free & (length == self.limit[slots]))
        if self.end_text:
            over |= self.may_close[tokens] & free
        ended = [i for i in np.flatnonzero(over) if self._end_turn(int(slots[i]), bool(ends[i]))]
        return slots[np.array(ended, np.intp)]

    def _cut(
        self, tokens: list[int], text: bytes, lead: bytes | None = None
    ) -> tuple[list[int], bytes | None]:
        """The tokens that begin before `text`, and the last one's bytes of it; None if not there.

        With a `lead`, which goes with the text, the last token may write on behind it.
        """
        last = [self.pieces[token] for token in tokens[-len(text + (lead or b"")) :]]
        written = b"".join(last)
        start = written.find(text, len(written) - len(text) if lead is None else 0)
        if start < 0:
            return tokens, None
        if lead and written[:start].endswith(lead):
            start -= len(lead)
        kept = int(np.sum(np.cumsum([0, *map(len, last)])[:-1] < start))
        return tokens[: len(tokens) - len(last) + kept], b"".join(last[:kept])[start:]

    def _end_turn(self, slot: int, stopped: bool) -> bool:
        """Put the turn away if it is over; True if that was the sample's last one."""
        index = int(self.index[slot])
        tokens = self.written[slot, : self.length[slot]].tolist()
        question = self.question[slot]
        excess = None
        by_text = False  # whether the model has written the header itself, or its beginning
        tail = self.tails[question is not None]
        if stopped and tail:
            tokens, excess = self._cut(tokens, tail)
        elif question is None and not stopped and self.end_text:
            tokens, excess = self._cut(tokens, self.end_text, self.lead)
            by_text = stopped = excess is not None
        if not stopped and self.length[slot] < self.limit[slot]:
            return False
        finish = "stop" if stopped else "length"
        turn = Written(tokens, finish, float(self.log_likelihood[slot]), excess)
        if question is not None:
            self.results[index] = Sample(question, turn)
            return True
        if not stopped or not self.request.max_answer_tokens:
            self.results[index] = Sample(turn)
            return True
        self.question[slot] = turn
        if by_text:
            self.forced[slot] = self.request.rest
        else:
            # What the model wrote of the header before its end token is not fed again.
            first = 0 if excess is None else len(self.header) - 2 - self.request.rest
            self.token[slot] = self.header[first]
            self.forced[slot] = len(self.header) - 2 - first
        self.length[slot] = 0
        self.limit[slot] = self.request.max_answer_tokens
        self.log_likelihood[slot] = 0
        return False
