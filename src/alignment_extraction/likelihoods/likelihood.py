"""Likelihood of a corpus under two models: before and after training on it.

The paper (arXiv 2510.18554, section 5) scores the questions of an RL data set under the base model
and under the model after RL. Here each question, and each answer given its question, is scored
with the chat template around it and without, under any two models of one vocabulary, and the
change is compared with that of held-out items: a difference in differences. The same pass gives
what `membership` and `discoverable` need of each text.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from alignment_extraction.corpora.texts import groups_of
from alignment_extraction.engine.model import Model, require_same_vocabulary
from alignment_extraction.engine.scoring import score
from alignment_extraction.files import InputError
from alignment_extraction.generations.prefix import model_turns, prefix_tokens
from alignment_extraction.likelihoods.min_k import lowest_mean, normalised
from alignment_extraction.statistics import bootstrap_difference, bootstrap_mean, named_seed

Text = tuple[list[int], list[int], list[int]]
"""Context, target and what ends the target's turn, as token ids; the end may be empty."""

SHIFT_SCHEMA = pl.Schema(
    {
        "target": pl.String(),
        "template": pl.Boolean(),
        "group": pl.String(),
        "role": pl.String(),
        "n": pl.Int64(),
        "before": pl.Float64(),
        "before_low": pl.Float64(),
        "before_high": pl.Float64(),
        "after": pl.Float64(),
        "after_low": pl.Float64(),
        "after_high": pl.Float64(),
        "shift": pl.Float64(),
        "shift_low": pl.Float64(),
        "shift_high": pl.Float64(),
        "control": pl.String(),
        "excess": pl.Float64(),
        "excess_low": pl.Float64(),
        "excess_high": pl.Float64(),
    }
)


def _texts(
    model: Model, corpus: pl.DataFrame, prefix: str, template: bool
) -> tuple[pl.DataFrame, list[Text]]:
    """What is scored: for each row its question, and its answer given the question."""
    context = prefix_tokens(model, prefix if template else "none")
    header = model.tokenize(model_turns(model).answer_header if template else "\n")
    end = _end_tokens(model, header) if template else []
    keys: list[dict[str, Any]] = []
    texts: list[Text] = []
    about = {"template": template, "prefix": "".join(model.piece(token) for token in context)}
    groups = groups_of(corpus)
    for row, group in zip(corpus.iter_rows(named=True), groups, strict=True):
        question = model.tokenize(row["question"], special=False)
        key = {"id": row["id"], "group": group, "role": row["role"]}
        key |= {"instance_of": row["template"], **about}
        keys.append(key | _about("question", row["question"], question))
        texts.append((context, question, end))
        if row["answer"]:
            answer = model.tokenize(row["answer"], special=False)
            keys.append(key | _about("answer", row["answer"], answer))
            texts.append(([*context, *question, *header], answer, []))
    return pl.DataFrame(keys, schema_overrides={"instance_of": pl.String}), texts


def _about(target: str, text: str, tokens: list[int]) -> dict[str, Any]:
    size = len(zlib.compress(text.encode()))
    return {"target": target, "tokens": len(tokens), "zlib_bytes": size}


def _end_tokens(model: Model, header: list[int]) -> list[int]:
    """What follows a question that ends: an end token, or without one the assistant's header."""
    ends = [token for token in header if token in model.eog]
    return ends[:1] or header


