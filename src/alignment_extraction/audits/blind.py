"""An audit without data: what a model's generations alone can say, and what they cannot.

Shards of generations are drawn until the unseen mass is known closely enough or the time is up;
then each is scored after its prefix, at the start of a plain document, and under the base. The
current folder is the audit's.
"""

import itertools
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from alignment_extraction import layout
from alignment_extraction.audits.repeats import clusters, repeats
from alignment_extraction.audits.run import READ_PER_DRAWN, Budget, prefix_name
from alignment_extraction.audits.study import AuditModel, look_at
from alignment_extraction.corpora.masking import NAME, NUMBER, masked
from alignment_extraction.engine.model import Model, require_same_vocabulary
from alignment_extraction.engine.scoring import score
from alignment_extraction.files import InputError, atomic_path, read_parquet, write_parquet
from alignment_extraction.generations import shards
from alignment_extraction.generations.generation import write_shard
from alignment_extraction.generations.prefix import prefix_tokens
from alignment_extraction.models.gguf_file import part_files
from alignment_extraction.models.sources import PinnedSource
from alignment_extraction.models.steps import fetch_adapted
from alignment_extraction.report.rendering import HERE, paragraphs, render
from alignment_extraction.settings.base import checked
from alignment_extraction.settings.studies import LiteralPrefix, SamplingSettings
from alignment_extraction.statistics import subtract
from alignment_extraction.vocabulary import Condition

_SHARD = 64
_TOP = 20  # texts of each list on the page
_SAMPLING = SamplingSettings(max_tokens=128, slots=_SHARD)
_COLUMNS = ("question", "question_tokens", "question_finish")


def run_blind(
    name: str,
    model: AuditModel,
    base: AuditModel | None,
    given: Mapping[str, str] | None,
    budget: Budget,
    samples: int | None = None,
) -> Path:
    """Draw, score, write the page and give its path; its first sentences are printed.

    Args:
        name: of the audit and its model, which may be an adapter of `base`.
        model, base: after and before training.
        given: a literal prefix, alone; None tries every prefix of the model's template.
        budget: the precision is that of the unseen mass.
        samples: generations of each prefix; None draws until the precision or the end of the time.

    Raises:
        InputError: the model cannot be sampled from, or the base has another vocabulary.
    """
    path = part_files(model.path)[0]
    if model.adapter and base:
        path = Path("data/models", f"{name}.gguf")
        if not path.exists():
            fetch_adapted(PinnedSource(**model.entry["adapter"]), base.path, path)
    prefixes = [checked(LiteralPrefix, given, "prefix")] if given else look_at(path).prefixes
    folders = {
        prefix: Path("data/generations", name, layout.condition_folder(Condition(name, key, 0)))
        for prefix in prefixes
        if (key := prefix_name(prefix))
    }
    rounds: list[float] = []
    for number in itertools.count():
        first = number * _SHARD
        missing = [p for p, f in folders.items() if not (f / f"{number:05d}.parquet").exists()]
        if missing and first and not samples:
            unseen = [repeats(_drawn(folder)["question"]).unseen for folder in folders.values()]
            sure = max(u.high - u.low for u in unseen) / 2 <= budget.precision
            scoring = sum(rounds) * (3 if base else 2) / READ_PER_DRAWN
            if sure or budget.left() < max(rounds) + scoring:
                break
        if samples and first >= samples:
            break
        begin = time.monotonic()
        for prefix in missing:
            write_shard(
                path,
                folders[prefix] / f"{number:05d}.parquet",
                prefix=prefix,
                sampling=_SAMPLING,
                seed=0,
                first=first,
                samples=min(_SHARD, samples - first) if samples else _SHARD,
                threads=budget.cores,
            )
        rounds.append(time.monotonic() - begin)
    scored = _scored(path, base and base.path, folders, budget.cores)
    results = Path(layout.results_folder(name))
    write_parquet(scored, results / "generations.parquet")
    files = {prefix_name(prefix): folder / "00000.parquet" for prefix, folder in folders.items()}
    about = {"sha256": shards.model_sha256(next(iter(files.values())))}
    about |= {f"prefix {key}": shards.prefix_tokens(file) for key, file in files.items()}
    before = base.path.name if base else ""
    _write_page(scored, model.path.name, before, about, results / "report.html")
    return results / "report.html"


