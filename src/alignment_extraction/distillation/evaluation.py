"""Examination of students: right answers by verifier, and the loss of the reference answers."""

from pathlib import Path

import polars as pl
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from alignment_extraction.training.answers import answer_scores, prompts
from alignment_extraction.training.gguf_export import END_OF_TURN, load_model, load_tokenizer

_BATCH = 32
_IGNORED = -100


def reference_losses(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: pl.DataFrame
) -> tuple[list[float], list[int]]:
    """The loss of each reference answer, given its question in the chat template.

    Args:
        model: the model, on any device.
        tokenizer: the study's tokenizer.
        rows: columns question and answer.

    Returns:
        For each row the mean negative log-likelihood of the answer's tokens and the end of turn
        behind them, in nats a token; and the number of these tokens.
    """
    model.eval()
    asked = tokenizer(prompts(rows, tokenizer))["input_ids"]
    answered = tokenizer([f"{answer}{END_OF_TURN}" for answer in rows["answer"]])["input_ids"]
    losses: list[float] = []
    for start in tqdm(range(0, rows.height, _BATCH), "scoring", unit="batch"):
        own = slice(start, start + _BATCH)
        pairs = list(zip(asked[own], answered[own], strict=True))
        width = max(len(question) + len(answer) for question, answer in pairs)
        ids = torch.full((len(pairs), width), tokenizer.pad_token_id)
        labels = torch.full((len(pairs), width), _IGNORED)
        for row, (question, answer) in enumerate(pairs):
            end = len(question) + len(answer)
            ids[row, :end] = torch.tensor(question + answer)
            labels[row, len(question) : end] = torch.tensor(answer)
        # Padding stands behind the text, where a causal model's earlier tokens do not see it.
        with torch.no_grad():
            logits = model(input_ids=ids.to(model.device)).logits[:, :-1].float().cpu()
        targets = labels[:, 1:]
        each = cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        losses += (each.sum(1) / (targets != _IGNORED).sum(1)).tolist()
    return losses, [len(answer) for answer in answered]


def evaluate(
    student: Path, tokenizer: Path, benchmarks: pl.DataFrame, max_tokens: int
) -> pl.DataFrame:
    """Examine a model.

    Args:
        student: an F16 GGUF of the workflow.
        tokenizer: the study's tokenizer.json.
        benchmarks: of `data_sets.examination`.
        max_tokens: longest answer, in tokens.

    Returns:
        One row an item, in order: benchmark, id, template, right (Float64, 1.0 where the verifier
        gives the greedily decoded answer its full score, else 0.0), loss (nats a token, see
        `reference_losses`), tokens.

    Raises:
        InputError: an unusable model or tokenizer.
    """
    model, loaded = load_model(student), load_tokenizer(tokenizer)
    # Questions of like length are padded least, and a batch takes as long as its longest answer.
    ordered = benchmarks.with_columns(place=pl.col("question").str.len_bytes()).sort(
        "benchmark", "place", "id"
    )
    scores = answer_scores(model, loaded, ordered, max_tokens)
    losses, tokens = reference_losses(model, loaded, ordered)
    examined = ordered.select(
        "benchmark",
        "id",
        "template",
        right=pl.Series(scores, dtype=pl.Float64).ge(1).cast(pl.Float64),
        loss=pl.Series(losses, dtype=pl.Float64),
        tokens=pl.Series(tokens, dtype=pl.Int64),
    )
    return benchmarks.select("benchmark", "id").join(
        examined, on=["benchmark", "id"], how="left", maintain_order="left"
    )
