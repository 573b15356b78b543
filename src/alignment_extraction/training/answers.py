"""What a model answers to questions with a verifier: greedy answers, their scores, accuracy."""

import polars as pl
import torch
from tqdm import tqdm
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from alignment_extraction.training.tasks import verify

_BATCH = 64


def prompts(rows: pl.DataFrame, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Each question in the tokenizer's chat template, up to the assistant's words."""
    turns = [[{"role": "user", "content": question}] for question in rows["question"]]
    texts: list[str] = tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    return texts


def answer_scores(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: pl.DataFrame,
    max_tokens: int,
    lead: str = "",
) -> list[float]:
    """Let a model answer questions greedily and score the answers.

    Args:
        model: the model, on any device.
        tokenizer: the study's tokenizer, with the template that questions are asked in.
        rows: columns question and metadata.
        max_tokens: longest answer, in tokens.
        lead: what the chat template writes of each answer; it is scored with the rest.

    Returns:
        The verifier's score of each row's answer, 0 to 1.
    """
    tokenizer.padding_side = "left"
    model.eval()
    scores: list[float] = []
    for batch in tqdm(list(rows.iter_slices(_BATCH)), "answering", unit="batch"):
        inputs = tokenizer(prompts(batch, tokenizer), return_tensors="pt", padding=True)
        inputs = {k: inputs[k].to(model.device) for k in ("input_ids", "attention_mask")}
        with torch.no_grad():
            ids = model.generate(
                **inputs,
                max_new_tokens=max_tokens,
                do_sample=False,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        answers = tokenizer.batch_decode(
            ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        scores += map(verify, (lead + answer for answer in answers), batch["metadata"])
    return scores


def accuracy(rows: pl.DataFrame, scores: list[float]) -> pl.DataFrame:
    """Count the right answers of each role and template.

    Args:
        rows: rows of the corpus.
        scores: of their answers, as `answer_scores` gives them.

    Returns:
        Columns role, template, questions (number of them), right (how many scored 1).
    """
    score = pl.Series("score", scores, dtype=pl.Float64)
    return (
        rows.select("role", "template", score)
        .group_by("role", "template")
        .agg(
            questions=pl.len().cast(pl.Int64),
            right=(pl.col("score") >= 1).sum().cast(pl.Int64),
        )
        .sort("role", "template")
    )
