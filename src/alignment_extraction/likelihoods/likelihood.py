"""Log-likelihood of a corpus's questions and answers under one model.

As the paper (arXiv 2510.18554, section 5) scores questions before and after RL. Each question, and
each answer given its question, is scored inside the rendered conversation and as a plain document.
The probability of a row behind the bare prefix is the chance that a generation is that row.
"""

import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from alignment_extraction.engine.model import Model, require_same_vocabulary
from alignment_extraction.engine.scoring import TokenScores, score
from alignment_extraction.files import InputError, unchanged, write_parquet
from alignment_extraction.generations.conversation import ChatFormat, Spoken
from alignment_extraction.generations.endpoint import Endpoint, ending_of
from alignment_extraction.generations.prefix import prefix_tokens
from alignment_extraction.generations.server import Server
from alignment_extraction.gpu import usable_gpu_layers
from alignment_extraction.likelihoods.min_k import Array, lowest_mean, normalised
from alignment_extraction.settings.studies import LiteralPrefix, PrefixForm, Scored
from alignment_extraction.statistics import named_seed
from alignment_extraction.vocabulary import SEARCHED_ROLES

_KEYS = {"id": pl.String(), "target": pl.String(), "template": pl.Boolean(), "prefix": pl.String()}
_KEYS |= {"tokens": pl.Int64(), "zlib_bytes": pl.Int64()}
_VALUES = ("log_probability", "end", "min_k", "min_k_plus_plus")
SCHEMA = pl.Schema(_KEYS | dict.fromkeys(_VALUES, pl.Float64()))
"""One row a text, see docs/files.md. The last four, in nats (`min_k_plus_plus` in deviations), are
null where text and context are longer than the model's context, and where nothing is to score."""

_ROWS = 2048  # corpus rows whose tokens are held at a time


def likelihood(
    model_path: Path,
    corpus: pl.DataFrame,
    *,
    prefix: PrefixForm | LiteralPrefix = "user",
    template_of: Path | None = None,
    scored: Scored = "all",
    threads: int | None = None,
    gpu_layers: int = 0,
) -> pl.DataFrame:
    """Score every question and answer of `corpus`.

    Args:
        model_path: a GGUF.
        corpus: columns id, question, answer (null or empty where a row has none).
        prefix: before a question. Behind a literal one texts keep their tokens in the chat
            template; its `end`, where it has one or the model no template, stands between them.
        template_of: a GGUF of the same vocabulary whose chat template is used, such as the trained
            model where this one is its base.
        scored: of each row; of questions alone, which row risk takes, there is no Min-K%++.
        threads: of llama.cpp; None uses every core.
        gpu_layers: layers offloaded to a GPU; -1 is all.

    Returns:
        One row for each corpus row x target x template, sorted as the corpus, in `SCHEMA`.

    Raises:
        InputError: the model cannot be loaded, its template or vocabulary does not do, or no text
            fits its context.
    """
    table = pl.DataFrame(schema=SCHEMA)
    with ExitStack() as stack:
        model = stack.enter_context(Model(model_path, threads=threads, gpu_layers=gpu_layers))
        speaker = model
        if template_of is not None:
            # On the CPU: only its template and vocabulary are asked for.
            speaker = stack.enter_context(Model(template_of, threads=threads))
            require_same_vocabulary(model, speaker)
        scenes = _scenes(speaker, prefix)
        rows = corpus.select("id", pl.col("question", "answer").fill_null(""))
        scenes = scenes if scored == "all" else scenes[:1]
        rows = rows if scored != "questions" else rows.with_columns(answer=pl.lit(""))
        total = len(scenes) * (len(rows) + int((rows["answer"] != "").sum()))
        bar = stack.enter_context(
            tqdm(total=total, unit="text", desc=f"likelihood under {model.path.stem}")
        )
        for some in rows.iter_slices(_ROWS):
            for chat, context in scenes:
                keys, texts = _texts(speaker, chat, context, some)
                found = _statistics(model, texts, bar, moments=scored != "questions")
                table.extend(_as_table(keys, found))
    if len(table) and table["log_probability"].null_count() == len(table):
        raise InputError(
            f"{model_path}: none of the {len(table)} texts to score fits its context; give shorter "
            "rows"
        )
    return table


