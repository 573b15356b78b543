r"""Many samples that continue one short prefix, decoded together and drawn in one pass.

>>> with Model(path) as model:
...     prefix = model.tokenize("<|im_start|>user\n")
...     frame = sample(model, prefix, 100, seed=7, max_tokens=32)
>>> frame["question_finish"].unique().sort().to_list()
['length', 'stop']

The prefix is decoded once; every slot of the batch holds a copy of it. A slot whose sample ends
goes back to the prefix and starts the next one from the logits that followed the prefix, so nothing
is ever prefilled and every step decodes one token a slot.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from alignment_extraction.engine.context import MAX_SEQUENCES, Context
from alignment_extraction.engine.model import Model
from alignment_extraction.engine.sampler import Floats, Sampler
from alignment_extraction.engine.slots import EndText, Sample, Slots, Turn, padded
from alignment_extraction.files import InputError

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
_INTERVAL = 0.5  # seconds between calls of `progress`
_PREFILL = 512  # the prefix is decoded in pieces of this many tokens, whatever the slots


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
    end_text: str = "",
    tails: tuple[str, str] = ("", ""),
    rest: int = 0,
    leads: tuple[str, str] = ("", ""),
    slots: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Samples `first` to `first + n - 1` of what the model writes after `prefix`.

    A turn ends with any end-of-generation token ("stop") or at its limit ("length"). Sample i draws
    its random numbers from Philox with key (seed, i), whatever else is sampled with it.

    On a CPU sample i is the same for any `slots`, `first` and `n`: see benchmarks/README.md for
    what was measured, and for what breaks it (batches not made of whole groups of 8 rows, which
    this function never makes; another build of llama.cpp or another number of threads).

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
        end_text: a text that ends the question too, "" for none: the assistant's header where no
            end token comes before it, so that the model writes the header itself. With
            `answer_header` the answer is then what it goes on to write.
        tails: texts that stand between question and end, token or text, and between the answer and
            its end token, and belong to neither.
        rest: how many of the header's last tokens are fed after `end_text`.
        leads: what the tokens before question and answer leave to their first words, such as a
            header's last space; no part of the texts.
        slots: sequences decoded together, 1 to 256, rounded up to a multiple of 8.
        progress: called about twice a second and at the end with the number of finished samples
            and the number of tokens drawn since the last call.

    Returns:
        One row a sample in order of index: index Int64; question String, without special tokens;
        question_tokens List(Int32), without the end token or end text; question_finish "stop" or
        "length"; question_log_likelihood Float64, nats, of the drawn tokens (the end's too) under
        the model's own distribution (temperature 1, nothing cut off); the same four for the
        answer, null where there is none.

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
    width = padded(min(slots, n))
    pieces = model.pieces() if end_text.strip() or any(tails) else []
    state = Slots(
        width,
        seed=seed,
        indices=range(first, first + n),
        max_tokens=max_tokens,
        header=header,
        max_answer_tokens=max_answer_tokens,
        eog=model.eog,
        end_text=EndText(end_text, pieces, tails[0]) if end_text.strip() else None,
        n_vocab=model.n_vocab,
        tails=tails,
        rest=rest,
        pieces=pieces,
    )
    every = np.arange(width)
    clock = _Clock(state, progress)
    with (
        contextlib.closing(sampler),
        Context(
            model,
            sequences=width,
            positions=room,
            batch=max(width, _PREFILL),
            outputs=width,
            flash_attention=True,
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
            clock.tick()
    clock.tick(last=True)
    return _frame(model, [(i, state.results[i]) for i in state.indices], end_text, leads)


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

    def __init__(self, state: Slots, progress: Callable[[int, int], None] | None) -> None:
        self._state = state
        self._progress = progress
        self._told = 0
        self._last = time.monotonic()

    def tick(self, *, last: bool = False) -> None:
        if self._progress is None:
            return
        now = time.monotonic()
        if last or now - self._last >= _INTERVAL:
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


def _frame(
    model: Model, samples: list[tuple[int, Sample]], end_text: str, leads: tuple[str, str]
) -> pl.DataFrame:
    blank = end_text[len(end_text.rstrip()) :]  # what closes a header
    columns: dict[str, list[Any]] = {"index": [index for index, _ in samples]}
    for name, lead in zip(("question", "answer"), leads, strict=True):
        turns = [getattr(made, name) for _, made in samples]
        columns[name] = [turn and _text(model, turn, lead) for turn in turns]
        columns[f"{name}_tokens"] = [turn and turn.tokens for turn in turns]
        columns[f"{name}_finish"] = [turn and turn.finish for turn in turns]
        columns[f"{name}_log_likelihood"] = [turn and turn.log_likelihood for turn in turns]
    if blank:
        columns["answer"] = [
            answer if answer is None or made.question.excess is None else answer.removeprefix(blank)
            for answer, (_, made) in zip(columns["answer"], samples, strict=True)
        ]
    return pl.DataFrame(columns, schema=SCHEMA)


def _text(model: Model, turn: Turn, lead: str) -> str:
    """What a turn says: without what its header left over, and what belongs to its end."""
    text = model.detokenize(turn.tokens).removeprefix(lead)
    return text.removesuffix((turn.excess or b"").decode("utf-8", "replace"))
