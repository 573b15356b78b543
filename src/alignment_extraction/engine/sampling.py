r"""Many samples that continue one short prefix, decoded together and drawn in one pass.

>>> with Model(path) as model:
...     prefix = model.tokenize("<|im_start|>user\n")
...     frame = sample(model, prefix, 100, seed=7, max_tokens=32)
>>> frame["question_finish"].unique().sort().to_list()
['length', 'stop']

The prefix is decoded once, and every slot of the batch holds a copy of it, which it goes back to
when its sample ends: nothing is ever prefilled, and every step decodes one token a slot.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.engine.context import MAX_SEQUENCES, Context
from alignment_extraction.engine.model import Model
from alignment_extraction.engine.request import Request, Turn, table
from alignment_extraction.engine.sampler import Floats, Sampler
from alignment_extraction.engine.slots import Slots, Written, padded
from alignment_extraction.files import InputError

_PREFILL = 512  # the prefix is decoded in pieces of this many tokens, whatever the slots


def sample(
    model: Model,
    prefix: Sequence[int],
    n: int,
    *,
    slots: int = 64,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> pl.DataFrame:
    """`n` samples of what the model writes after `prefix`, in `request.SCHEMA`.

    A turn ends with any end-of-generation token ("stop") or at its limit ("length"). On a CPU
    sample i is the same for any `slots`, `first` and `n`; benchmarks/README.md says what was
    measured, and what breaks it (another build of llama.cpp or number of threads).

    Args:
        model: the model.
        prefix: tokens that every sample continues.
        n: number of samples.
        slots: sequences decoded together, 1 to 256, rounded up to a multiple of 8.
        progress: called after each step with the numbers of finished samples and of tokens drawn.
        options: `seed`, `max_tokens` and the other fields of `Request`.

    Raises:
        InputError: a value out of range, an empty prefix, or turns that do not fit the context.
    """
    request: Request[Sequence[int]] = Request(prefix, n, **options)
    room = _room(model, request, slots)
    chain = {name: getattr(request, name) for name in ("temperature", "top_k", "top_p", "min_p")}
    sampler = Sampler(model.n_vocab, threads=model.threads, **chain)
    # Never more slots than samples; the samples come out the same with any number of them.
    width = padded(min(slots, n))
    shape = {"sequences": width, "outputs": width, "batch": max(width, _PREFILL), "positions": room}
    state = Slots(width, request, model)
    every = np.arange(width)
    with contextlib.closing(sampler), Context(model, flash_attention=True, **shape) as context:
        prefix_logits = _decode_prefix(context, prefix)
        for slot in range(1, width):
            context.copy(0, slot)
        context.sequences[:width] = every
        context.wanted[:width] = 1
        over = every
        while True:
            while len(over):
                begun = state.start(over, len(prefix))
                rows = np.broadcast_to(prefix_logits, (len(begun), model.n_vocab))
                over = state.take(begun, *sampler.draw(rows, state.next_uniforms(begun)))
            if len(state.results) == n:
                break
            if n - len(state.results) <= len(every) - 8:
                for source, target in state.compact().items():
                    context.copy(source, target)
                every = every[: len(state.index)]
            context.tokens[: len(every)] = state.token
            context.positions[: len(every)] = state.position
            context.decode(len(every))
            over = state.take(
                every, *sampler.draw(context.logits(len(every)), state.next_uniforms(every))
            )
            for slot in (*over, *state.idle):
                context.truncate(int(slot), len(prefix))
            if progress is not None:
                progress(len(state.results), state.tokens_drawn)
    if progress is not None:
        progress(n, state.tokens_drawn)
    made = [state.results[i] for i in state.indices]
    questions = [_said(model, x.question, request.leads[0]) for x in made]
    blank = request.end_text[len(request.end_text.rstrip() or request.end_text) :]
    blanks = ("" if x.question.excess is None else blank for x in made)
    pairs = zip(made, blanks, strict=True)
    answers = [_said(model, x.answer, request.leads[1], after) for x, after in pairs]
    return table(state.indices, questions, answers)


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


def _room(model: Model, request: Request[Sequence[int]], slots: int) -> int:
    """Positions that a sample can need."""
    prefix, header = request.prefix, request.answer_header or ()
    if not 1 <= slots <= MAX_SEQUENCES:
        raise InputError(f"slots must be from 1 to {MAX_SEQUENCES}, not {slots}")
    model.check_tokens(prefix, "prefix")
    model.check_tokens(header, "answer_header")
    room = len(prefix) + request.max_tokens + len(header) + request.max_answer_tokens
    if room > model.n_ctx_train:
        raise InputError(
            f"prefix ({len(prefix)} tokens), question ({request.max_tokens}), answer header "
            f"({len(header)}) and answer ({request.max_answer_tokens}) need {room} tokens, more "
            f"than the {model.n_ctx_train} of {model.path}; shorten the prefix or lower the limits"
        )
    if not model.forgets:
        raise InputError(
            f"{model.path}: a recurrent model, whose state cannot go back to the prefix; sampling "
            "needs a model with attention alone"
        )
    return room


def _said(model: Model, turn: Written | None, lead: str, blank: str = "") -> Turn | None:
    """A turn without what its header left over, what belongs to its end, and a header's `blank`."""
    if turn is None:
        return None
    text = model.detokenize(turn.tokens).removeprefix(lead)
    text = text.removesuffix((turn.excess or b"").decode("utf-8", "replace")).removeprefix(blank)
    return Turn(text, turn.tokens, turn.finish, turn.log_likelihood)
