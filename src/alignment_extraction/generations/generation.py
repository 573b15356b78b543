"""Generations: what a model writes when it is prompted with nothing but its template prefix."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm

from alignment_extraction.engine.model import Model
from alignment_extraction.files import unchanged, write_parquet
from alignment_extraction.generations.endpoint import Endpoint
from alignment_extraction.generations.sampler import LlamaCpp, Sampler
from alignment_extraction.generations.server import Server
from alignment_extraction.gpu import usable_gpu_layers
from alignment_extraction.settings.studies import LiteralPrefix, PrefixForm, SamplingSettings


def generate(
    sampler: Sampler,
    *,
    prefix: PrefixForm | LiteralPrefix,
    sampling: SamplingSettings,
    seed: int,
    first: int,
    samples: int,
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Draw generations `first` to `first + samples - 1` of one model, prefix and seed.

    Of `sampling`, `samples` and `shard` are not looked at.

    Returns:
        The generations in `request.SCHEMA`, and what they were made with, for the metadata.

    Raises:
        InputError: see `Sampler.asked`, or a number is out of range (see `Request`).
    """
    answers = sampling.max_answer_tokens if sampling.answer else None
    asked = sampler.asked(prefix, answers=answers is not None)
    about = sampler.about(asked["prefix"])
    options = sampling.model_dump(include={"temperature", "top_k", "top_p", "min_p"})
    name = prefix.name if isinstance(prefix, LiteralPrefix) else prefix
    label = f"{about['model'].removesuffix('.gguf')} {name} seed {seed}"
    start = time.monotonic()
    with tqdm(total=samples, unit="sample", desc=label, mininterval=0.5) as bar:

        def progress(done: int, tokens: int) -> None:
            rate = tokens / (time.monotonic() - start)
            bar.set_postfix_str(f"{rate:,.0f} tokens/s", refresh=False)
            bar.update(done - bar.n)

        frame = sampler.draw(
            progress=progress,
            samples=samples,
            seed=seed,
            first=first,
            max_tokens=sampling.max_tokens,
            max_answer_tokens=answers or 0,
            **asked,
            **options,
        )
    told = {"seed": seed, "max_tokens": sampling.max_tokens, "max_answer_tokens": answers}
    told |= options | {"slots": sampling.slots}
    return frame, about | {key: str(value) for key, value in told.items()}


def write_shard(
    model: Path | tuple[str, str],
    output: Path,
    *,
    sampling: SamplingSettings,
    threads: int | None = None,
    gpu_layers: int = 0,
    sha256: str | None = None,
    **condition: Any,
) -> None:
    """`generate` with a model, and write the shard, Parquet with how it was drawn in its metadata.

    `model` is a GGUF, which must have `sha256` if given, or address and name of one that a server
    has; `threads` None uses every core, `gpu_layers` -1 wants all on a GPU. `condition` has
    `prefix`, `seed`, `first` and `samples` of `generate`.

    Raises:
        InputError: see `generate`, and the GGUF cannot be loaded, is another one or was replaced.
    """
    with ExitStack() as stack:
        sampler: Sampler
        if isinstance(model, tuple):
            sampler = stack.enter_context(Endpoint(Server(*model)))
        else:
            found = stack.enter_context(unchanged(model, sha256))
            layers = usable_gpu_layers(gpu_layers)
            loaded = stack.enter_context(Model(model, threads=threads, gpu_layers=layers))
            sampler = LlamaCpp(loaded, slots=sampling.slots, sha256=found)
        frame, about = generate(sampler, sampling=sampling, **condition)
    write_parquet(frame, output, about)
