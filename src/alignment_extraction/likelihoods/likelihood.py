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
from alignment_extraction.engine.scoring import score
from alignment_extraction.files import InputError
from alignment_extraction.generations.conversation import ChatFormat, Spoken
from alignment_extraction.generations.prefix import prefix_tokens
from alignment_extraction.likelihoods.min_k import lowest_mean, normalised
from alignment_extraction.statistics import named_seed

_ROWS = 2048  # corpus rows whose tokens are held at a time

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


def likelihood(
    model_path: Path,
    corpus: pl.DataFrame,
    *,
    prefix: str = "user",
    prefix_text: str | None = None,
    end_text: str = "",
    template_of: Path | None = None,
    threads: int | None = None,
    gpu_layers: int = 0,
) -> pl.DataFrame:
    """Score every question and answer of `corpus`; see `SCHEMA`.

    Args:
        model_path: a GGUF.
        corpus: columns id, question, answer (null or empty where a row has none).
        prefix: before a question, `full` or `user` (see `prefix.FORMS`) or a name for
            `prefix_text`.
        prefix_text: a literal prefix. With a chat template, questions and answers keep the tokens
            that they have in it; without one, `end_text` stands between them.
        end_text: what ends a question and begins an answer behind a literal prefix.
        template_of: a GGUF of the same vocabulary whose chat template is used, such as the trained
            model where this one is its base.
        threads: of llama.cpp; None uses every core.
        gpu_layers: layers offloaded to a GPU; -1 is all.

    Returns:
        One row for each corpus row x target x template, sorted as the corpus: id; target
        (`question` or `answer`); template (inside the conversation, or as a plain document; False
        alone where there is no template and no `prefix_text`); prefix (tokens before the question,
        as text); tokens; zlib_bytes (size of the text compressed); log_probability (of the
        target's tokens, nats); end (of what ends a question in the template, nats; null
        otherwise); min_k and min_k_plus_plus (nats; deviations). The last four are null where text
        and context are longer than the model's own context, and where there is nothing to score.

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
        scenes = _scenes(speaker, prefix, prefix_text, end_text)
        rows = corpus.select("id", "question", "answer")
        answers = int((rows["answer"].str.len_bytes() > 0).sum())
        total = len(scenes) * (len(rows) + answers)
        bar = stack.enter_context(
            tqdm(total=total, unit="text", desc=f"likelihood under {model.path.stem}")
        )
        for some in rows.iter_slices(_ROWS):
            for scene in scenes:
                keys, texts = scene.texts(some)
                found = _statistics(model, texts, _progress(bar))
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


class _Scene:
    """The surroundings in which texts are scored: a prefix, and a way to write conversations."""

    def __init__(self, model: Model, chat: ChatFormat | None, context: list[int]) -> None:
        """Texts behind `context`, in the format `chat`; None for plain documents."""
        self.model, self.chat, self.context = model, chat, context
        self.plain = ChatFormat.literal(model, "", "\n") if chat is None else chat

    def texts(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, list[Spoken]]:
        """For each row its question, and its answer given the question."""
        chat, context = self.plain, self.context
        questions = rows["question"].fill_null("").to_list()
        answers = rows["answer"].fill_null("").to_list()
        prefix = self.model.bytes_of(context).decode("utf-8", "replace")
        keys: list[tuple[Any, ...]] = []
        texts: list[Spoken] = []
        shown = zip(
            rows["id"],
            questions,
            answers,
            chat.shown(questions, "user"),
            chat.shown(answers, "assistant"),
            strict=True,
        )
        for name, question, answer, asked, answered in shown:
            spoken = [("question", question, chat.question(asked, context))]
            if answer:
                spoken.append(("answer", answer, chat.answer(asked, answered, context)))
            for target, text, tokens in spoken:
                size = len(zlib.compress(text.encode()))
                keys.append((name, target, self.chat is not None, prefix, len(tokens.target), size))
                texts.append(tokens if self.chat is not None else tokens._replace(end=[]))
        return pl.DataFrame(keys, schema=dict(list(SCHEMA.items())[:6]), orient="row"), texts


def _progress(bar: Any) -> Callable[[int, int], None]:
    """Moves `bar` on by the texts that are done, from where it stands now."""
    begin = bar.n
    return lambda done, _tokens: bar.update(begin + done - bar.n)


def _scenes(model: Model, prefix: str, prefix_text: str | None, end_text: str) -> list[_Scene]:
    """The template's surroundings, where there are some, and those of a plain document."""
    scenes = [_Scene(model, None, prefix_tokens(model, "none"))]
    chat: ChatFormat | None = None
    if prefix_text is not None and (end_text or model.chat_template is None):
        chat = ChatFormat.literal(model, prefix_text, end_text or "\n")
    elif model.chat_template is not None:
        chat = ChatFormat.of(model)
    if chat is not None:
        scenes.insert(0, _Scene(model, chat, prefix_tokens(model, prefix, prefix_text)))
    return scenes


def _statistics(
    model: Model, texts: Sequence[Spoken], progress: Callable[[int, int], None] | None = None
) -> pl.DataFrame:
    """One row a text; null where it does not fit the model's context.

    Returns:
        Columns log_probability, end (of the text and of its end, in nats), min_k,
        min_k_plus_plus (see `min_k`; null for a text without tokens).
    """
    room = [model.n_ctx_train - len(context) - len(target) for context, target, _ in texts]
    fits = np.array(room, np.int64) >= 0
    names = ("log_probability", "end", "min_k", "min_k_plus_plus")
    values = {name: np.full(len(texts), np.nan) for name in names}
    if fits.any():
        chosen = [
            (context, [*target, *end[: max(0, left)]])
            for (context, target, end), left in zip(texts, room, strict=True)
            if left >= 0
        ]
        scores = score(model, chosen, moments=True, progress=progress)
        starts, stops = scores.offsets[:-1], scores.offsets[1:]
        lengths = np.array([len(target) for _, target, _ in texts])[fits]
        ends = np.array([len(end) for _, _, end in texts])[fits]
        running = np.concatenate([[0.0], np.cumsum(scores.log_probabilities, dtype=np.float64)])
        has_end = (ends > 0) & (stops - starts == lengths + ends)
        columns = (
            running[starts + lengths] - running[starts],
            np.where(has_end, running[stops] - running[starts + lengths], np.nan),
            lowest_mean(scores.log_probabilities, starts, lengths),
            lowest_mean(normalised(scores), starts, lengths),
        )
        for name, column in zip(names, columns, strict=True):
            values[name][fits] = column
    return pl.DataFrame(values, nan_to_null=True)


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
