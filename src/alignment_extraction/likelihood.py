"""Likelihood of a corpus under two models: before and after training on it.

The paper (arXiv 2510.18554, section 5) scores the questions of an RL data set under the base model
and under the model after RL. Here each question, and each answer given its question, is scored
with the chat template around it and without, under any two models of one vocabulary, and the
change is compared with that of held-out items: a difference in differences.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from alignment_extraction.files import InputError
from alignment_extraction.model import Model, require_same_vocabulary
from alignment_extraction.prefix import model_turns, prefix_tokens
from alignment_extraction.scoring import score
from alignment_extraction.statistics import bootstrap_difference, bootstrap_mean, named_seed
from alignment_extraction.texts import groups_of

Pair = tuple[list[int], list[int]]
"""Context and target, as token ids."""

SHIFT_SCHEMA = pl.Schema(
    {
        "target": pl.String(),
        "template": pl.Boolean(),
        "group": pl.String(),
        "role": pl.String(),
        "n": pl.Int64(),
        "before": pl.Float64(),
        "after": pl.Float64(),
        "shift": pl.Float64(),
        "shift_low": pl.Float64(),
        "shift_high": pl.Float64(),
        "control": pl.String(),
        "excess": pl.Float64(),
        "excess_low": pl.Float64(),
        "excess_high": pl.Float64(),
    }
)


def _pairs(model: Model, corpus: pl.DataFrame, template: bool) -> tuple[pl.DataFrame, list[Pair]]:
    """What is scored: for each row its question, and its answer given the question."""
    context = prefix_tokens(model, "full" if template else "none")
    header = model.tokenize(model_turns(model).answer_header if template else "\n")
    keys: list[dict[str, Any]] = []
    pairs: list[Pair] = []
    groups = groups_of(corpus)
    for row, group in zip(corpus.iter_rows(named=True), groups, strict=True):
        question = model.tokenize(row["question"], special=False)
        key = {"id": row["id"], "group": group, "role": row["role"], "template": template}
        keys.append({**key, "target": "question", "tokens": len(question)})
        pairs.append((context, question))
        if row["answer"]:
            answer = model.tokenize(row["answer"], special=False)
            keys.append({**key, "target": "answer", "tokens": len(answer)})
            pairs.append(([*context, *question, *header], answer))
    return pl.DataFrame(keys), pairs


def _log_likelihoods(model: Model, pairs: Sequence[Pair]) -> pl.Series:
    """Sum over the tokens of each text, in nats; null where it does not fit the model's context."""
    fits = [len(context) + len(target) <= model.n_ctx_train for context, target in pairs]
    if not any(fits):
        raise InputError(
            f"{model.path}: none of the {len(pairs)} texts to score fits its context of "
            f"{model.n_ctx_train} tokens; give shorter rows"
        )
    chosen = [pair for pair, fit in zip(pairs, fits, strict=True) if fit]
    with tqdm(total=len(chosen), unit="text", desc=f"likelihood under {model.path.stem}") as bar:

        def progress(done: int, _tokens: int) -> None:
            bar.update(done - bar.n)

        sums = score(model, chosen, progress=progress).sums()
    values = np.full(len(pairs), np.nan)
    values[fits] = sums
    return pl.Series(values, nan_to_null=True)


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
        threads: of llama.cpp; None uses every core.
        gpu_layers: layers offloaded to a GPU; -1 is all.

    Returns:
        One row for each corpus row x target x template: id, group, role, template (whether the
        chat template stands around it), target (`question` or `answer`), tokens, before, after
        (sums in nats; null where text and context are longer than the model's own context).

    Raises:
        InputError: the vocabularies differ, no text fits a model's context, or see
            `prefix.derive_turns`.
    """
    keys: list[pl.DataFrame] = []
    pairs: list[Pair] = []
    # On the CPU: nothing is computed yet, and the models need not fit a GPU's memory together.
    with Model(before_path, threads=threads) as before, Model(after_path, threads=threads) as after:
        require_same_vocabulary(before, after)
        speaker = before if after.chat_template is None else after
        for template in (True, False):
            if template and speaker.chat_template is None:
                continue
            frame, more = _pairs(speaker, corpus, template)
            keys.append(frame)
            pairs.extend(more)
    values = {}
    for name, path in (("before", before_path), ("after", after_path)):
        with Model(path, threads=threads, gpu_layers=gpu_layers) as model:
            values[name] = _log_likelihoods(model, pairs)
    return pl.concat(keys).with_columns(**values)


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
        (mean nats a token), shift, shift_low, shift_high, control (the groups compared with),
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
            row = {
                "target": target,
                "template": template,
                "group": group,
                "role": role,
                "n": len(own),
                "before": (own["before"] / own["tokens"]).mean(),
                "after": (own["after"] / own["tokens"]).mean(),
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
