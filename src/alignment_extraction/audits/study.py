"""The study of an audit: what someone gave, checked, as sections of a params.yaml of its own."""

import hashlib
import itertools
import os
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alignment_extraction.audits.workflow import link
from alignment_extraction.corpora.conversations import Conversation, read_rows
from alignment_extraction.corpora.corpus import check_rejects
from alignment_extraction.corpora.source import CorpusSource, source_files
from alignment_extraction.engine.forms import FAST, faster_form, measure
from alignment_extraction.engine.model import Model, probe
from alignment_extraction.engine.quantisation import quantise
from alignment_extraction.files import InputError, sha256
from alignment_extraction.generations.endpoint import Endpoint
from alignment_extraction.generations.prefix import prefix_tokens
from alignment_extraction.generations.server import Server
from alignment_extraction.models.choice import choose_gguf, folder_refusal, hub_model
from alignment_extraction.models.gguf_file import (
    LONE_ADAPTER,
    check_gguf,
    is_adapter,
    part_files,
    pinned_sha256,
)
from alignment_extraction.models.hub import look_up
from alignment_extraction.models.sources import PinnedSource, fetch
from alignment_extraction.settings import config
from alignment_extraction.settings.base import checked
from alignment_extraction.settings.studies import LiteralPrefix, PrefixForm

PARAMS = Path("params.yaml")
"""Of the audit, in whose folder all of it runs."""
_ROWS = 2000  # rows of a file that are looked at before anything is sampled
_MEASURED = 3.0  # seconds that a model reads rows for, to know how fast it is
_UNSAFE = re.compile(r"[{}*?\[\]\n\r]")


def study_name(model: str) -> str:
    """A study's name from a model's path or id: lower-case letters, digits, dots and hyphens."""
    last = re.split("[/:#]", model.partition("@")[0].rstrip("/"))[-1]
    stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", last, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9.]+", "-", stem.lower()).strip("-.") or "audit"


def check_name(name: str, params: Any) -> None:
    """Check that the values of a params.yaml, if any, have nothing named as the audit would be.

    Raises:
        InputError: they have; verbs and MLflow could not tell the two apart.
    """
    for section, kind in (("models", "model"), ("corpora", "corpus"), ("studies", "study")):
        known = params.get(section) if isinstance(params, Mapping) else None
        for own in (name, f"{name}-base"):
            if isinstance(known, Mapping) and own in known:
                raise InputError(
                    f"params.yaml already has a {kind} named {own!r}; give the audit another name: "
                    f"--name {name}-audit (make audit NAME={name}-audit)"
                )


def given_path(given: str) -> str:
    """A path, made absolute, `hf:...` or an address; `InputError` where there is no such file."""
    if re.match("hf:|https?://", given):
        return given
    if not Path(given).exists():
        raise InputError(f"{given}: no such file; correct its path")
    return str(Path(given).absolute())


def check_rows(
    path: str, role: str, options: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Conversation]]:
    """A file or `hf:...` as a source of a corpus, and the usable ones of its first rows.

    The terminal says how many others there are; `options` are keys of `CorpusSource`. Snakemake
    takes braces, and globs take brackets, for patterns: the source's path is a link below data/raw,
    of the same name every time.

    Raises:
        InputError: it cannot be read, holds no usable row, or more than half are not and its
            `allow_rejects` is not set.
    """
    kept = {key: value for key, value in options.items() if value not in (None, False, "first")}
    given = {"name": "data", "path": path, "role": role, **kept}
    source = checked(CorpusSource, given, "data")
    if Path(path).is_dir():
        raise InputError(f"{path}: a folder; name a file of rows in it")
    asked, answered = source.question_field, source.answer_field
    rows = itertools.chain.from_iterable(
        read_rows(file, name=name, question_field=asked, answer_field=answered)
        for name, file in source_files(source)
    )
    seen = [row for _, row, _ in itertools.islice(rows, _ROWS)]
    usable = [row for row in seen if isinstance(row, Conversation)]
    if not usable:
        why = f"row 1: {seen[0]}" if seen else "it has no rows"
        raise InputError(f"{path}: no usable row ({why}); correct the file")
    reasons = Counter(str(row) for row in seen if not isinstance(row, Conversation))
    shown = f"{path}, first {_ROWS:,} rows" if len(seen) == _ROWS else path
    check_rejects(
        shown, len(seen), reasons.total(), dict(reasons.most_common(3)), source.allow_rejects
    )
    if not path.startswith("hf:"):
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
        given["path"] = f"data/raw/{digest}-{_UNSAFE.sub('_', Path(path).name)}"
        link(Path(given["path"]), Path(path))
    return given, usable


