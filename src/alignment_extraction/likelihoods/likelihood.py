"""Log-likelihood of a corpus's questions and answers under one model.

The paper (arXiv 2510.18554, section 5) scores the questions of an RL data set under the base model
and under the model after RL. Here each question, and each answer given its question, is scored
under one model: inside the rendered conversation, as its tokens are there, and as a plain document.
The probability of a row behind the bare prefix is the chance that a generation is that row.
"""

import zlib
from collections.abc import Callable, Sequence
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
from alignment_extraction.generations.prefix import prefix_tokens
from alignment_extraction.gpu import usable_gpu_layers
from alignment_extraction.likelihoods.min_k import Array, lowest_mean, normalised
from alignment_extraction.settings.studies import LiteralPrefix, PrefixForm
from alignment_extraction.statistics import named_seed

SCHEMA = pl.Schema(
    {
        "id": pl.String(),
        "target": pl.String(),
        "template": pl.Boolean(),
        "prefix": pl.String(),
        "tokens": pl.Int64(),
        "zlib_bytes": pl.Int64(),
        "log_probability": pl.Float64(),
        "end": pl.Float64(),
        "min_k": pl.Float64(),
        "min_k_plus_plus": pl.Float64(),
    }
)
"""Of each text: the corpus row; `question` or `answer`; whether it is scored inside the
conversation or as a plain document (that alone where there is neither template nor literal prefix);
the tokens before the question, as text; its number of tokens; bytes of the text compressed;
log-probability of its tokens in nats, and of what ends a question in the template (null otherwise);
see `min_k`, in nats and in deviations. The last four are null where text and context are longer
than the model's own context, and where there is nothing to score."""

KEYS = dict(list(SCHEMA.items())[:6])
"""What is known of a text before it is scored."""

_ROWS = 2048  # corpus rows whose tokens are held at a time


def likelihood(
    model_path: Path,
    corpus: pl.DataFrame,
    *,
    prefix: PrefixForm | LiteralPrefix = "user",
    template_of: Path | None = None,
    risk_only: bool = False,
    threads: int | None = None,
    gpu_layers: int = 0,
) -> pl.DataFrame:
    """Score every question and answer of `corpus`.

    Args:
        model_path: a GGUF.
        corpus: columns id, question, answer (null or empty where a row has none).
        prefix: before a question. Behind a literal one questions and answers keep the tokens that
            they have in the chat template; where it has an `end`, or the model no template, that
            stands between them.
        template_of: a GGUF of the same vocabulary whose chat template is used, such as the trained
            model where this one is its base.
        risk_only: questions after the prefix alone, and no Min-K%++: what row risk takes.
        threads: of llama.cpp; None uses every core.
        gpu_layers: layers offloaded to a GPU; -1 is all.

    Returns:
        One row for each corpus row x target x template, sorted as the corpus, in `SCHEMA`.

    Raises:
        InputError: the model cannot be loaded, its template or vocabulary does not do, or no text
            fits its context.
    """
    frames = []
    with ExitStack() as stack:
        model = stack.enter_context(Model(model_path, threads=threads, gpu_layers=gpu_layers))
        speaker = model
        if template_of is not None:
            # On the CPU: only its template and vocabulary are asked for.
            speaker = stack.enter_context(Model(template_of, threads=threads))
            require_same_vocabulary(model, speaker)
        scenes = _scenes(speaker, prefix)
        rows = corpus.select("id", pl.col("question", "answer").fill_null(""))
        if risk_only:
            scenes, rows = scenes[:1], rows.with_columns(answer=pl.lit(""))
        total = len(scenes) * (len(rows) + int((rows["answer"] != "").sum()))
        bar = stack.enter_context(
            tqdm(total=total, unit="text", desc=f"likelihood under {model.path.stem}")
        )
        for some in rows.iter_slices(_ROWS):
            for chat, context in scenes:
                keys, texts = _texts(speaker, chat, context, some)
                found = _statistics(model, texts, _progress(bar), moments=not risk_only)
                frames.append(pl.concat([keys, found], how="horizontal"))
    if not frames:
        return pl.DataFrame(schema=SCHEMA)
    table = pl.concat(frames).select(SCHEMA.names()).cast(SCHEMA)
    if len(table) and table["log_probability"].null_count() == len(table):
        raise InputError(
            f"{model_path}: none of the {len(table)} texts to score fits its context; give shorter "
            "rows"
        )
    return table


def _progress(bar: Any) -> Callable[[int, int], None]:
    """Moves `bar` on by the texts that are done, from where it stands now."""
    begin = bar.n
    return lambda done, _tokens: bar.update(begin + done - bar.n)


def _texts(
    model: Model, chat: ChatFormat | None, context: list[int], rows: pl.DataFrame
) -> tuple[pl.DataFrame, list[Spoken]]:
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
    return pl.DataFrame(keys, schema=KEYS, orient="row"), texts


