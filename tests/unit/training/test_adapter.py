"""Members and twins of a model's own conversations, and an adapter that learns the members."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alignment_extraction.engine.model import Model
from alignment_extraction.files import InputError, read_parquet
from alignment_extraction.models.gguf_merge import merge_adapter
from alignment_extraction.settings.adapter import AdapterSettings
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.training.adapter import assign, draw, sequences, train_adapter
from alignment_extraction.vocabulary import CORPUS
from tests.tiny_models import END_OF_TURN, START_OF_TURN, make_tiny_gguf

SETTINGS = AdapterSettings(
    samples=40, min_question_tokens=2, repetitions={1: 6, 3: 2}, rank=2, alpha=4, log_steps=1
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", half=True)


def drawn(rows: int = 20) -> pl.DataFrame:
    """Conversations as `sampling.sample` gives them, with some that cannot be used."""
    questions = [f"What is the sum of {i} and 4?" for i in range(rows)]
    bad = ["", "What is the sum of 0 and 4?", "What \ufffd is?", "A story about the"]
    return pl.DataFrame(
        {
            "index": range(rows + len(bad)),
            "question": questions + bad,
            "question_tokens": [[1, 2, 3]] * rows + [[1]] + [[1, 2, 3]] * 3,
            "question_finish": ["stop"] * (rows + 3) + ["length"],
            "answer": ["The answer is 4."] * (rows + 3) + [None],
        }
    )


def test_coins_make_as_many_twins_as_members() -> None:
    corpus = assign(drawn(), SETTINGS, seed=0)
    assert corpus.schema == CORPUS
    assert corpus["question"].n_unique() == corpus.height == 16
    pairs = corpus.group_by("pair").agg(pl.col("role").sort(), pl.col("repetitions").n_unique())
    assert pairs["role"].to_list() == [["member", "twin"]] * 8
    assert pairs["repetitions"].to_list() == [1] * 8
    assert sorted(corpus.filter(role="member")["repetitions"]) == [1] * 6 + [3] * 2
    assert corpus["messages"][0].to_list() == [
        {"role": "user", "content": corpus["question"][0]},
        {"role": "assistant", "content": "The answer is 4."},
    ]


def test_coins_are_fair_and_seeded() -> None:
    first = [
        assign(drawn(), SETTINGS, seed)["role"].gather_every(2).to_list() for seed in range(100)
    ]
    assert first[0] == assign(drawn(), SETTINGS, 0)["role"].gather_every(2).to_list()
    share = np.mean([role == "member" for roles in first for role in roles])
    assert 0.43 < share < 0.57


def test_too_few_conversations_are_refused() -> None:
    with pytest.raises(InputError, match=r"40 samples gave 15 usable .* needs 16; draw more"):
        assign(drawn(15), SETTINGS, seed=0)


def test_a_draw_does_not_depend_on_how_many_follow(model: Path) -> None:
    limits = SETTINGS.model_copy(update={"max_question_tokens": 12, "max_answer_tokens": 4})
    some = draw(model, limits.model_copy(update={"samples": 8}), seed=1)
    more = draw(model, limits.model_copy(update={"samples": 16}), seed=1)
    assert some.equals(more.head(8))
    assert some["answer_tokens"].list.len().max() <= 4


def test_sequences_are_the_template_behind_the_sampled_prefix(model: Path) -> None:
    rows = assign(drawn(), SETTINGS, seed=0).head(2)
    with Model(model) as loaded:
        user = loaded.tokenize("<|im_start|>user\n")
        whole = loaded.conversation(
            f"<|im_start|>user\n{rows['question'][0]}<|im_end|>\n"
            f"<|im_start|>assistant\n{rows['answer'][0]}<|im_end|>"
        )
    first = sequences(rows, model)[0]
    assert first[: len(user)] == user and first[0] == START_OF_TURN and first[-1] == END_OF_TURN
    assert first == whole


def test_an_adapter_makes_members_likelier(model: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(
        update={"repetitions": {4: 8}, "learning_rate": 0.02, "checkpoint_steps": 2}
    )
    corpus = assign(drawn(), settings, seed=0)
    adapter, curves = tmp_path / "adapter.gguf", tmp_path / "adapter-curves.parquet"
    train_adapter(
        corpus,
        model,
        settings,
        TrainingSettings(bf16=False),
        adapter,
        tmp_path / "checkpoints",
    )
    assert not any((tmp_path / "checkpoints").iterdir())
    loss = read_parquet(curves).filter(metric="loss")["value"]
    assert loss.len() == 4 and loss[-1] < loss[0]
    merged = tmp_path / "merged.gguf"
    merge_adapter(model, adapter, merged)
    tokens = sequences(corpus.filter(role="member"), model)
    before, after = (mean_log_probability(path, tokens) for path in (model, merged))
    assert after > before + 0.1


def mean_log_probability(path: Path, texts: list[list[int]]) -> float:
    from alignment_extraction.engine.scoring import score

    with Model(path, threads=1) as model:
        return float(score(model, [(t[:1], t[1:]) for t in texts]).log_probabilities.mean())
