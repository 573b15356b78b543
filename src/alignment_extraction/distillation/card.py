"""The data-set card of extracted data: what it holds, where it is from, what was dropped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader

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

    `counts` has the columns data_set and `curation.COUNTS`, and perhaps family; `origins` are those
    of `origin` by name, `thresholds` those of `data_sets.copies`, where copies were looked for.
    """
    environment = Environment(loader=PackageLoader(__package__, ""), keep_trailing_newline=True)
    return environment.get_template("card.md.jinja").render(
        title=title, counts=counts.to_dicts(), origins=origins, thresholds=thresholds
    )
