"""Evaluation of students: right answers by the verifier, and the loss of the reference answers."""

from pathlib import Path

import polars as pl
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from alignment_extraction.settings.distillation import Family
from alignment_extraction.training.answers import answer_scores, prompts
from alignment_extraction.training.gguf_export import CHATML, TASK, load_model, load_tokenizer

TEMPLATES = {"sft": CHATML, "rl": TASK}
"""The template that students of each family are trained and asked in."""

_BATCH = 32
_IGNORED = -100


def reference_losses(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: pl.DataFrame
) -> list[float]:
    """The loss of each reference answer, given its question in the tokenizer's template.

    Args:
        model: the model, on any device.
        tokenizer: the study's tokenizer, with a template.
        rows: columns question and answer.

    Returns:
        For each row the mean negative log-likelihood of the answer's tokens and of the end token
        after them, in nats per token.
    """
    model.eval()
    questions = tokenizer(prompts(rows, tokenizer))["input_ids"]
    ended = [f"{answer}{tokenizer.eos_token}" for answer in rows["answer"]]
    answers = tokenizer(ended)["input_ids"]
    losses: list[float] = []
    for start in tqdm(range(0, rows.height, _BATCH), "scoring", unit="batch"):
        pairs = list(zip(questions, answers, strict=True))[start : start + _BATCH]
        # Padding stands after the text, where a causal model's earlier tokens do not see it.
        ids = _padded([asked + answer for asked, answer in pairs], tokenizer.pad_token_id)
        labels = _padded([[_IGNORED] * len(asked) + answer for asked, answer in pairs], _IGNORED)
        with torch.no_grad():
            logits = model(input_ids=ids.to(model.device)).logits[:, :-1].float().cpu()
        targets = labels[:, 1:]
        each = cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        losses += (each.sum(1) / (targets != _IGNORED).sum(1)).tolist()
    return losses


def _padded(rows: list[list[int]], value: int) -> torch.Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def evaluate(
    student: Path, tokenizer: Path, questions: pl.DataFrame, family: Family, max_tokens: int
) -> pl.DataFrame:
    """Ask a model the evaluation questions.

    Args:
        student: an F16 GGUF of the workflow.
        tokenizer: the study's tokenizer.json.
        questions: `data_sets.DataSets.questions` of the student's family.
        family: decides the template.
        max_tokens: longest answer, in tokens.

    Returns:
        One row for each question, in order: benchmark, id, template, right (Float64, 1.0 where the
        verifier gives the greedily decoded answer its full score, else 0.0), loss (of
        `reference_losses`).

    Raises:
        InputError: an unusable model or tokenizer.
    """
    model, loaded = load_model(student), load_tokenizer(tokenizer, TEMPLATES[family])
    # Questions of like length are padded least, and a batch takes as long as its longest answer.
    ordered = questions.with_row_index("place").sort(pl.col("question").str.len_bytes(), "place")
    scores = answer_scores(model, loaded, ordered, max_tokens)
    losses = reference_losses(model, loaded, ordered)
    return (
        ordered.with_columns(
            right=pl.Series(scores, dtype=pl.Float64).ge(1).cast(pl.Float64),
            loss=pl.Series(losses, dtype=pl.Float64),
        )
        .sort("place")
        .select("benchmark", "id", "template", "right", "loss")
    )
