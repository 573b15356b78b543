"""An audit of someone's own model on their own data: the study that params.yaml lacks, written out.

The file that comes of it goes over params.yaml: `snakemake --configfile studies/NAME.yaml`.
"""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignment_extraction.corpora.formats import ADAPTERS, Conversation, FileFormat, read_rows
from alignment_extraction.files import InputError, sha256
from alignment_extraction.settings.studies import PrefixForm

_ROWS = 200  # rows that a format is told by


def study_name(model: Path) -> str:
    """A study's name from a model's file: lower-case letters, digits, dots and hyphens."""
    name = re.sub(r"[^a-z0-9.]+", "-", model.stem.lower()).strip("-.")
    return name or "audit"


def detect_format(data: Path) -> FileFormat:
    """The format that most of the first 200 rows of a file are written in.

    Raises:
        InputError: the file cannot be read, or no format takes any of these rows.
    """
    usable: dict[FileFormat, int] = {}
    reasons = {}
    for form in ADAPTERS:
        rows = [row for _, row in itertools.islice(read_rows(data, form), _ROWS)]
        usable[form] = sum(isinstance(row, Conversation) for row in rows)
        reasons[form] = next((str(row) for row in rows if not isinstance(row, Conversation)), "")
    best = max(usable, key=lambda form: usable[form])
    if not usable[best]:
        why = "; ".join(f"{form}: {reason}" for form, reason in reasons.items() if reason)
        raise InputError(
            f"{data}: no row is of a known format ({why or 'the file has no rows'}); see "
            "docs/extending.md on adding a format"
        )
    return best


def derivable_prefixes(model: Path) -> list[PrefixForm]:
    """The named prefixes that a model's own chat template gives, without repetitions.

    Raises:
        InputError: the model cannot be loaded, or gives no prefix at all.
    """
    from alignment_extraction.engine.model import Model, probe
    from alignment_extraction.generations.prefix import prefix_tokens

    probe(model)
    forms: tuple[PrefixForm, ...] = ("full", "user", "bos", "none")
    found: dict[tuple[int, ...], PrefixForm] = {}
    reasons = []
    with Model(model, threads=1) as loaded:
        for form in forms:
            try:
                found.setdefault(tuple(prefix_tokens(loaded, form)), form)
            except InputError as error:
                reasons.append(str(error))
    if not found:
        raise InputError(f"{reasons[0]} (none of the prefixes {', '.join(forms)} can be derived)")
    return list(found.values())


def audit_study(
    name: str,
    model: Path,
    data: Path,
    *,
    form: FileFormat | None = None,
    held_out: Path | None = None,
    embedder: str = "minilm",
    samples: int = 256,
    prefixes: Sequence[PrefixForm] | None = None,
) -> dict[str, Any]:
    """The sections of params.yaml that audit `model` on `data`.

    Args:
        name: of the study, and of its model and corpus.
        model: a GGUF file.
        data: a file of rows that the model is said to be trained on.
        form: how a row is written; None works it out.
        held_out: rows of the same kind that it was not trained on, which measure how much is
            coincidence.
        embedder: a name in `embedders` of params.yaml.
        samples: generations for each prefix.
        prefixes: None takes all that the model gives.

    Returns:
        run, models, corpora and studies, as params.yaml has them.

    Raises:
        InputError: a file is missing, no GGUF model, or of no known format.
    """
    for path in (model, data, *([held_out] if held_out else [])):
        if not path.is_file():
            raise InputError(f"{path}: no such file; correct its path")
    forms = list(prefixes or derivable_prefixes(model))
    sources = [("data", data, "member")]
    if held_out:
        sources.append(("held-out", held_out, "held-out"))
    return {
        "run": [name],
        "models": {name: {"source": {"path": str(model), "sha256": sha256(model)}}},
        "corpora": {
            name: {
                "sources": [
                    {
                        "name": source,
                        "format": form or detect_format(path),
                        "path": _literal(path),
                        "role": role,
                    }
                    for source, path, role in sources
                ]
            }
        },
        "studies": {
            name: {
                "title": f"{model.name} against {data.name}",
                "models": [name],
                "corpus": name,
                "embedder": embedder,
                "prefixes": forms,
                "sampling": {"samples": samples},
            }
        },
    }


def _literal(path: Path) -> str:
    """A path that corpora do not take for a pattern."""
    text = str(path)
    if any(character in text for character in "*?["):
        raise InputError(f"{text}: has one of the characters * ? [ in its path; rename it")
    return text
