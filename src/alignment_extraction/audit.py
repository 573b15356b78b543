"""An audit of someone's own model on their own data: the study that params.yaml lacks, written out.

The file that comes of it goes over params.yaml: `snakemake --configfile studies/NAME.yaml`.
"""

import hashlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alignment_extraction.corpora.conversations import Conversation, read_rows
from alignment_extraction.corpora.corpus import check_rejects
from alignment_extraction.corpora.hub_data import hub_data
from alignment_extraction.corpora.source import CorpusSource, source_files
from alignment_extraction.files import InputError
from alignment_extraction.models.choice import choose_gguf, folder_refusal, hub_model
from alignment_extraction.models.gguf_file import (
    LONE_ADAPTER,
    check_gguf,
    is_adapter,
    part_files,
)
from alignment_extraction.models.hub import list_files, resolve_commit
from alignment_extraction.models.lock import LOCK
from alignment_extraction.models.sources import PinnedSource, fetch, pinned_sha256
from alignment_extraction.settings.studies import PrefixForm

_ROWS = 2000  # rows of a file that are looked at before anything is sampled
_UNSAFE = re.compile(r"[{}*?\[\]\n\r]")


def study_name(model: str) -> str:
    """A study's name from a model's path or id: lower-case letters, digits, dots and hyphens."""
    last = model.removeprefix("hf:").partition("@")[0].rstrip("/").replace(":", "/").split("/")[-1]
    stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", last, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9.]+", "-", stem.lower()).strip("-.") or "audit"


def check_name(name: str, params: Any) -> None:
    """Check that params.yaml has no model, corpus or study that the audit's would be merged with.

    Args:
        name: of the study, and of its model and corpus.
        params: the values of params.yaml; None where there is none.

    Raises:
        InputError: it has one.
    """
    for section, kind in (("models", "model"), ("corpora", "corpus"), ("studies", "study")):
        known = params.get(section) if isinstance(params, Mapping) else None
        for own in (name, f"{name}-base"):
            if isinstance(known, Mapping) and own in known:
                raise InputError(
                    f"params.yaml already has a {kind} named {own!r}; give the audit another name: "
                    f"--name {name}-audit (make audit NAME={name}-audit)"
                )


def safe_path(path: Path, folder: Path = Path("data/raw")) -> Path:
    """A path that Snakemake takes for no pattern: the file's own, or a link's in `folder`.

    Braces are wildcards to Snakemake. The link's name is made from the path, so that it stays the
    same; parts of a split model are linked together.
    """
    if not _UNSAFE.search(str(path)):
        return path
    digest = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:12]
    for part in part_files(path):
        link = folder / f"{digest}-{_UNSAFE.sub('_', part.name)}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(part.absolute())
    return folder / f"{digest}-{_UNSAFE.sub('_', path.name)}"


def data_path(given: str) -> str:
    """A data set as params.yaml names it: a file's safe path, or the hub's id.

    Raises:
        InputError: no such file, or no such id.
    """
    if given.startswith("hf:"):
        hub_data(given)
        return given
    if not Path(given).is_file():
        raise InputError(f"{given}: no such file; correct its path")
    return str(safe_path(Path(given)))


class AuditModel(NamedTuple):
    """A model that is there and can be sampled from, or an adapter of one."""

    source: dict[str, Any]
    """`path` and `sha256`, or `hf`, `revision` and `file`, as params.yaml has them."""
    path: Path
    """Where it lies now."""
    adapter: bool


def find_model(given: str, name: str, lock: Path = LOCK) -> AuditModel:
    """Find a model, bring it here where it is on the hub, and check what it is.

    Args:
        given: a GGUF file, any part of a split one, or `hf:owner/name[:file][@revision]`.
        name: what params.yaml will call it: it is fetched to `data/models/NAME.gguf`, where the
            workflow looks for it.
        lock: the file that pins what comes from the hub.

    Raises:
        InputError: it is not there, or no GGUF model that text can be drawn from.
    """
    if given.startswith("hf:"):
        wanted = hub_model(given)
        file = wanted.file
        if not file:
            commit = resolve_commit(wanted.repo, wanted.revision, "model")
            file = choose_gguf(wanted.repo, list_files(wanted.repo, commit, "model"))
        source = {"hf": wanted.repo, "revision": wanted.revision, "file": file}
        path = Path("data/models", f"{name}.gguf")
        fetch(PinnedSource.model_validate(source), path, lock)
    else:
        path = Path(given)
        if path.is_dir():
            raise InputError(folder_refusal(path, [one.name for one in path.iterdir()]))
        if not path.is_file():
            raise InputError(f"{path}: no such file; correct its path")
        path = safe_path(path)
        source = {}
    adapter = is_adapter(path)
    if not adapter:
        check_gguf(path)
    return AuditModel(source or {"path": str(path), "sha256": pinned_sha256(path)}, path, adapter)


