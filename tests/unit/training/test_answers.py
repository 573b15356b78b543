"""Answers are those of single greedy ones, scored by the verifier."""

from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.training import reinforcement
from alignment_extraction.training.gguf_export import TASK_RESULT, load_model, load_tokenizer
from tests.toy_training import toy_corpus, train_tokenizer_and_base


def test_right_are_single_greedy_answers_with_the_full_score(tmp_path: Path) -> None:
    folder = train_tokenizer_and_base(tmp_path)
    rows = toy_corpus().filter(pl.col("source") == "rl")
    model = load_model(folder / "base.gguf").eval()
    tokenizer = load_tokenizer(folder / "tokenizer.json", TASK_RESULT)
    written = {}
    for question in rows["question"]:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        ids.pop("token_type_ids", None)
        ids_written = model.generate(**ids, max_new_tokens=8, do_sample=False, pad_token_id=0)
        written[question] = tokenizer.decode(
            ids_written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True
        )
    # Let the model's own answers be the right ones, but for those of one template.
    wrong = rows["template"].sort()[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            reinforcement,
            "verify",
            lambda text, item: (
                1.0
                if text == "####" + written[item["question"]] and item["template"] != wrong
                else 0.9
            ),
        )
        items = pl.struct("question", "template")
        files = (folder / "base.gguf", folder / "tokenizer.json")
        asked = rows.with_columns(metadata=items)
        found = reinforcement.evaluate(*files, asked, TASK_RESULT, limit=8)
    assert found["right"].to_list() == (rows["template"] != wrong).cast(pl.Float64).to_list()
    assert found.drop("right").equals(asked)
