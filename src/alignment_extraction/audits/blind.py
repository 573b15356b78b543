"""An audit without data: what a model's generations alone can say, and what they cannot.

Shards of generations are drawn one after another until the unseen mass is known closely enough or
the time is up; then every generation is scored after the prefix, at the start of a plain document,
and under the base. The current folder is the audit's.
"""

import itertools
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from alignment_extraction import layout
from alignment_extraction.audits.repeats import Repeats, clusters, repeats
from alignment_extraction.audits.run import READ_PER_DRAWN, Budget, prefix_name
from alignment_extraction.audits.study import AuditModel, look_at
from alignment_extraction.corpora.masking import NAME, NUMBER, masked
from alignment_extraction.engine.model import Model, require_same_vocabulary
from alignment_extraction.engine.scoring import score
from alignment_extraction.files import InputError, atomic_path, read_parquet, write_parquet
from alignment_extraction.generations.prefix import prefix_tokens
from alignment_extraction.generations.shards import model_sha256
from alignment_extraction.generations.shards import prefix_tokens as shown_tokens
from alignment_extraction.generations.steps import literal, write_shard
from alignment_extraction.models.gguf_file import part_files
from alignment_extraction.models.sources import PinnedSource
from alignment_extraction.models.steps import fetch_adapted
from alignment_extraction.report import page, wording
from alignment_extraction.report.wording import Estimate
from alignment_extraction.settings.base import checked
from alignment_extraction.settings.studies import LiteralPrefix, SamplingSettings
from alignment_extraction.statistics import Interval, subtract
from alignment_extraction.vocabulary import Condition

_SHARD = 64
_TOP = 20  # texts of each list on the page
_SAMPLING = SamplingSettings(max_tokens=128, slots=_SHARD)


def run_blind(
    name: str,
    model: AuditModel,
    base: AuditModel | None,
    given: Mapping[str, str] | None,
    budget: Budget,
    samples: int | None = None,
) -> Path:
    """Draw, score and write the page; print what it says first.

    Args:
        name: of the audit and its model.
        model: the model, or an adapter of `base`.
        base: the model before training.
        given: a literal prefix, alone; None tries every prefix of the model's template.
        budget: time, precision (of the unseen mass) and cores.
        samples: generations of each prefix; None draws until the precision or the end of the time.

    Returns:
        The page.

    Raises:
        InputError: the model cannot be sampled from, or the base has another vocabulary.
    """
    path = part_files(model.path)[0]
    if model.adapter and base:
        path = Path("data/models", f"{name}.gguf")
        if not path.exists():
            fetch_adapted(PinnedSource(**model.source), base.path, path)
    prefixes = [checked(LiteralPrefix, given, "prefix")] if given else look_at(path).prefixes
    passes = 3 if base else 2
    spent = [0.0]
    while True:
        drawn = {prefix_name(prefix): _drawn(name, prefix) for prefix in prefixes}
        least = min(frame.height for frame in drawn.values())
        if samples:
            enough = least >= samples
        else:
            unseen = [repeats(f["question"]).unseen for f in drawn.values() if f.height > 1]
            sure = least > 0 and max(u.high - u.low for u in unseen) / 2 <= budget.precision
            reading = sum(spent) * passes / READ_PER_DRAWN
            enough = sure or (least > 0 and budget.left() < max(spent) + reading)
        if enough:
            break
        begin = time.perf_counter()
        for prefix in prefixes:
            first = drawn[prefix_name(prefix)].height
            if first == least:
                write_shard(
                    path,
                    _folder(name, prefix) / f"{first // _SHARD:05d}.parquet",
                    prefix=prefix,
                    sampling=_SAMPLING,
                    seed=0,
                    first=first,
                    samples=min(_SHARD, (samples or first + _SHARD) - first),
                    threads=budget.cores,
                )
        spent.append(time.perf_counter() - begin)
    scored = _scored(path, base and base.path, prefixes, drawn, budget.cores)
    results = Path(layout.results_folder(name))
    write_parquet(scored, results / "generations.parquet")
    output = results / "report.html"
    about = {"model": model.path.name, "sha256": model_sha256(_first(name, prefixes[0]))}
    about |= {
        f"prefix {prefix_name(prefix)}, token by token": shown_tokens(_first(name, prefix))
        for prefix in prefixes
    }
    _write_page(scored, model.path.name, base.path.name if base else None, about, output)
    return output


