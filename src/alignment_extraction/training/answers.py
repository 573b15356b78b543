"""What a model makes of questions with a verifier: greedy answers, and the reference answers' loss.

Tokenizers are the study's, with the template that questions are asked in; models are on any device.
"""

from pathlib import Path

import polars as pl
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import DataCollatorForSeq2Seq, LlamaForCausalLM, PreTrainedTokenizerFast

from alignment_extraction.training.gguf_export import ChatTemplate, load_model, load_tokenizer
from alignment_extraction.training.problems import verify

_BATCH = 64


def prompts(rows: pl.DataFrame, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Each question in the tokenizer's chat template, up to the assistant's words."""
    turns = [[{"role": "user", "content": question}] for question in rows["question"]]
    asked: list[str] = tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    return asked


def answer_scores(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: pl.DataFrame,
    max_tokens: int,
    lead: str = "",
) -> list[float]:
    """The verifier's score, 0 to 1, of a model's greedy answer to each question.

    `rows` have columns question and metadata. What the chat template writes of each answer, `lead`,
    is scored with the at most `max_tokens` that follow.
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
        written = ids[:, inputs["input_ids"].shape[1] :]
        answers = tokenizer.batch_decode(written, skip_special_tokens=True)
        scores += map(verify, (lead + answer for answer in answers), batch["metadata"])
    return scores


def reference_losses(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: pl.DataFrame
) -> list[float]:
    """The loss of each reference answer (column answer), given its question (column question).

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
    student: Path, tokenizer: Path, questions: pl.DataFrame, template: ChatTemplate, limit: int
) -> pl.DataFrame:
    """Ask a model, an F16 GGUF of the workflow, evaluation questions in a template.

    Returns:
        One row for each question, in order: benchmark, id, template, right (1.0 where the greedy
        answer of at most `limit` tokens has the verifier's full score, else 0.0), loss (of
        `reference_losses`).

    Raises:
        InputError: an unusable model or tokenizer.
    """
    model, loaded = load_model(student), load_tokenizer(tokenizer, template)
    # Questions of like length are padded least, and a batch takes as long as its longest answer.
    ordered = questions.with_row_index("place").sort(pl.col("question").str.len_bytes(), "place")
    scores = pl.Series(answer_scores(model, loaded, ordered, limit), dtype=pl.Float64)
    losses = pl.Series(reference_losses(model, loaded, ordered), dtype=pl.Float64)
    found = ordered.with_columns(right=(scores >= 1).cast(pl.Float64), loss=losses)
    return found.sort("place").select("benchmark", "id", "template", "right", "loss")
