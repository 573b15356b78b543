"""Evaluation of students: right answers by the verifier, and the loss of the reference answers."""

from pathlib import Path

import polars as pl
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import DataCollatorForSeq2Seq, LlamaForCausalLM, PreTrainedTokenizerFast

from alignment_extraction.settings.distillation import Family
from alignment_extraction.training.answers import answer_scores, prompts
from alignment_extraction.training.gguf_export import CHATML, TASK, load_model, load_tokenizer

TEMPLATES = {"sft": CHATML, "rl": TASK}
"""The template that students of each family are trained and asked in."""

_BATCH = 32


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
    collate = DataCollatorForSeq2Seq(tokenizer)
    # Padding stands after the text, where a causal model's earlier tokens do not see it.
    tokenizer.padding_side = "right"
    losses: list[float] = []
    for batch in tqdm(list(rows.iter_slices(_BATCH)), "scoring", unit="batch"):
        questions = tokenizer(prompts(batch, tokenizer))["input_ids"]
        answers = tokenizer([f"{text}{tokenizer.eos_token}" for text in batch["answer"]])
        inputs = collate(
            [
                {"input_ids": asked + answer, "labels": [-100] * len(asked) + answer}
                for asked, answer in zip(questions, answers["input_ids"], strict=True)
            ]
        )
        with torch.no_grad():
            logits = model(input_ids=inputs["input_ids"].to(model.device)).logits[:, :-1]
        targets = inputs["labels"][:, 1:]
        each = cross_entropy(logits.float().cpu().transpose(1, 2), targets, reduction="none")
        losses += (each.sum(1) / (targets != -100).sum(1)).tolist()
    return losses


def evaluate(
    student: Path, tokenizer: Path, questions: pl.DataFrame, family: Family, max_tokens: int
) -> pl.DataFrame:
    """Ask a model, an F16 GGUF of the workflow, the evaluation questions of its family.

    Returns:
        One row for each question, in order: benchmark, id, template, right (1.0 where the greedy
        answer of at most `max_tokens` has the verifier's full score, else 0.0), loss (of
        `reference_losses`).

    Raises:
        InputError: an unusable model or tokenizer.
    """
    model, loaded = load_model(student), load_tokenizer(tokenizer, TEMPLATES[family])
    # Questions of like length are padded least, and a batch takes as long as its longest answer.
    ordered = questions.with_row_index("place").sort(pl.col("question").str.len_bytes(), "place")
    scores = pl.Series(answer_scores(model, loaded, ordered, max_tokens), dtype=pl.Float64)
    losses = pl.Series(reference_losses(model, loaded, ordered), dtype=pl.Float64)
    found = ordered.with_columns(right=(scores >= 1).cast(pl.Float64), loss=losses)
    return found.sort("place").select("benchmark", "id", "template", "right", "loss")