def _folder(name: str, prefix: Any) -> Path:
    condition = Condition(name, prefix_name(prefix), 0)
    return Path("data/generations", name, layout.condition_folder(condition))


def _first(name: str, prefix: Any) -> Path:
    return _folder(name, prefix) / "00000.parquet"


def _drawn(name: str, prefix: Any) -> pl.DataFrame:
    """Columns question, question_tokens and question_finish of what was drawn after a prefix."""
    columns = ("question", "question_tokens", "question_finish")
    files = sorted(_folder(name, prefix).glob("[0-9]*.parquet"))
    frames = [read_parquet(file, columns) for file in files]
    return pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(columns, pl.String))


def _scored(
    path: Path,
    base: Path | None,
    prefixes: Sequence[Any],
    drawn: Mapping[str, pl.DataFrame],
    threads: int,
) -> pl.DataFrame:
    """Every generation with its log-probabilities, in nats.

    Returns:
        Columns prefix, question, question_finish, tokens; own (after its prefix), plain (at the
        start of a plain document), base (the same, under the base; null without one); zlib_bytes.
    """
    tokens = [list(text) for frame in drawn.values() for text in frame["question_tokens"]]
    scores: dict[str, pl.Series | None] = {"base": None}
    with Model(path, threads=threads) as model:
        contexts = [prefix_tokens(model, *literal(prefix)[:2]) for prefix in prefixes]
        sizes = [frame.height for frame in drawn.values()]
        own = itertools.chain.from_iterable(
            itertools.repeat(context, size) for context, size in zip(contexts, sizes, strict=True)
        )
        scores["own"] = pl.Series(score(model, list(zip(own, tokens, strict=True))).sums())
        plain = prefix_tokens(model, "none")
        scores["plain"] = pl.Series(score(model, [(plain, text) for text in tokens]).sums())
        if base is not None:
            with Model(base, threads=threads) as before:
                require_same_vocabulary(model, before)
                plain = prefix_tokens(before, "none")
                found = score(before, [(plain, text) for text in tokens]).sums()
                scores["base"] = pl.Series(found)
    frame = pl.concat(
        part.select(pl.lit(prefix).alias("prefix"), "question", "question_finish")
        for prefix, part in drawn.items()
    )
    sizes = [len(zlib.compress(text.encode())) for text in frame["question"]]
    return frame.with_columns(
        tokens=pl.Series([len(text) for text in tokens]),
        **{name: pl.lit(None, pl.Float64) if s is None else s for name, s in scores.items()},
        zlib_bytes=pl.Series(sizes),
    )


def _estimate(found: Interval) -> Estimate:
    return Estimate(*(float(value) for value in found))


def _row(label: str, found: Repeats) -> list[str]:
    return [
        label,
        wording.count(found.n),
        wording.count(found.distinct),
        wording.interval(_estimate(found.collision), "rate"),
        f"at least {wording.count(found.support.low)}"
        if found.collision.estimate == 0
        else wording.interval(_estimate(found.support), "count"),
        wording.interval(_estimate(found.unseen), "rate"),
    ]


