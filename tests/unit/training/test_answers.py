"""Scores are those of single greedy answers, as the verifier gives them."""

from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.training import answers
from alignment_extraction.training.gguf_export import load_model, load_tokenizer
from tests.toy_training import toy_corpus, train_tokenizer_and_base


def test_scores_are_those_of_single_greedy_answers(tmp_path: Path) -> None:
    folder = train_tokenizer_and_base(tmp_path)
    rows = toy_corpus().filter(pl.col("source") == "rl")
    model = load_model(folder / "base.gguf").eval()
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    written = {}
    for question in rows["question"]:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        ids_written = model.generate(**ids, max_new_tokens=8, do_sample=False, pad_token_id=0)
        written[question] = tokenizer.decode(
            ids_written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True
        )
    # Let the model's own answers be the right ones, but for those of one template.
    wrong = rows["template"].sort()[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            answers,
            "verify",
            lambda text, item: float(
                text == "####" + written[item["question"]] and item["template"] != wrong
            ),
        )
        items = pl.struct("question", "template")
        scores = answers.answer_scores(
            model, tokenizer, rows.with_columns(metadata=items), max_tokens=8, lead="####"
        )
    assert scores == (rows["template"] != wrong).cast(pl.Float64).to_list()
