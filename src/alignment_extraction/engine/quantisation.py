"""The same weights in another form, with llama.cpp's quantiser, and what each form is worth here.

    quantise(Path("model.gguf"), Path("model-q8.gguf"), "Q8_0")
    faster = faster_form(Path("model.gguf"), measure(model, prefix, texts), prefix, texts)

llama.cpp has fast kernels for some types of weights on some processors and slow ones for others, so
that a larger file can draw faster: SmolLM2-135M in Q8_0 draws about twice the tokens of its Q4_1.
"""

import ctypes
import math
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import llama_cpp
import numpy as np
import numpy.typing as npt

from alignment_extraction.engine.context import Context
from alignment_extraction.engine.model import Model, forget_errors, last_error
from alignment_extraction.engine.sampling import sample
from alignment_extraction.engine.scoring import score
from alignment_extraction.files import InputError, atomic_path

FTYPES = {
    "F16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16,
    "BF16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
}
"""llama.cpp's file types by name, most exact first."""
_LARGE = 1 << 30  # bytes
_SLOTS, _TOKENS = 64, 12  # sequences that are drawn at once, and tokens of each


def quantise(source: Path, output: Path, kind: str, threads: int = 0) -> None:
    """Write a GGUF's weights in the form `kind` of `FTYPES`; the same source, the same bytes.

    A source that is quantised already is quantised again, which adds the new form's rounding to the
    old one's: little for Q8_0, much for a form no finer than its own. `threads` 0 is llama.cpp's
    own choice.

    Raises:
        InputError: an unknown kind, or llama.cpp cannot quantise the source.
    """
    if kind not in FTYPES:
        raise InputError(f"quantisation {kind} is unknown; use one of {', '.join(FTYPES)}")
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FTYPES[kind]
    parameters.nthread = threads
    parameters.allow_requantize = True
    forget_errors()
    with atomic_path(output) as partial:
        status = llama_cpp.llama_model_quantize(
            os.fsencode(source), os.fsencode(partial), ctypes.byref(parameters)
        )
        if status:
            raise InputError(f"{source}: llama.cpp could not quantise it to {kind}: {last_error()}")


class Form(NamedTuple):
    """What a file of a model's weights does on this machine."""

    kind: str | None
    """A key of `FTYPES`; None for the weights as they are."""
    read: float
    """Tokens per second in log-likelihoods."""
    drawn: float
    """Tokens per second with all slots full."""
    log_likelihoods: npt.NDArray[np.float64]
    """Of the texts that were read, nats."""
    first: npt.NDArray[np.float64]
    """The probability of each token behind the prefix, float64 (n_vocab,)."""

    def beside(self, given: Self) -> str:
        """What it is worth beside the weights as they are, in words."""
        change = np.abs(self.log_likelihoods - given.log_likelihoods)
        return (
            f"{self.kind} draws {self.drawn / given.drawn:.1f} times as fast here; a text's "
            f"log-likelihood changes by {change.mean():.2f} nats in the mean, {change.max():.2f} "
            "at most"
        )


def measure(
    model: Model,
    prefix: Sequence[int],
    texts: Sequence[Sequence[int]],
    *,
    kind: str | None = None,
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
    return Form(kind, read, drawn, np.array(sums), next_token(model, prefix))


def faster_form(
    path: Path,
    given: Form,
    prefix: Sequence[int],
    texts: Sequence[Sequence[int]],
    *,
    samples: int = 1000,
    threads: int | None = None,
) -> Form | None:
    """A model in Q8_0, if that is faster here and no sample could tell it from the first.

    It has to draw a fifth faster and to read no slower, and to change what comes first after the
    prefix by less, in total variation, than `samples` draws vary. Models of over 1 GB, which would
    take long to turn, are not tried. `given` was measured of the GGUF, with `prefix` and `texts`.
    """
    if path.stat().st_size > _LARGE:
        return None
    with tempfile.TemporaryDirectory(dir=".") as folder:
        other = Path(folder) / "model.gguf"
        quantise(path, other, "Q8_0", threads or 0)
        with Model(other, threads=threads) as model:
            form = measure(model, prefix, texts[: len(given.log_likelihoods)], kind="Q8_0")
    # E|X/n - p| of a binomial, by the normal approximation.
    spread = np.sqrt(2 * given.first * (1 - given.first) / (np.pi * samples))
    noise = np.minimum(spread, 2 * given.first).sum()
    same = np.abs(form.first - given.first).sum() <= noise
    return form if same and form.drawn > 1.2 * given.drawn and form.read > given.read else None


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
