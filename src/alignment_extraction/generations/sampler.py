"""What draws generations: llama.cpp in this process, or a server of completions elsewhere.

    sampler: Sampler = LlamaCpp(model, slots=64)
    asked = sampler.asked("user", answers=False)
    frame = sampler.draw(samples=1000, seed=0, max_tokens=256, **asked)

A third kind is a class with these three methods; see `endpoint.Endpoint` for the second.
"""

import json
from collections.abc import Callable
from typing import Any, Protocol

import polars as pl

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.sampling import sample
from alignment_extraction.files import InputError
from alignment_extraction.generations.conversation import ChatFormat
from alignment_extraction.generations.prefix import prefix_and_lead
from alignment_extraction.settings.studies import LiteralPrefix, PrefixForm

Progress = Callable[[int, int], None]


class Sampler(Protocol):
    """What draws generations of one model."""

    def asked(self, prefix: PrefixForm | LiteralPrefix, *, answers: bool) -> dict[str, Any]:
        """The fields of `Request` that say what the model goes on from, and how its turns end.

        Raises:
            InputError: the chat template gives no such prefix, or no header for an answer.
        """

    def draw(self, *, progress: Progress | None = None, **options: Any) -> pl.DataFrame:
        """The samples of a `Request` of these `options`, in `request.SCHEMA`.

        What a sample is depends on the seed and its index, and not on the samples drawn beside it,
        as far as the engine behind it is exact. `progress` is called now and then with the numbers
        of finished samples and of tokens drawn.
        """

    def about(self, prefix: Any) -> dict[str, str]:
        """What is drawn with, and what after, for provenance: `model`, `prefix` and more."""


class LlamaCpp:
    """Sampling with llama.cpp in this process: `slots` sequences of a loaded GGUF at a time."""

    def __init__(self, model: Model, *, slots: int = 64, sha256: str = "not recorded") -> None:
        self._model, self._slots, self._sha256 = model, slots, sha256

    def asked(self, prefix: PrefixForm | LiteralPrefix, *, answers: bool) -> dict[str, Any]:
        """See `Sampler.asked`."""
        tokens, lead = prefix_and_lead(self._model, prefix)
        try:
            if isinstance(prefix, LiteralPrefix) and prefix.end:
                chat = ChatFormat.literal(self._model, "", prefix.end)
            else:
                chat = ChatFormat.of(self._model)
        except InputError as error:
            if answers:
                why = f"no answer can be drawn, as the assistant's header is unknown: {error}"
                raise InputError(why) from error
            return {"prefix": tokens, "leads": (lead, "")}
        header = chat.turns.header if answers else None
        asked = {"prefix": tokens, "answer_header": header, "leads": (lead, chat.turns.answer_lead)}
        return asked | chat.ending[0]

    def draw(self, *, progress: Progress | None = None, **options: Any) -> pl.DataFrame:
        """See `Sampler.draw`."""
        prefix, samples = options.pop("prefix"), options.pop("samples")
        return sample(self._model, prefix, samples, slots=self._slots, progress=progress, **options)

    def about(self, prefix: Any) -> dict[str, str]:
        """See `Sampler.about`; the prefix is told token by token too."""
        pieces = [(token, self._model.piece(token)) for token in prefix]
        return {
            "model": self._model.path.name,
            "model_sha256": self._sha256,
            "prefix": "".join(piece for _, piece in pieces),
            "prefix_tokens": json.dumps(pieces),
        }