def _drawn(folder: Path) -> pl.DataFrame:
    files = sorted(folder.glob("[0-9]*.parquet"))
    return pl.concat(read_parquet(file, _COLUMNS) for file in files)


def _scored(
    path: Path, base: Path | None, folders: Mapping[Any, Path], threads: int
) -> pl.DataFrame:
    """Every generation that is no blank, with its log-probabilities in nats.

    Returns:
        Columns prefix, question, question_tokens, question_finish; own (after its prefix), plain
        (at the start of a plain document), base (the same under the base; null without one); ratio
        (own less base, or less plain), density (-own for each byte of the compressed text).
    """
    frame = pl.concat(
        _drawn(folder).with_columns(prefix=pl.lit(prefix_name(prefix)))
        for prefix, folder in folders.items()
    ).filter(pl.col("question").str.strip_chars() != "")
    if frame.is_empty():
        raise InputError(f"{path}: wrote nothing but blanks; there is nothing to judge")
    tokens = frame["question_tokens"].to_list()
    with Model(path, threads=threads) as model:
        contexts = {prefix_name(p): prefix_tokens(model, p) for p in folders}
        own = [contexts[prefix] for prefix in frame["prefix"]]
        plain = [prefix_tokens(model, "none")] * len(tokens)
        found = {
            "own": score(model, list(zip(own, tokens, strict=True))).sums(),
            "plain": score(model, list(zip(plain, tokens, strict=True))).sums(),
        }
        if base is not None:
            with Model(base, threads=threads) as before:
                require_same_vocabulary(model, before)
                plain = [prefix_tokens(before, "none")] * len(tokens)
                found["base"] = score(before, list(zip(plain, tokens, strict=True))).sums()
    sizes = pl.Series([len(zlib.compress(text.encode())) for text in frame["question"]])
    if base is None:
        frame = frame.with_columns(base=pl.lit(None, pl.Float64))
    return frame.with_columns(pl.Series(key, sums) for key, sums in found.items()).with_columns(
        ratio=pl.col("own") - pl.coalesce("base", "plain"), density=-pl.col("own") / sizes
    )


def _write_page(
    scored: pl.DataFrame, model: str, base: str, about: Mapping[str, str], output: Path
) -> None:
    groups = scored.partition_by("prefix", as_dict=True, maintain_order=True)
    texts = {str(key): part["question"] for (key,), part in groups.items()}
    known = {key: repeats(own) for key, own in texts.items() if len(own) > 1}
    hidden = masked(scored["question"]).str.replace_all(NUMBER, "[number]", literal=True)
    hidden = hidden.str.replace_all(NAME, "[name]", literal=True)
    first = next(iter(known), "")
    plain = first != "none" and known.get("none")
    ranked = scored.unique("question", maintain_order=True)
    values = {
        "model": model,
        "base": base,
        "first": first,
        "repeats": known,
        "forms": {key: repeats(masked(texts[key])) for key in known},
        "excess": subtract(known[first].collision, plain.collision) if plain else None,
        "clusters": clusters(scored["question"], hidden).head(_TOP).to_dicts(),
        "likelier": ranked.sort("ratio", descending=True).head(_TOP).to_dicts(),
        "dense": ranked.sort("density").head(_TOP).to_dicts(),
        "cut": scored.filter(question_finish="length").height,
        "most_tokens": _SAMPLING.max_tokens,
        "about": about,
        "style": Markup((HERE / "templates" / "report.css").read_text()),
    }
    said = " ".join(paragraphs("blind.txt", **values))
    with atomic_path(output) as partial:
        partial.write_text(render("blind.html", **values, said=said), encoding="utf-8")
    print(said)
