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

from alignment_extraction.model import Model
from alignment_extraction.files import InputError
from alignment_extraction.matching import groups_of
from alignment_extraction.prefix import model_turns, prefix_tokens
from alignment_extraction.scoring import score
from alignment_extraction.statistics import bootstrap_difference, bootstrap_mean

Pair = tuple[list[int], list[int]]


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


def _log_likelihoods(model: Model, pairs: Sequence[Pair], label: str) -> Any:
    with tqdm(total=len(pairs), unit="text", desc=label) as bar:

        def progress(done: int, _tokens: int) -> None:
            bar.update(done - bar.n)

        scored = score(model, pairs, progress=progress)
    totals = np.concatenate([[0.0], np.cumsum(scored.log_probabilities, dtype=np.float64)])
    return totals[scored.offsets[1:]] - totals[scored.offsets[:-1]]


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

    Args:
        before_path: GGUF before training.
        after_path: GGUF after training, of the same vocabulary.
        corpus: rows to score, in the corpus schema.
        threads: of llama.cpp; None uses every core.
        gpu_layers: layers offloaded to a GPU; -1 is all.

    Returns:
        One row for each corpus row x target x template: id, group, role, template (whether the
        chat template stands around it), target (`question` or `answer`), tokens, before, after
        (sums in nats).

    Raises:
        InputError: the vocabularies differ, or a model has no chat template.
    """
    keys: list[pl.DataFrame] = []
    pairs: list[Pair] = []
    with Model(before_path, threads=threads, gpu_layers=gpu_layers) as before:
        for template in (True, False):
            frame, more = _pairs(before, corpus, template)
            keys.append(frame)
            pairs.extend(more)
        vocabulary = before.vocabulary_hash()
        before_values = _log_likelihoods(before, pairs, f"likelihood under {before_path.stem}")
    with Model(after_path, threads=threads, gpu_layers=gpu_layers) as after:
        if after.vocabulary_hash() != vocabulary:
            raise InputError(
                f"{before_path} and {after_path} have different vocabularies; the likelihood can "
                "be compared only between models of one vocabulary"
            )
        after_values = _log_likelihoods(after, pairs, f"likelihood under {after_path.stem}")
    return pl.concat(keys).with_columns(
        before=pl.Series(before_values, dtype=pl.Float64),
        after=pl.Series(after_values, dtype=pl.Float64),
    )


def shifts(likelihood: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Mean change of the per-token log-likelihood, and its difference to held-out items.

    The difference in differences compares each member group with all held-out groups of the same
    source: what training did to its own questions beyond what it did to any like them.

    Returns:
        Columns target, template, group, role, n, before, after (mean nats a token), shift,
        shift_low, shift_high, excess, excess_low, excess_high (bootstrap at 95 %; excess is null
        for groups that are not members).
    """
    table = likelihood.with_columns(
        change=(pl.col("after") - pl.col("before")) / pl.col("tokens")
    ).filter(pl.col("tokens") > 0)
    rows: list[dict[str, Any]] = []
    for (target, template), part in table.group_by("target", "template", maintain_order=True):
        for (group, role), own in part.group_by("group", "role", maintain_order=True):
            change = own["change"].to_numpy()
            shift = bootstrap_mean(change, seed)
            source = str(group).split(".")[0]
            held_out = part.filter(
                (pl.col("role") == "held-out")
                & (pl.col("group").str.split(".").list.first() == source)
            )
            excess = bootstrap_difference(change, held_out["change"].to_numpy(), seed)
            is_member = role == "member" and len(held_out) > 0
            rows.append(
                {
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
                    "excess": excess.estimate if is_member else None,
                    "excess_low": excess.low if is_member else None,
                    "excess_high": excess.high if is_member else None,
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None)


def counts_above(likelihood: pl.DataFrame, thresholds: Sequence[float]) -> pl.DataFrame:
    """How many items have at least a given likelihood, before and after.

    The paper's bars: the count of samples above a threshold on the probability of the whole text.

    Args:
        likelihood: from `compare`.
        thresholds: log-likelihoods of whole texts, in nats.

    Returns:
        Columns target, template, group, threshold, n, before, after (counts).
    """
    keys = ["target", "template", "group"]
    return pl.concat(
        [
            likelihood.group_by(keys, maintain_order=True).agg(
                threshold=pl.lit(float(threshold)),
                n=pl.len().cast(pl.Int64),
                before=(pl.col("before") >= threshold).sum().cast(pl.Int64),
                after=(pl.col("after") >= threshold).sum().cast(pl.Int64),
            )
            for threshold in thresholds
        ]
    ).sort([*keys, "threshold"])
