"""What a model makes of questions with a verifier: its greedy answers and their scores.

Tokenizers are the study's, with the template that questions are asked in; models are on any device.
"""

from pathlib import Path

import polars as pl
import torch
from tqdm import tqdm
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from alignment_extraction.training.gguf_export import ChatTemplate, load_model, load_tokenizer
from alignment_extraction.training.problems import verify

_BATCH = 64


def prompts(rows: pl.DataFrame, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Each question in the tokenizer's chat template, up to the assistant's words."""
    turns = [[{"role": "user", "content": question}] for question in rows["question"]]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


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


def evaluate(
    student: Path, tokenizer: Path, questions: pl.DataFrame, template: ChatTemplate, limit: int
) -> pl.DataFrame:
    """Ask a model, an F16 GGUF of the workflow, evaluation questions in a template.

    Returns:
        One row for each question, in order: benchmark, id, template, right (1.0 where the greedy
        answer of at most `limit` tokens has the verifier's full score, else 0.0).

    Raises:
        InputError: an unusable model or tokenizer.
    """
    model, loaded = load_model(student), load_tokenizer(tokenizer, template)
    # Questions of like length are padded least, and a batch takes as long as its longest answer.
    ordered = questions.with_row_index("place").sort(pl.col("question").str.len_bytes(), "place")
    scores = pl.Series(answer_scores(model, loaded, ordered, limit), dtype=pl.Float64)
    found = ordered.with_columns(right=(scores >= 1).cast(pl.Float64))
    return found.sort("place").select("benchmark", "id", "template", "right")