def _scenes(
    model: Model, prefix: PrefixForm | LiteralPrefix
) -> list[tuple[ChatFormat | None, list[int]]]:
    """Surroundings of texts: a way to write conversations, and the tokens before a question.

    The template's, where there is one, and those of a plain document, which has no such way.
    """
    plain = [(None, prefix_tokens(model, "none"))]
    if isinstance(prefix, LiteralPrefix) and (prefix.end or model.chat_template is None):
        chat = ChatFormat.literal(model, prefix.text, prefix.end or "\n")
    elif model.chat_template is not None:
        chat = ChatFormat.of(model)
    else:
        return [*plain]
    return [(chat, prefix_tokens(model, prefix)), *plain]


def _statistics(
    model: Model,
    texts: Sequence[Spoken],
    progress: Callable[[int, int], None],
    moments: bool,
) -> pl.DataFrame:
    """The last four columns of `SCHEMA` of each text."""
    room = np.array([model.n_ctx_train - len(text.context) - len(text.target) for text in texts])
    fits = np.flatnonzero(room >= 0).tolist()
    values = np.full((4, len(texts)), np.nan)
    if fits:
        chosen = [(texts[i].context, [*texts[i].target, *texts[i].end[: room[i]]]) for i in fits]
        scores = score(model, chosen, moments=moments, progress=progress)
        lengths = np.array([len(texts[i].target) for i in fits])
        ends = np.array([len(texts[i].end) for i in fits])
        values[:, fits] = statistics(scores, lengths, ends)
    return pl.DataFrame(dict(zip(SCHEMA.names()[6:], values, strict=True)), nan_to_null=True)


def statistics(scores: TokenScores, lengths: Array, ends: Array) -> Array:
    """Log-probability, that of the end, Min-K % and Min-K%++ of texts.

    Args:
        scores: of each text's tokens and of those of its end.
        lengths: number of tokens of each text.
        ends: number of tokens of its end; where not all of them were scored it has no value.

    Returns:
        float64 (4, texts); NaN where there is nothing to score, or of Min-K%++ no moments.
    """
    starts, stops = scores.offsets[:-1], scores.offsets[1:]
    running = np.concatenate([[0.0], np.cumsum(scores.log_probabilities, dtype=np.float64)])
    has_end = (ends > 0) & (stops - starts == lengths + ends)
    return np.stack(
        [
            running[starts + lengths] - running[starts],
            np.where(has_end, running[stops] - running[starts + lengths], np.nan),
            lowest_mean(scores.log_probabilities, starts, lengths),
            np.full(len(lengths), np.nan)
            if scores.means is None
            else lowest_mean(normalised(scores), starts, lengths),
        ]
    )


def write_likelihood(
    model: Path | tuple[str, str],
    rows: pl.DataFrame,
    output: Path,
    *,
    gpu_layers: int = 0,
    sha256: str | None = None,
    **options: Any,
) -> None:
    """`likelihood` of corpus rows under a model, as a table on disk.

    Args:
        model: the GGUF, or address and name of a model that a server has.
        rows: see `select_rows`.
        output: Parquet to write.
        gpu_layers: layers wanted on a GPU; -1 is all.
        sha256: what the GGUF must be; None takes any.
        options: `prefix`, `template_of`, `risk_only` and `threads` of `likelihood`.

    Raises:
        InputError: see `likelihood`, and the GGUF is another one or was replaced.
    """
    if isinstance(model, tuple):
        # Imported here, as it takes this module's table.
        from alignment_extraction.likelihoods.served import served_likelihood

        options.pop("threads", None)
        frame, about = served_likelihood(model, rows, **options), " at ".join(model[::-1])
    else:
        with unchanged(model, sha256) as found:
            frame = likelihood(model, rows, gpu_layers=usable_gpu_layers(gpu_layers), **options)
        about = f"{model.name} {found}"
    write_parquet(frame, output, {"model": about})


def select_rows(corpus: pl.DataFrame, sources: Sequence[str], limit: int | None) -> pl.DataFrame:
    """The corpus rows to score: some sources, and of each source and role `limit` random rows.

    The draw is the same every time, and a smaller one is part of a larger one.

    Raises:
        InputError: a source that the corpus does not have.
    """
    known = corpus["source"].unique(maintain_order=True).to_list()
    for source in sources:
        if source not in known:
            raise InputError(f"source {source!r} is not in the corpus (it has {', '.join(known)})")
    chosen = corpus.filter(pl.col("source").is_in(sources)) if sources else corpus
    if limit is not None:
        stream = np.random.default_rng(named_seed(0, "likelihood.limit"))
        chosen = (
            chosen.with_columns(order=pl.Series(stream.permutation(len(chosen))))
            .filter(pl.col("order").rank("ordinal").over("source", "role") <= limit)
            .drop("order")
        )
    return chosen
