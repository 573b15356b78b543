"""Generations: what a model writes when it is prompted with nothing but its template prefix."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm

from alignment_extraction.files import sha256
from alignment_extraction.model import Model
from alignment_extraction.prefix import model_turns, prefix_tokens
from alignment_extraction.sampling import sample


def split_turns(frame: pl.DataFrame, header: str) -> pl.DataFrame:
    """Split a question in which the model itself went on to the assistant's turn.

    In templates whose headers are plain text (OLMo 2's `<|assistant|>`), no special token ends the
    user's turn: the model writes the header and answers. What follows the first `header` becomes
    the answer; the token columns keep the whole sequence.

    Args:
        frame: columns `question` and `answer` at least.
        header: text between the turns, special tokens removed.
    """
    if not header.strip():
        return frame
    parts = pl.col("question").str.splitn(header.strip(), 2).struct
    runs_on = pl.col("question").str.contains(header.strip(), literal=True)
    return frame.with_columns(
        question=pl.when(runs_on)
        .then(parts.field("field_0").str.strip_chars_end())
        .otherwise("question"),
        answer=pl.when(runs_on).then(parts.field("field_1").str.strip_chars()).otherwise("answer"),
    )


def generate(
    model_path: Path,
    *,
    prefix: str,
    prefix_text: str | None,
    seed: int,
    first: int,
    samples: int,
    max_tokens: int,
    max_answer_tokens: int | None,
    sampling: Mapping[str, Any],
    threads: int | None = None,
    gpu_layers: int = 0,
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Draw generations `first` to `first + samples - 1` of one model, prefix and seed.

    Args:
        model_path: the GGUF.
        prefix: a named form or a name for `prefix_text` (see `prefix.prefix_tokens`).
        prefix_text: a literal prefix, or None to derive it.
        seed: with the sample's index, the only source of its randomness.
        first: index of the first generation.
        samples: how many.
        max_tokens: limit of the question turn.
        max_answer_tokens: limit of the answer turn; None draws questions alone.
        sampling: `temperature`, `top_k`, `top_p`, `min_p`, `slots`.
        threads: of llama.cpp; None uses every core.
        gpu_layers: layers offloaded to a GPU; -1 is all.

    Returns:
        The generations (columns of `sampling.sample`), and what they were made with: model and its
        sha256, prefix, settings, as strings to keep in the Parquet's metadata.
    """
    with Model(model_path, threads=threads, gpu_layers=gpu_layers) as model:
        tokens = prefix_tokens(model, prefix, prefix_text)
        header = model_turns(model).answer_header if model.chat_template else ""
        plain_header = model.detokenize(model.tokenize(header))
        bar = tqdm(total=samples, unit="sample", desc=f"{model_path.stem} {prefix} seed {seed}")
        tokens_done = 0

        def progress(samples_done: int, new_tokens: int) -> None:
            nonlocal tokens_done
            tokens_done += new_tokens
            bar.update(samples_done - bar.n)
            elapsed = bar.format_dict["elapsed"] or 1e-9
            bar.set_postfix_str(f"{tokens_done / elapsed:,.0f} tokens/s", refresh=False)

        with bar:
            frame = sample(
                model,
                tokens,
                samples,
                seed=seed,
                first=first,
                max_tokens=max_tokens,
                answer_header=None if max_answer_tokens is None else model.tokenize(header),
                max_answer_tokens=max_answer_tokens or 0,
                progress=progress,
                **sampling,
            )
        about = {
            "model": model_path.name,
            "model_sha256": sha256(model_path),
            "prefix": "".join(model.piece(token) for token in tokens),
            "seed": str(seed),
            "max_tokens": str(max_tokens),
            "max_answer_tokens": str(max_answer_tokens),
            **{key: str(value) for key, value in sampling.items()},
        }
    # Only a header of plain text can stand in a question: special tokens end the turn.
    is_plain = "|" in plain_header or "[" in plain_header
    return (split_turns(frame, plain_header) if is_plain else frame), about