class AuditModel(NamedTuple):
    """A model that is there and can be sampled from, or an adapter of one."""

    entry: dict[str, Any]  # `source`, `adapter`, or `endpoint` and `model`, as in params.yaml
    path: Path  # where it lies now; of one that a server has, its name there

    @property
    def adapter(self) -> bool:
        """Whether it is a LoRA adapter."""
        return "adapter" in self.entry


def find_model(given: str, name: str) -> AuditModel:
    """Find a model, bring it here where it is on the hub, and check what it is.

    `given` is a GGUF file, any part of a split one, `hf:owner/name[:file][@revision]`, or a server
    and its name of the model, `http://127.0.0.1:8000/v1#NAME`. What is fetched becomes
    `data/models/{name}.gguf`, where the workflow looks for it.

    Raises:
        InputError: it is not there, or no GGUF model that text can be drawn from.
    """
    if re.match("https?://", given):
        url, _, served = given.partition("#")
        with Endpoint(Server(url, served)):
            return AuditModel({"endpoint": url, "model": served}, Path(served))
    if given.startswith("hf:"):
        repo, file, revision = hub_model(given)
        file = file or choose_gguf(repo, look_up(repo, revision, "model")[1])
        source = {"hf": repo, "revision": revision, "file": file}
        path = Path("data/models", f"{name}.gguf")
        # What an earlier run of this audit brought stays; another model's file does not.
        known = config.read(PARAMS)["models"].get(name, {}) if PARAMS.exists() else {}
        if not path.exists() or source not in (known.get("source"), known.get("adapter")):
            fetch(PinnedSource.model_validate(source), path)
    else:
        path = Path(given)
        if path.is_dir():
            raise InputError(folder_refusal(path, [one.name for one in path.iterdir()]))
        source = {}
    kind = "adapter" if is_adapter(path) else "source"
    if kind == "source":
        check_gguf(path)
    return AuditModel({kind: source or {"path": str(path), "sha256": pinned_sha256(path)}}, path)


def models_of(
    name: str, model: AuditModel, base: AuditModel | None, quantisation: str | None = None
) -> dict[str, Any]:
    """The section `models` of params.yaml: `model`, or an adapter, and its `base`, if there is one.

    `quantisation` is that of both, unless an earlier run of this audit chose for them; an adapter's
    comes from its base. What was fetched lies where the workflow looks for it in this form.

    Raises:
        InputError: an adapter without a base, or as the base.
    """
    if base and base.adapter:
        raise InputError(f"{base.path}: a LoRA adapter; the base is the model without it")
    if model.adapter and base is None:
        raise InputError(f"{model.path}: {LONE_ADAPTER}")
    known = config.read(PARAMS)["models"] if PARAMS.exists() else None
    entries = {f"{name}-base": {**base.entry, "trained_on": []}} if base else {}
    entries[name] = model.entry | ({"base": f"{name}-base"} if base else {})
    if known:
        chosen = (entry.get("quantisation") for entry in known.values())
        quantisation = next(filter(None, chosen), None)
    for one, entry in zip(filter(None, (base, model)), entries.values(), strict=True):
        if quantisation and "source" in entry:
            entry["quantisation"] = quantisation
            if known is None and "hf" in entry["source"]:
                quantise(one.path, one.path, quantisation)
    return entries


class Template(NamedTuple):
    """What a model can be sampled after; with rows, how long they are and how fast it reads."""

    prefixes: list[PrefixForm]
    row_tokens: float = 0  # of a row's question, in the mean
    question_tokens: int = 0  # not exceeded by 99 % of the questions
    tokens_per_second: float = 0  # read in likelihoods; 0 where there are none
    drawn_per_second: float = 0  # tokens, with many sequences at once
    quantisation: str | None = None
    about_it: str = ""
    """What the model is computed in, where it is faster so, and a sentence on that."""