def _write_page(
    scored: pl.DataFrame, model: str, base: str | None, about: Mapping[str, str], output: Path
) -> None:
    """Write the page, and print its sentences."""
    texts = scored.filter(pl.col("question").str.strip_chars() != "")
    groups = {str(key): part for (key,), part in texts.group_by("prefix", maintain_order=True)}
    known = {key: repeats(part["question"]) for key, part in groups.items() if part.height > 1}
    forms = {key: repeats(masked(part["question"])) for key, part in groups.items() if key in known}
    if not known:
        raise InputError(f"{model}: wrote nothing but empty texts; there is nothing to judge")
    first = next(iter(known))
    prior = "base" if base else "plain"
    ranked = texts.unique("question", maintain_order=True).with_columns(
        ratio=pl.col("own") - pl.col(prior), density=-pl.col("own") / pl.col("zlib_bytes")
    )
    said = [_sentence(first, known[first])]
    if first != "none" and "none" in known:
        more = subtract(known[first].collision, known["none"].collision)
        shown = wording.interval(_estimate(more), "points")
        said.append(f"At the start of a plain document it repeats itself less by {shown}.")
    found = clusters(texts["question"], masked(texts["question"]))
    if found.height:
        top = found.row(0, named=True)
        rate = wording.interval(Estimate(top["rate"], top["low"], top["high"]), "rate")
        said.append(
            f"Names and numbers aside, {wording.plural(found.height, 'text')} came more than once; "
            f"the commonest makes up {rate} of all."
        )
    empty, cut = scored.height - texts.height, texts.filter(question_finish="length").height
    notes = [
        "Repetition alone does not tell memorisation from a narrow distribution: a model that "
        "knows one short pattern repeats itself without having kept a single row. This tells where "
        "to look; `alignment-extraction audit MODEL DATA` tells which rows it gives away.",
        f"A text is high in the first list where the model finds it likelier than "
        f"{'its base' if base else 'it does at the start of a plain document'} does, and in the "
        "second where it is likelier than its length when compressed would have it.",
        f"{wording.plural(empty, 'generation')} {'was' if empty == 1 else 'were'} empty and left "
        f"out; {wording.count(cut)} were cut off at {_SAMPLING.max_tokens} tokens, and hardly ever "
        "equal another. Intervals are at 95 %.",
    ]
    top_rows = {
        f"Likelier than under {base or 'no prefix'}": ranked.sort("ratio", descending=True),
        "Likelier than compression has it": ranked.sort("density"),
    }
    content = page.environment().get_template("blind.html").render(
        title=f"{model}, by what it writes alone",
        said=said,
        notes=notes,
        repeats=[_row(key, found) for key, found in known.items()],
        forms=[_row(key, found) for key, found in forms.items()],
        clusters=[
            [
                wording.count(row["n"]),
                wording.count(row["distinct"]),
                wording.interval(Estimate(row["rate"], row["low"], row["high"]), "rate"),
                wording.visible(row["key"].replace(NUMBER, "[number]").replace(NAME, "[name]")),
                wording.visible(row["example"]),
            ]
            for row in found.head(_TOP).iter_rows(named=True)
        ],
        lists={
            title: [
                [
                    row["prefix"],
                    f"{row['ratio']:.1f}",
                    f"{row['density']:.2f}",
                    wording.visible(row["question"]),
                ]
                for row in frame.head(_TOP).iter_rows(named=True)
            ]
            for title, frame in top_rows.items()
        },
        provenance=about,
        style=Markup((page.HERE / "templates" / "report.css").read_text()),
    )  # fmt: skip
    with atomic_path(output) as partial:
        partial.write_text(content, encoding="utf-8")
    print("\n".join([*said, *notes]))


def _sentence(prefix: str, found: Repeats) -> str:
    unseen = wording.interval(_estimate(found.unseen), "rate")
    support = wording.interval(_estimate(found.support), "count")
    if found.collision.estimate == 0:
        chance = wording.percent(found.collision.high)
        return (
            f"Of {wording.count(found.n)} generations after {prefix} no two are the same: two "
            f"are with a chance of at most {chance}, as if it chose among at least "
            f"{wording.count(found.support.low)} equally likely texts; the next would be new with "
            f"a chance of {unseen}."
        )
    return (
        f"Two generations after {prefix} are the same with a chance of "
        f"{wording.interval(_estimate(found.collision), 'rate')}, as if it chose among {support} "
        f"equally likely texts; the next would be new with a chance of {unseen}."
    )
