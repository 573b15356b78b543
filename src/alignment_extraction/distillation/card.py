"""The data-set card of extracted data: what it holds, where it is from, what was dropped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from alignment_extraction.files import InputError

_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "max_tokens", "max_answer_tokens")


def origin(shards: Sequence[Path]) -> dict[str, Any]:
    """What generations were made with, from the metadata of their files.

    Returns:
        model, model_sha256, prefix (as text), seeds, and the settings of sampling that are known.

    Raises:
        InputError: a file does not say what made it.
    """
    about = [pl.read_parquet_metadata(path) for path in shards]
    for path, own in zip(shards, about, strict=True):
        if "model_sha256" not in own:
            raise InputError(f"{path}: does not say what made it; draw the generations again")
    first = about[0]
    return {
        **{key: first[key] for key in ("model", "model_sha256", "prefix")},
        "seeds": sorted({int(own["seed"]) for own in about}),
        "sampling": {key: first[key] for key in _SAMPLING if key in first},
    }


def card(
    title: str,
    counts: pl.DataFrame,
    origins: Mapping[str, Mapping[str, Any]],
    thresholds: Mapping[str, float] | None = None,
) -> str:
    """A data-set card in Markdown, with the front matter that Hugging Face reads.

    Args:
        title: of the card.
        counts: columns data_set and `curation.COUNTS`, and perhaps family.
        origins: of `origin`, by the name under which it is listed.
        thresholds: of a copy (see `data_sets.copies`), where copies were looked for.
    """
    lines = ["---", "tags: [synthetic, extracted]", "license: other", "---", "", f"# {title}", ""]
    for name, about in origins.items():
        sampling = ", ".join(f"{key} {value}" for key, value in about["sampling"].items())
        lines.append(
            f"- {name}: written by `{about['model']}` (SHA-256 `{about['model_sha256']}`) after "
            f"`{about['prefix']!r}`, seeds {about['seeds']}; {sampling}."
        )
    if thresholds:
        lines.append(
            f"- A copy reaches a cosine of {thresholds['semantic']} or a string similarity of "
            f"{thresholds['string']} to a training row, or equals one; hits by chance are among "
            "them."
        )
    lines += [
        "- The texts are a model's own and may repeat its training data, whose licences apply to "
        "what is repeated. Nobody has checked whether they are right.",
        "",
        "| data set | step | before | dropped | left |",
        "| --- | --- | --- | --- | --- |",
    ]
    names = [name for name in ("family", "data_set") if name in counts.columns]
    for row in counts.iter_rows(named=True):
        numbers = " | ".join(f"{row[key]:,}" for key in ("before", "dropped", "left"))
        lines.append(f"| {' '.join(row[name] for name in names)} | {row['step']} | {numbers} |")
    return "\n".join(lines) + "\n"
