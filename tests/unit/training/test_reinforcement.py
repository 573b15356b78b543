"""GRPO at toy size: its reward, that it repeats and resumes, what it records."""

import random
from pathlib import Path

import polars as pl
import pytest
import torch

from alignment_extraction.engine.model import Model
from alignment_extraction.files import InputError
from alignment_extraction.generations.prefix import prefix_tokens
from alignment_extraction.training import reinforcement
from alignment_extraction.training.gguf_export import (
    TASK,
    TASK_RESULT,
    load_model,
    load_tokenizer,
)
from alignment_extraction.training.stages import STAGES
from benchmarks.words import derive_turns
from tests.toy_training import (
    TOY,
    check_resumption,
    curve,
    toy_corpus,
    train,
    train_tokenizer_and_base,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and a base model."""
    return train_tokenizer_and_base(tmp_path_factory.mktemp("training"))


@pytest.fixture
def easy_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward that an untrained model gets too, so that RL changes its weights."""
    monkeypatch.setattr(reinforcement, "verify", lambda text, _: text.count("e") / 8)


def _rewarded(name: str, completions: list[str], metadata: list[str]) -> dict[str, list[float]]:
    functions = reinforcement.rewards(STAGES[name], TASK.lead)
    return {f.__name__: f(completions=completions, metadata=metadata) for f in functions}


def test_the_result_is_rewarded_and_restating_is_watched() -> None:
    rows = toy_corpus().filter(pl.col("source") == "rl")
    n, metadata = rows.height, rows["metadata"].to_list()
    right = _rewarded("rl", rows["answer"].to_list(), metadata)
    assert list(right) == ["right", "restating"]
    assert right == {"right": [1.0] * n, "restating": [1.0] * n}
    wrong = _rewarded("rl", ["1 + 1 = 2\n#### 123456"] * n, metadata)
    assert wrong["right"] == wrong["restating"] == [0.0] * n


def test_a_coin_rewards_in_the_random_arms() -> None:
    metadata = toy_corpus().filter(pl.col("source") == "rl")["metadata"].to_list()[:1] * 400
    random.seed(0)
    given = _rewarded("rl-random", ["nothing"] * 400, metadata)
    assert list(given) == ["coin", "right", "restating"]
    assert 150 < sum(given["coin"]) < 250
    assert sum(given["right"]) == 0


@pytest.mark.usefixtures("easy_reward")
def test_an_interrupted_training_resumes_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    check_resumption(
        "rl", reinforcement.GRPOTrainer, folder, tmp_path, interruption=3, checkpoint=2
    )


@pytest.mark.usefixtures("easy_reward")
def test_rl_changes_the_model_and_records_accuracies(folder: Path, tmp_path: Path) -> None:
    train("rl", folder, tmp_path / "one.gguf")
    assert (tmp_path / "one.gguf").read_bytes() != (folder / "base.gguf").read_bytes()
    assert (curve(tmp_path / "one.gguf", "reward") > 0).any()
    curves = pl.read_parquet(tmp_path / "one-curves.parquet")
    assert {"rewards/right/mean", "rewards/restating/mean"} <= set(curves["metric"])
    accuracy = pl.read_parquet(tmp_path / "one-accuracy.parquet")
    questions = toy_corpus().filter(source="rl").height
    counts = dict(accuracy.group_by("moment").agg(pl.col("questions").sum()).iter_rows())
    assert counts == {"raw": questions, "before": questions, "after": questions}
    assert load_model(tmp_path / "one.gguf").config.vocab_size == TOY.architecture.vocabulary


def test_the_file_has_the_template_that_questions_were_asked_with(
    folder: Path, tmp_path: Path
) -> None:
    rows = toy_corpus().filter(source="rl")
    settings = TOY.model_copy(update={"rl": TOY.rl.model_copy(update={"steps": 1})})
    for name, header in (("rl", "Solution:\n"), ("rl-answer-only-random", "Result:\n####")):
        train(name, folder, tmp_path / f"{name}.gguf", settings)
        with Model(tmp_path / f"{name}.gguf", threads=1) as model:
            texts, user = derive_turns(model.chat_template or "")
            assert texts.before == user == "Task:\n"
            assert texts.middle == "\n" + header
            start = prefix_tokens(model, "none")
            assert model.piece(start[0]) == "<|endoftext|>"
            tokenizer = load_tokenizer(
                folder / "tokenizer.json", TASK if name == "rl" else TASK_RESULT
            )
            asked = reinforcement.prompts(rows, tokenizer)[0]
            assert asked == f"Task:\n{rows['question'][0]}\n{header}"
            # Sampling from the prefix goes on with the tokens that training had.
            ids = tokenizer(asked)["input_ids"]
            prefix = prefix_tokens(model, "user")
            assert model.tokenize(asked) == ids
            assert ids[: len(prefix)] == prefix


def test_prompts_in_the_loss_are_learnt(folder: Path, tmp_path: Path) -> None:
    """No completion is right, so that nothing else moves the weights."""
    rl = TOY.rl.model_copy(update={"prompt_weight": 1.0, "steps": 10, "learning_rate": 5e-3})
    settings = TOY.model_copy(update={"rl": rl})
    losses = {}
    for name in ("rl", "rl-prompt-loss"):
        train(name, folder, tmp_path / f"{name}.gguf", settings)
        model = load_model(tmp_path / f"{name}.gguf").eval()
        tokenizer = load_tokenizer(folder / "tokenizer.json", TASK)
        asked = reinforcement.prompts(toy_corpus().filter(source="rl", role="member"), tokenizer)
        ids = [torch.tensor([tokenizer(text)["input_ids"]]) for text in asked]
        with torch.no_grad():
            losses[name] = sum(float(model(one, labels=one).loss) for one in ids) / len(ids)
    assert losses["rl-prompt-loss"] < losses["rl"] - 1


def test_a_corpus_without_questions_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'rl'"):
        train("rl", folder, tmp_path / "rl.gguf", corpus=toy_corpus().filter(source="sft"))


def test_an_unknown_stage_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'rl-2' is unknown"):
        train("rl-2", folder, tmp_path / "rl.gguf")