def derivable_prefixes(model: Path) -> list[PrefixForm]:
    """The named prefixes that a model's own chat template gives, without repetitions.

    Raises:
        InputError: the model cannot be loaded or sampled from, or gives no prefix at all.
    """
    from alignment_extraction.engine.model import Model, probe
    from alignment_extraction.generations.prefix import prefix_tokens

    model = part_files(model)[0]
    probe(model)
    forms: tuple[PrefixForm, ...] = ("full", "user", "bos", "none")
    found: dict[tuple[int, ...], PrefixForm] = {}
    reasons = []
    with Model(model, threads=1) as loaded:
        if not loaded.forgets:
            raise InputError(
                f"{model}: a recurrent or hybrid model, whose state cannot go back to the prefix; "
                "give a model with attention alone"
            )
        for form in forms:
            try:
                found.setdefault(tuple(prefix_tokens(loaded, form)), form)
            except InputError as error:
                reasons.append(str(error))
    if not found:
        raise InputError(f"{reasons[0]} (none of the prefixes {', '.join(forms)} can be derived)")
    return list(found.values())


def check_rows(source: CorpusSource, lock: Path = LOCK) -> None:
    """Look at the first rows of a data set; say on the terminal how many cannot be used.

    Raises:
        InputError: it cannot be read, holds no usable row, or more than half are not and its
            `allow_rejects` is not set.
    """
    name = str(source.path)
    files = source_files(source, lock)
    rows = itertools.chain.from_iterable(
        read_rows(
            path,
            name=file,
            question_field=source.question_field,
            answer_field=source.answer_field,
        )
        for file, path in files
    )
    seen = [row for _, row, _ in itertools.islice(rows, _ROWS)]
    reasons = Counter(str(row) for row in seen if not isinstance(row, Conversation))
    rejected = sum(reasons.values())
    if rejected == len(seen):
        why = f"row 1: {seen[0]}" if seen else "it has no rows"
        raise InputError(f"{name}: no usable row ({why}); correct the file")
    shown = f"{name}, first {_ROWS:,} rows" if len(seen) == _ROWS else name
    check_rejects(shown, len(seen), rejected, dict(reasons.most_common(3)), source.allow_rejects)


def data_sources(
    data: str,
    *,
    held_out: str | None = None,
    question_field: str | None = None,
    answer_field: str | None = None,
    turns: str = "first",
    allow_rejects: bool = False,
) -> list[dict[str, Any]]:
    """The sources of the corpus, as params.yaml has them.

    Args:
        data: rows that the model is said to be trained on: a file or a data set of the hub.
        held_out: rows of the same kind that it was not trained on, which measure how much is
            coincidence.
        question_field, answer_field, turns, allow_rejects: see `CorpusSource`.

    Raises:
        InputError: no such file, or no such id.
    """
    more = {
        "question_field": question_field,
        "answer_field": answer_field,
        "turns": None if turns == "first" else turns,
        "allow_rejects": allow_rejects or None,
    }
    kept = {key: value for key, value in more.items() if value is not None}
    given = [(data, "member"), *([(held_out, "held-out")] if held_out else [])]
    return [{"name": "data", "path": data_path(path), "role": role, **kept} for path, role in given]


def audit_study(
    name: str,
    model: AuditModel,
    sources: Sequence[dict[str, Any]],
    *,
    base: AuditModel | None = None,
    embedder: str = "minilm",
    samples: int = 256,
    prefixes: Sequence[PrefixForm | Mapping[str, str]] = ("full", "user", "bos", "none"),
) -> dict[str, Any]:
    """The sections of params.yaml that audit `model` on a corpus of `sources`.

    Args:
        name: of the study, and of its model and corpus.
        model: the model, or an adapter, whose base is then `base`.
        sources: see `data_sources`.
        base: the model before that training; it is not trained on the rows.
        embedder: a name in `embedders` of params.yaml.
        samples: generations for each prefix.
        prefixes: those that the model gives, or literal ones.

    Returns:
        run, models, corpora and studies, as params.yaml has them.

    Raises:
        InputError: an adapter without a base, or as the base.
    """
    if base and base.adapter:
        raise InputError(f"{base.path}: a LoRA adapter; the base is the model without it")
    if model.adapter and base is None:
        raise InputError(f"{model.path}: {LONE_ADAPTER}")
    models: dict[str, Any] = {}
    if base:
        models[f"{name}-base"] = {"source": base.source, "trained_on": []}
    adapted = {"base": f"{name}-base", "adapter": model.source}
    models[name] = adapted if model.adapter else {"source": model.source}
    likelihood: dict[str, Any] = {"models": [name, *([f"{name}-base"] if base else [])]}
    if {"full", "user"} & {form for form in prefixes if isinstance(form, str)}:
        likelihood["prefix"] = "user"
    data = str(sources[0]["path"]).rsplit("/", 1)[-1]
    return {
        "run": [name],
        "models": models,
        "corpora": {name: {"sources": list(sources)}},
        "studies": {
            name: {
                "title": f"{model.path.name} against {data}",
                "models": [name],
                "corpus": name,
                "embedder": embedder,
                "prefixes": [dict(p) if isinstance(p, Mapping) else p for p in prefixes],
                "fields": ["question"],
                "sampling": {"samples": samples},
                "likelihood": likelihood,
            }
        },
    }
