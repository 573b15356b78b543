"""The same weights in other forms: llama.cpp's quantiser, and what each form is worth here.

    quantise(Path("model.gguf"), Path("model-q8.gguf"), "Q8_0")
    measure([Path("model.gguf"), Path("model-q8.gguf")], prefix, study=1000)

llama.cpp has fast kernels for some types of weights on some processors and slow ones for others, so
that a larger file can draw faster: SmolLM2-135M in Q8_0 draws about twice the tokens of its Q4_1.
"""

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import llama_cpp
import numpy as np
import numpy.typing as npt

from alignment_extraction.engine.context import Context
from alignment_extraction.engine.model import (
    Model,
    forget_errors,
    last_error,
    require_same_vocabulary,
)
from alignment_extraction.engine.sampling import sample
from alignment_extraction.engine.scoring import score
from alignment_extraction.files import InputError, atomic_path

FTYPES = {
    "F16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16,
    "BF16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q6_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "Q5_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
}
"""llama.cpp's file types by name, most exact first."""

Doubles = npt.NDArray[np.float64]


def quantise(source: Path, output: Path, kind: str, threads: int = 0) -> None:
    """Write a GGUF's weights in another form, with llama.cpp.

    The same source gives the same bytes. A source that is quantised already is quantised again,
    which adds the new form's rounding to the old one's: little for Q8_0, much for a form no finer
    than its own.

    Args:
        source: a GGUF.
        output: file to write.
        kind: a key of `FTYPES`.
        threads: CPU threads; 0 is llama.cpp's own choice.

    Raises:
        InputError: an unknown kind, a missing source, or llama.cpp could not quantise it.
    """
    if kind not in FTYPES:
        raise InputError(f"quantisation {kind} is unknown; use one of {', '.join(FTYPES)}")
    if not source.is_file():
        raise InputError(f"{source}: no such model; run the step that makes it first")
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FTYPES[kind]
    parameters.nthread = threads
    parameters.allow_requantize = True
    forget_errors()
    with atomic_path(output) as partial:
        status = llama_cpp.llama_model_quantize(
            str(source).encode(), str(partial).encode(), ctypes.byref(parameters)
        )
        if status:
            raise InputError(f"{source}: llama.cpp could not quantise it to {kind}: {last_error()}")


class Form(NamedTuple):
    """What a file of the same weights is worth on this machine."""

    path: Path
    tokens_per_second: float
    """Drawn with all slots full."""
    mean_change: float
    """Mean |change of log-probability| of the tokens that the first file's samples hold, nats."""
    largest_change: float
    """Largest of them, nats."""
    first_token: float
    """Total variation, in [0, 1], between this and the first file's distribution of what follows
    the prefix."""
    noise: float
    """Total variation expected between the first file's distribution of what follows the prefix and
    a study's draws of it: what a sample of that size cannot tell from no change."""


def measure(
    paths: Sequence[Path],
    prefix: Sequence[int],
    *,
    study: int,
    samples: int = 64,
    max_tokens: int = 24,
    seed: int = 0,
    threads: int | None = None,
    gpu_layers: int = 0,
) -> list[Form]:
    """Draw from each file with all slots full, and hold its probabilities to the first file's.

    Args:
        paths: GGUFs of one vocabulary; what the others are held to comes first.
        prefix: tokens that the samples continue.
        study: generations of a condition, which `Form.noise` is of.
        samples: drawn from each, one in a slot; at most 256.
        max_tokens: most tokens of a sample.
        seed: of the samples.
        threads: CPU threads; None for all.
        gpu_layers: layers on a GPU; -1 for all.

    Raises:
        InputError: a file that cannot be loaded, or of another vocabulary.
    """
    forms: list[Form] = []
    with Model(paths[0], threads=threads, gpu_layers=gpu_layers) as first:
        drawn, rate = _draw(first, prefix, samples, max_tokens, seed)
        texts = [(prefix, tokens) for tokens in drawn if tokens]
        right = score(first, texts).log_probabilities.astype(np.float64) if texts else np.zeros(1)
        expected = next_token(first, prefix)
        # E|X/n - p| of a binomial, by the normal approximation.
        spread = np.sqrt(2 * expected * (1 - expected) / (np.pi * study))
        noise = float(np.minimum(spread, 2 * expected).sum() / 2)
        forms.append(Form(paths[0], rate, 0.0, 0.0, 0.0, noise))
        for path in paths[1:]:
            with Model(path, threads=threads, gpu_layers=gpu_layers) as other:
                require_same_vocabulary(first, other)
                _, rate = _draw(other, prefix, samples, max_tokens, seed)
                found = score(other, texts).log_probabilities if texts else right
                change = np.abs(found - right)
                distance = np.abs(next_token(other, prefix) - expected).sum() / 2
            forms.append(
                Form(path, rate, float(change.mean()), float(change.max()), float(distance), noise)
            )
    return forms


def fastest(forms: Sequence[Form]) -> Form:
    """The fastest form whose change of the first token is below a sample's own noise.

    The first form, which the others are held to, always qualifies.
    """
    return max(
        (form for form in forms if form.first_token <= form.noise),
        key=lambda form: form.tokens_per_second,
    )


def next_token(model: Model, prefix: Sequence[int]) -> Doubles:
    """The model's probabilities of what follows `prefix`, float64 (n_vocab,)."""
    with Context(
        model, sequences=1, positions=len(prefix), batch=len(prefix), outputs=1
    ) as context:
        context.tokens[:] = prefix
        context.positions[:] = np.arange(len(prefix))
        context.wanted[:] = 0
        context.wanted[-1] = 1
        context.decode(len(prefix))
        logits = context.logits(1)[0].astype(np.float64)
    weights = np.exp(logits - logits.max())
    probabilities: Doubles = weights / weights.sum()
    return probabilities


def _draw(
    model: Model, prefix: Sequence[int], samples: int, max_tokens: int, seed: int
) -> tuple[list[list[int]], float]:
    """The tokens of each sample, and how many were drawn in a second while all slots were full."""
    eog = model.eog
    # No token ends a turn, so that every slot is busy to the end.
    model.eog = frozenset()
    try:
        start = time.perf_counter()
        frame = sample(model, prefix, samples, seed=seed, max_tokens=max_tokens, slots=samples)
        seconds = time.perf_counter() - start
    finally:
        model.eog = eog
    return frame["question_tokens"].to_list(), samples * max_tokens / seconds
