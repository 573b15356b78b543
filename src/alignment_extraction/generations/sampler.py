"""What draws generations: llama.cpp in this process, or a server of completions elsewhere.

    sampler: Sampler = LlamaCpp(model, slots=64)
    frame = sampler.draw(prefix, 1000, seed=0, max_tokens=256)

A third kind is a class with `draw` and `about`; see `endpoint.Endpoint` for the second.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import polars as pl

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.sampling import sample


class Sampler(Protocol):
    """What draws generations of one model."""

    def draw(
        self,
        prefix: Sequence[int],
        samples: int,
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
        progress: Callable[[int, int], None] | None = None,
        **turns: Any,
    ) -> pl.DataFrame:
        """Generations `first` to `first + samples - 1`, in the columns of `sampling.SCHEMA`.

        The arguments are those of `sampling.sample`. What a sample is depends on `seed` and its
        index, and not on the samples drawn beside it, as far as the engine behind it is exact.
        """
        ...

    def about(self) -> dict[str, str]:
        """What the generations are drawn with, for their provenance."""
        ...


class LlamaCpp:
    """Sampling with llama.cpp in this process.

    Args:
        model: a loaded GGUF.
        slots: sequences decoded together.
    """

    def __init__(self, model: Model, *, slots: int = 64) -> None:
        self._model, self._slots = model, slots

    def draw(self, prefix: Sequence[int], samples: int, **options: Any) -> pl.DataFrame:
        """See `Sampler.draw`."""
        return sample(self._model, prefix, samples, slots=self._slots, **options)

    def about(self) -> dict[str, str]:
        """See `Sampler.about`."""
        return {"sampler": "llama.cpp", "model": self._model.path.name}
