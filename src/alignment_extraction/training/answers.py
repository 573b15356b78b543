"""What a model makes of questions with a verifier: its greedy answers and their scores."""

from pathlib import Path

import polars as pl
import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from alignment_extraction.training.gguf_export import ChatTemplate, load_model, load_tokenizer
from alignment_extraction.training.problems import verify

_BATCH = 64


def prompts(rows: pl.DataFrame, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Each question in the tokenizer's chat template, up to the assistant's words."""
    turns = [[{"role": "user", "content": question}] for question in rows["question"]]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def evaluate(
    student: Path, tokenizer: Path, questions: pl.DataFrame, template: ChatTemplate, limit: int
) -> pl.DataFrame:
    """Ask a model, an F16 GGUF of the workflow, questions: columns question and metadata.

    Returns:
        The questions with the column right: 1.0 where the greedy answer of at most `limit` tokens,
        begun with the template's lead, has the verifier's full score, else 0.0.

    Raises:
        InputError: an unusable model.
    """
    model, loaded = load_model(student).eval(), load_tokenizer(tokenizer, template)
    loaded.padding_side = "left"
    right: list[bool] = []
    for batch in tqdm(list(questions.iter_slices(_BATCH)), "answering", unit="batch"):
        inputs = loaded(prompts(batch, loaded), return_tensors="pt", padding=True)
        with torch.no_grad():
            ids = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=limit,
                do_sample=False,
                eos_token_id=loaded.eos_token_id,
                pad_token_id=loaded.pad_token_id,
            )
        written = ids[:, inputs["input_ids"].shape[1] :]
        answers = loaded.batch_decode(written, skip_special_tokens=True)
        pairs = zip(answers, batch["metadata"], strict=True)
        right += [verify(template.lead + answer, about) >= 1 for answer, about in pairs]
    return questions.with_columns(right=pl.Series(right, dtype=pl.Boolean).cast(pl.Float64))