def _statistics(model: Model, texts: Sequence[Text]) -> pl.DataFrame:
    """One row a text; null where it does not fit the model's context.

    Returns:
        Columns sum, end (log-probabilities of the text and of its end, in nats), min_k,
        min_k_plus_plus (see `min_k`; null for a text without tokens).
    """
    room = [model.n_ctx_train - len(context) - len(target) for context, target, _ in texts]
    fits = np.array(room) >= 0
    if not fits.any():
        raise InputError(
            f"{model.path}: none of the {len(texts)} texts to score fits its context of "
            f"{model.n_ctx_train} tokens; give shorter rows"
        )
    chosen = [
        (context, [*target, *end[: max(0, left)]])
        for (context, target, end), left in zip(texts, room, strict=True)
        if left >= 0
    ]
    with tqdm(total=len(chosen), unit="text", desc=f"likelihood under {model.path.stem}") as bar:

        def progress(done: int, _tokens: int) -> None:
            bar.update(done - bar.n)

        scores = score(model, chosen, moments=True, progress=progress)
    starts, stops = scores.offsets[:-1], scores.offsets[1:]
    lengths = np.array([len(target) for _, target, _ in texts])[fits]
    ends = np.array([len(end) for _, _, end in texts])[fits]
    running = np.concatenate([[0.0], np.cumsum(scores.log_probabilities, dtype=np.float64)])
    has_end = (ends > 0) & (stops - starts == lengths + ends)
    columns = {
        "sum": running[starts + lengths] - running[starts],
        "end": np.where(has_end, running[stops] - running[starts + lengths], np.nan),
        "min_k": lowest_mean(scores.log_probabilities, starts, lengths),
        "min_k_plus_plus": lowest_mean(normalised(scores), starts, lengths),
    }
    values = {name: np.full(len(texts), np.nan) for name in columns}
    for name, column in columns.items():
        values[name][fits] = column
    return pl.DataFrame(values, nan_to_null=True)


def select_rows(corpus: pl.DataFrame, sources: Sequence[str], limit: int | None) -> pl.DataFrame:
    """The corpus rows to score: some sources, and of each group the first `limit` rows.

    Raises:
        InputError: a source that the corpus does not have.
    """
    known = corpus["source"].unique(maintain_order=True).to_list()
    for source in sources:
        if source not in known:
            raise InputError(f"source {source!r} is not in the corpus (it has {', '.join(known)})")
    chosen = corpus.filter(pl.col("source").is_in(sources)) if sources else corpus
    if limit is not None:
        chosen = chosen.filter(pl.int_range(pl.len()).over(groups_of(chosen)) < limit)
    return chosen


def compare(
    before_path: Path,
    after_path: Path,
    corpus: pl.DataFrame,
    *,
    prefix: str = "full",
    threads: int | None = None,
    gpu_layers: int = 0,
) -> pl.DataFrame:
    """Log-likelihood of every question and answer under two models.

    The chat template is that of the model after training, else of the one before, so that both
    score the same tokens; where neither has one, texts are scored without a template alone.

    Args:
        before_path: GGUF before training.
        after_path: GGUF after training, of the same vocabulary.
        corpus: rows to score, in the corpus schema.
        prefix: form of the template before the question, `full` or `user` (see `prefix.FORMS`).
        threads: of llama.cpp; None uses every core.
        gpu_layers: layers offloaded to a GPU; -1 is all.

    Returns:
        One row for each corpus row x target x template: id, group, role, instance_of (the corpus's
        column template), template (whether the chat template stands around it), prefix (text before
        the question, special tokens spelt out), target (`question` or `answer`), tokens, zlib_bytes
        (size of the text compressed), and for each of before and after: the sum (columns `before`,
        `after`), `_end` (of the end token after a question in the template; of the assistant's
        header, where the template has none before it), `_min_k`, `_min_k_plus_plus`.
        Log-probabilities are in nats; null where text and context are longer than the model's own
        context, and where there is no end.

    Raises:
        InputError: the vocabularies differ, no text fits a model's context, or see
            `prefix.derive_turns`.
    """
    keys: list[pl.DataFrame] = []
    texts: list[Text] = []
    # On the CPU: nothing is computed yet, and the models need not fit a GPU's memory together.
    with Model(before_path, threads=threads) as before, Model(after_path, threads=threads) as after:
        require_same_vocabulary(before, after)
        speaker = before if after.chat_template is None else after
        for template in (True, False):
            if template and speaker.chat_template is None:
                continue
            frame, more = _texts(speaker, corpus, prefix, template)
            keys.append(frame)
            texts.extend(more)
    sides = []
    for side, path in (("before", before_path), ("after", after_path)):
        with Model(path, threads=threads, gpu_layers=gpu_layers) as model:
            table = _statistics(model, texts)
        names = {"sum": side, **{name: f"{side}_{name}" for name in table.columns[1:]}}
        sides.append(table.rename(names))
    return pl.concat([pl.concat(keys), *sides], how="horizontal")


