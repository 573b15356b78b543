"""Generations: what a model writes when it is prompted with nothing but its template prefix."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.sampling import sample
from alignment_extraction.files import InputError, sha256
from alignment_extraction.generations.conversation import ChatFormat, Ending
from alignment_extraction.generations.prefix import prefix_and_lead


def generate(
    model_path: Path,
    *,
    prefix: str,
    prefix_text: str | None,
    end_text: str = "",
    seed: int,
    first: int,
    samples: int,
    max_tokens: int,
    max_answer_tokens: int | None,
    sampling: Mapping[str, Any],
    threads: int | None = None,
    gpu_layers: int = 0,
    model_sha256: str | None = None,
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Draw generations `first` to `first + samples - 1` of one model, prefix and seed.

    The question ends with an end-of-generation token. Where the template has none between user and
    assistant (Llama 2, OLMo 2), the assistant's header is what ends it.

    Args:
        model_path: the GGUF.
        prefix: a named form or a name for `prefix_text` (see `prefix.prefix_tokens`).
        prefix_text: a literal prefix, or None to derive it.
        end_text: what ends the question and stands before the answer; "" for what the template has.
        seed: with the sample's index, the only source of its randomness.
        first: index of the first generation.
        samples: how many.
        max_tokens: limit of the question turn.
        max_answer_tokens: limit of the answer turn; None draws questions alone.
        sampling: `temperature`, `top_k`, `top_p`, `min_p`, `slots`.
        threads: of llama.cpp; None uses every core.
        gpu_layers: layers offloaded to a GPU; -1 is all.
        model_sha256: of the file, where it is known; None reads it for it.

    Returns:
        The generations (columns of `sampling.sample`), and what they were made with: model and its
        sha256, prefix, settings, as strings to keep in the Parquet's metadata.

    Raises:
        InputError: the model cannot be loaded, the template gives no such prefix or no header for
            an answer, or a number is out of range (see `Model`, `prefix_tokens`, `sample`).
    """
    with Model(model_path, threads=threads, gpu_layers=gpu_layers) as model:
        tokens, lead = prefix_and_lead(model, prefix, prefix_text)
        ending = _ending(model, end_text, needed=max_answer_tokens is not None)
        frame = _sample_with_bar(
            model,
            tokens,
            samples,
            label=f"{model_path.stem} {prefix} seed {seed}",
            seed=seed,
            first=first,
            max_tokens=max_tokens,
            answer_header=None if max_answer_tokens is None else ending.header,
            max_answer_tokens=max_answer_tokens or 0,
            end_text=ending.end_text,
            tails=(ending.tail, ending.answer_tail),
            rest=ending.rest,
            leads=(lead, ending.answer_lead),
            **sampling,
        )
        about = {
            "model": model_path.name,
            "model_sha256": model_sha256 or sha256(model_path),
            "prefix": "".join(model.piece(token) for token in tokens),
            "prefix_tokens": json.dumps([[token, model.piece(token)] for token in tokens]),
            "seed": str(seed),
            "max_tokens": str(max_tokens),
            "max_answer_tokens": str(max_answer_tokens),
            **{key: str(value) for key, value in sampling.items()},
        }
    return frame, about


def _ending(model: Model, end_text: str, *, needed: bool) -> Ending:
    """How a question ends; with nothing but end tokens if unknown, as for a literal prefix."""
    if end_text:
        return ChatFormat.literal(model, "", end_text).ending
    try:
        return ChatFormat.of(model).ending
    except InputError as error:
        if needed:
            raise InputError(
                f"no answer can be drawn, as the assistant's header is unknown: {error}"
            ) from error
        return Ending([])


def _sample_with_bar(
    model: Model, prefix: list[int], samples: int, *, label: str, **options: Any
) -> pl.DataFrame:
    """`sample` behind a progress bar with samples/s, tokens/s and the time left."""
    tokens_drawn = 0
    with tqdm(total=samples, unit="sample", desc=label) as bar:

        def progress(done: int, new_tokens: int) -> None:
            nonlocal tokens_drawn
            tokens_drawn += new_tokens
            elapsed = bar.format_dict["elapsed"] or 1e-9
            bar.set_postfix_str(f"{tokens_drawn / elapsed:,.0f} tokens/s", refresh=False)
            bar.update(done - bar.n)

        return sample(model, prefix, samples, progress=progress, **options)