def served_likelihood(
    model: tuple[str, str], corpus: pl.DataFrame, prefix: PrefixForm | LiteralPrefix
) -> pl.DataFrame:
    """`likelihood` inside the conversation, of a model by its server's address and its name.

    The server tokenises context, text and what ends it together. Min-K%++ is null, as servers do
    not tell how the probabilities of other tokens are spread.

    Raises:
        InputError: the server gives no `prompt_logprobs` or refuses, or the prefix is no literal.
    """
    keys: list[tuple[object, ...]] = []
    texts: list[tuple[str, str, str]] = []
    with Endpoint(Server(*model)) as endpoint:
        given = endpoint.literal(prefix)
        for name, question, answer in corpus.select("id", "question", "answer").iter_rows():
            told = [("question", given.text, question or "", "".join(ending_of(given.end)))]
            if answer:
                told.append(("answer", given.text + (question or "") + given.end, answer, ""))
            for target, context, text, behind in told:
                texts.append((context, text, behind))
                size = len(zlib.compress(text.encode()))
                keys.append((name, target, True, given.text, 0, size))
        scores, lengths, ends = endpoint.score(texts)
    found = _values(scores, scores.offsets[:-1], lengths.clip(0), ends)
    found[:, lengths < 0] = float("nan")
    return _as_table(keys, found).with_columns(tokens=lengths.clip(0))


def _as_table(keys: Iterable[tuple[object, ...]], values: Array) -> pl.DataFrame:
    """Texts in `SCHEMA`, of its first six columns (rows) and the last four, float64 (4, texts)."""
    frame = pl.DataFrame(list(keys), schema=_KEYS, orient="row")
    numbers = pl.DataFrame(dict(zip(_VALUES, values, strict=True)), nan_to_null=True)
    return frame.with_columns(numbers).cast(SCHEMA)


def _texts(
    model: Model, chat: ChatFormat | None, context: list[int], rows: pl.DataFrame
) -> tuple[list[tuple[object, ...]], list[Spoken]]:
    """For each row its question, and its answer given the question; see `_scenes`."""
    written = chat or ChatFormat.literal(model, "", "\n")
    prefix = model.bytes_of(context).decode("utf-8", "replace")
    asked_as = written.shown(rows["question"].to_list(), "user")
    answered_as = written.shown(rows["answer"].to_list(), "assistant")
    keys: list[tuple[object, ...]] = []
    texts: list[Spoken] = []
    for (name, question, answer), asked, answered in zip(
        rows.iter_rows(), asked_as, answered_as, strict=True
    ):
        spoken = [("question", question, written.question(asked, context))]
        if answer:
            spoken.append(("answer", answer, written.answer(asked, answered, context)))
        for target, text, tokens in spoken:
            size = len(zlib.compress(text.encode()))
            keys.append((name, target, chat is not None, prefix, len(tokens.target), size))
            texts.append(tokens if chat is not None else tokens._replace(end=[]))
    return keys, texts


def _scenes(
    model: Model, prefix: PrefixForm | LiteralPrefix
) -> list[tuple[ChatFormat | None, list[int]]]:
    """Surroundings of texts: a way to write conversations, and the tokens before a question.

    The template's, where there is one, and those of a plain document, which has no such way.
    """
    plain = [(None, prefix_tokens(model, "none"))]
    if isinstance(prefix, LiteralPrefix) and (prefix.end or model.chat_template is None):
        chat = ChatFormat.literal(model, prefix.text, prefix.end or "\n")
    elif model.chat_template is None:
        return [*plain]
    else:
        chat = ChatFormat.of(model)
    return [(chat, prefix_tokens(model, prefix)), *plain]