def shifts(likelihood: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Mean change of the log-likelihood a token, and how far it exceeds that of held-out items.

    The difference in differences compares a member group with the closest control there is: fresh
    instances of the same source's templates (its split `fresh-instance`), else all held-out groups
    of its source, else all held-out groups. It tells what training did to its own items from what
    it did to any like them.

    Args:
        likelihood: from `compare`.
        seed: of the bootstrap.

    Returns:
        Columns target, template, group, role, n (items scored under both models), before, after
        (mean nats a token), shift, each with _low and _high, control (the groups compared with),
        excess, excess_low, excess_high (bootstrap at 95 %). The last four are null for groups that
        are not members and where nothing is held out.
    """
    table = likelihood.filter(pl.col("tokens") > 0).drop_nulls(["before", "after"])
    table = table.with_columns(change=(pl.col("after") - pl.col("before")) / pl.col("tokens"))
    rows: list[dict[str, Any]] = []
    for (target, template), part in table.group_by("target", "template", maintain_order=True):
        for (group, role), own in part.group_by("group", "role", maintain_order=True):
            stream = named_seed(seed, f"shift/{target}/{template}/{group}")
            change = own["change"].to_numpy()
            shift = bootstrap_mean(change, stream)
            means = {
                side: bootstrap_mean((own[side] / own["tokens"]).to_numpy(), stream)
                for side in ("before", "after")
            }
            row = {
                "target": target,
                "template": template,
                "group": group,
                "role": role,
                "n": len(own),
                **{
                    f"{side}{end}": value
                    for side, mean in means.items()
                    for end, value in zip(("", "_low", "_high"), mean, strict=True)
                },
                "shift": shift.estimate,
                "shift_low": shift.low,
                "shift_high": shift.high,
            }
            control = _control(part, str(group)) if role == "member" else part.clear()
            if len(control):
                excess = bootstrap_difference(change, control["change"].to_numpy(), stream)
                row |= {
                    "control": ", ".join(control["group"].unique().sort()),
                    "excess": excess.estimate,
                    "excess_low": excess.low,
                    "excess_high": excess.high,
                }
            rows.append(row)
    return pl.DataFrame(rows, schema=SHIFT_SCHEMA)


def _control(part: pl.DataFrame, group: str) -> pl.DataFrame:
    """The held-out rows that are closest to `group`; none where nothing is held out."""
    source = group.split(".")[0]
    held_out = part.filter(role="held-out")
    for close in (
        pl.col("group") == f"{source}.fresh-instance",
        pl.col("group").str.split(".").list.first() == source,
    ):
        chosen = held_out.filter(close)
        if len(chosen):
            return chosen
    return held_out


def counts_above(
    likelihood: pl.DataFrame, thresholds: Sequence[float], *, per_token: bool = False
) -> pl.DataFrame:
    """How many items have at least a given likelihood, before and after: the paper's bars.

    Args:
        likelihood: from `compare`.
        thresholds: log-likelihoods in nats.
        per_token: thresholds are on the mean of a text's tokens instead of on the whole text.

    Returns:
        Columns target, template, group, threshold, n (items scored under both models), before,
        after (counts).
    """
    keys = ["target", "template", "group"]
    table = likelihood.filter(pl.col("tokens") > 0).drop_nulls(["before", "after"])
    if per_token:
        table = table.with_columns(pl.col("before", "after") / pl.col("tokens"))
    return pl.concat(
        [
            table.group_by(keys, maintain_order=True).agg(
                threshold=pl.lit(float(threshold)),
                n=pl.len().cast(pl.Int64),
                before=(pl.col("before") >= threshold).sum().cast(pl.Int64),
                after=(pl.col("after") >= threshold).sum().cast(pl.Int64),
            )
            for threshold in thresholds
        ]
    ).sort([*keys, "threshold"])