def look_at(model: Path, rows: Sequence[Conversation] = (), threads: int | None = None) -> Template:
    """Read a model's template, without repeated prefixes, and measure the model with some rows.

    Raises:
        InputError: the model cannot be loaded or sampled from, or gives no prefix at all.
    """
    model = part_files(model)[0]
    probe(model)
    forms: tuple[PrefixForm, ...] = ("full", "user", "bos", "none")
    found: dict[tuple[int, ...], PrefixForm] = {}
    reasons = []
    with Model(model, threads=threads) as loaded:
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
        prefixes = list(found.values())
        if not found:
            raise InputError(f"{reasons[0]} (none of {', '.join(forms)} can be derived)")
        if not rows:
            return Template(prefixes)
        context = list(next(iter(found)))
        room = loaded.n_ctx_train - len(context)
        texts = [loaded.tokenize(row.question)[:room] for row in rows]
        given = measure(loaded, context, texts, seconds=_MEASURED)
    sizes = sorted(map(len, texts))
    usual, longest = sum(sizes) / len(sizes), sizes[int(0.99 * (len(sizes) - 1))]
    other = faster_form(model, given, context, texts, threads=threads)
    if other is None:
        return Template(prefixes, usual, longest, given.read, given.drawn)
    said = f"{model.name} is computed in another form: {other.beside(given)}."
    return Template(prefixes, usual, longest, other.read, other.drawn, FAST, said)


def look_at_server(
    model: AuditModel, literal: Mapping[str, str] | None, rows: Sequence[Conversation]
) -> Template:
    """Ask a server's model for some samples and for rows' likelihood, to know how fast it is.

    Raises:
        InputError: without a literal prefix, or the server refuses samples.
    """
    if literal is None:
        raise InputError(
            f"{model.path}: the chat template of a served model is not known; give --prefix-text "
            "and --end-text (docs/models.md has those of many models)"
        )
    prefix = checked(LiteralPrefix, literal, "prefix")
    sizes = sorted(len(row.question) / 4 for row in rows)  # characters of a token, roughly
    usual, longest = sum(sizes) / len(sizes), int(sizes[int(0.99 * (len(sizes) - 1))]) + 1
    with Endpoint(Server(model.entry["endpoint"], model.entry["model"])) as endpoint:
        begin = time.perf_counter()
        endpoint.draw(samples=64, seed=0, max_tokens=12, **endpoint.asked(prefix, answers=False))
        drawn, begin = 64 * 12 / (time.perf_counter() - begin), time.perf_counter()
        try:
            scores, *_ = endpoint.score([(prefix.text, row.question, "") for row in rows[:16]])
        except InputError as error:
            return Template([], usual, longest, 0, drawn, about_it=f"No row risk: {error}.")
    read = len(scores.log_probabilities) / (time.perf_counter() - begin)
    return Template([], usual, longest, read, drawn)


def audit_params(
    name: str,
    models: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
    study: Mapping[str, Any],
    shipped: Mapping[str, Any],
    embedder: str,
) -> dict[str, Any]:
    """The params.yaml of an audit: the study `name` of the model and the corpus `name`.

    `models` and `sources` are those of `models_of` and `check_rows`, `study` has the study's other
    keys, `shipped` is the package's params.yaml, and `embedder` a name in it or a folder.

    Raises:
        InputError: no such embedder.
    """
    embedders = dict(shipped["embedders"])
    if Path(embedder).is_dir():
        source = {"path": embedder, "sha256": sha256(Path(embedder))}
        embedders, embedder = {"given": {"source": source}}, "given"
    elif embedder not in embedders:
        raise InputError(
            f"{embedder!r}: no folder, and no embedder that is known; give one of "
            f"{', '.join(embedders)}, or the folder of a sentence-transformers model"
        )
    return {
        "run": [name],
        "seed": shipped["seed"],
        "gpu_layers": shipped["gpu_layers"],
        "models": dict(models),
        "embedders": embedders,
        "corpora": {name: {"sources": list(sources)}},
        "studies": {name: {**study, "models": [name], "corpus": name, "embedder": embedder}},
    }