def _statistics(model: Model, texts: Sequence[Spoken], bar: Any, *, moments: bool) -> Array:
    """`_values` of texts that fit the model's context, NaN of others; moves `bar` on.

    An answer in whose context the question before it stands is scored in one pass with it.
    """
    begin = bar.n
    passes: list[tuple[list[int], list[int]]] = []
    fits: list[int] = []
    places: list[tuple[int, int, int, int]] = []  # pass, start and length in it, length of the end
    for i, text in enumerate(texts):
        room = model.n_ctx_train - len(text.context) - len(text.target)
        if room < 0:
            continue
        end = text.end if len(text.end) <= room else []
        context, before = passes[-1] if passes else ([], [])
        before = [*context, *before]
        if before and text.context[: len(before)] == before:
            passes.pop()
        else:
            context = text.context
        start = len(text.context) - len(context)
        passes.append((context, [*text.context[len(context) :], *text.target, *end]))
        fits.append(i)
        places.append((len(passes) - 1, start, len(text.target), len(end)))
    values = np.full((4, len(texts)), np.nan)
    if fits:
        scores = score(
            model,
            passes,
            moments=moments,
            progress=lambda done, _: bar.update(begin + len(texts) * done // len(passes) - bar.n),
        )
        of, starts, lengths, ends = np.array(places).T
        values[:, fits] = _values(scores, scores.offsets[of] + starts, lengths, ends)
    return values


def _values(scores: TokenScores, starts: Array, lengths: Array, ends: Array) -> Array:
    """Log-probability, that of the end, Min-K % and Min-K%++ of texts: float64 (4, texts).

    A text has the `lengths` scores from `starts` on, and its end the `ends` behind them. NaN where
    there is nothing to score, and of Min-K%++ without moments.
    """
    running = np.concatenate([[0.0], np.cumsum(scores.log_probabilities, dtype=np.float64)])
    stops = starts + lengths
    own = running[stops] - running[starts]
    end = np.where(ends > 0, running[stops + ends] - running[stops], np.nan)
    plain = lowest_mean(scores.log_probabilities, starts, lengths)
    normal = np.full_like(own, np.nan)
    if scores.means is not None:
        normal = lowest_mean(normalised(scores), starts, lengths)
    return np.stack([own, end, plain, normal])


def write_likelihood(
    model: Path | tuple[str, str],
    rows: pl.DataFrame,
    output: Path,
    *,
    gpu_layers: int = 0,
    sha256: str | None = None,
    **options: Any,
) -> None:
    """`likelihood` of corpus rows under a model, as Parquet.

    `model` is a GGUF, which must have `sha256` if given, or address and name of one that a server
    has, which takes no more `options` of `likelihood` than `prefix` and `scored`.

    Raises:
        InputError: see `likelihood`, and the GGUF is another one or was replaced.
    """
    if isinstance(model, tuple):
        asked = rows.with_columns(answer=None) if options.get("scored") == "questions" else rows
        frame = served_likelihood(model, asked, options["prefix"])
        about = " at ".join(model[::-1])
    else:
        with unchanged(model, sha256) as found:
            frame = likelihood(model, rows, gpu_layers=usable_gpu_layers(gpu_layers), **options)
        about = f"{model.name} {found}"
    write_parquet(frame, output, {"model": about})


def select_rows(corpus: pl.DataFrame, sources: Sequence[str], limit: int | None) -> pl.DataFrame:
    """The corpus rows to score: of `sources`, or all, `limit` random rows of each and each role.

    The draw is the same every time, and a smaller one is part of a larger one. `InputError` names a
    source that the corpus does not have.
    """
    known = corpus["source"].unique(maintain_order=True).to_list()
    for source in sources:
        if source not in known:
            raise InputError(f"source {source!r} is not in the corpus (it has {', '.join(known)})")
    chosen = corpus.filter(pl.col("source").is_in(sources)) if sources else corpus
    if limit is not None:
        stream = np.random.default_rng(named_seed(0, "likelihood.limit"))
        order = pl.Series("order", stream.permutation(len(chosen)))
        few = pl.col("order").rank("ordinal").over("source", "role") <= limit
        chosen = chosen.with_columns(order).filter(few).drop("order")
    return chosen


def needed_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Of these corpus rows those, with the answers, that a study's tables need scored.

    Where a source has twins, they are what members are compared with before and after training; of
    its held-out rows the tables take how likely their questions are, and nothing else.
    """
    rows = rows.filter(pl.col("role").is_in(SEARCHED_ROLES))
    twins = (pl.col("role") == "twin").any().over("source")
    return rows.with_columns(answer=pl.when((pl.col("role") != "held-out") | ~twins).then("answer"))
