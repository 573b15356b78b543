"""Students at toy size: what they are trained on, that they repeat, and their evaluation."""

from pathlib import Path

import polars as pl
import pytest
import torch

from alignment_extraction.distillation.curation import final_answer
from alignment_extraction.distillation.data_sets import COLUMNS
from alignment_extraction.distillation.students import reward, train_student
from alignment_extraction.settings.distillation import (
    ARMS,
    DistillationSettings,
    Family,
    RlStudentSettings,
    SftStudentSettings,
)
from alignment_extraction.training.answers import (
    answer_scores,
    evaluate,
    prompts,
    reference_losses,
)
from alignment_extraction.training.fitting import Run
from alignment_extraction.training.gguf_export import OF_FAMILY, load_model, load_tokenizer
from tests.toy_training import TOY, curve, toy_corpus, train_tokenizer_and_base

SFT = SftStudentSettings(model="sft", steps=3)
RL = RlStudentSettings(model="rl", steps=2, batch_size=8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tokenizer_and_base(tmp_path_factory.mktemp("training"))


def data_set(source: str) -> pl.DataFrame:
    rows = toy_corpus().filter(source=source, role="member")
    return rows.with_columns(label=final_answer("answer")).select(COLUMNS)


def questions() -> pl.DataFrame:
    rows = toy_corpus().filter(pl.col("source") != "pretraining", pl.col("role") != "member")
    columns = ("id", "question", "answer", "template", "metadata")
    return rows.head(12).select(pl.lit("rl.twin").alias("benchmark"), *columns)


def train(
    data: pl.DataFrame, budget: SftStudentSettings, folder: Path, output: Path, seed: int = 0
) -> bytes:
    checkpoints = output.with_suffix(".checkpoints")
    run = Run(TOY, folder / "tokenizer.json", folder / "base.gguf", output, checkpoints)
    train_student(data, run, budget, seed)
    return output.read_bytes()


def test_the_same_seed_gives_the_same_student(folder: Path, tmp_path: Path) -> None:
    data = data_set("sft")
    first = train(data, SFT, folder, tmp_path / "first.gguf")
    assert train(data, SFT, folder, tmp_path / "again.gguf") == first
    assert train(data, SFT, folder, tmp_path / "other.gguf", seed=1) != first
    curves = pl.read_parquet(tmp_path / "first-curves.parquet")
    assert curves["step"].max() == SFT.steps


def test_rl_records_the_reward_of_each_step(folder: Path, tmp_path: Path) -> None:
    written = train(data_set("rl"), RL, folder, tmp_path / "student.gguf")
    assert len(curve(tmp_path / "student.gguf", "reward")) == RL.steps
    assert written[:4] == b"GGUF"


def test_the_reward_is_for_the_data_sets_answer() -> None:
    completions = ["#### 12", "so 12\n#### Twelve.", "12", "#### 13", "#### 1\n#### 2 \nmore", ""]
    labels = ["12", "twelve", "12", "12", "2", "x"]
    assert reward(completions, labels, prompts=None) == [1.0, 1.0, 0.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("family", ["sft", "rl"])
def test_losses_are_those_of_single_answers(folder: Path, family: Family) -> None:
    rows = questions().head(5)
    model = load_model(folder / "base.gguf").eval()
    tokenizer = load_tokenizer(folder / "tokenizer.json", OF_FAMILY[family])
    losses = reference_losses(model, tokenizer, rows)
    for row, loss in zip(rows.iter_rows(named=True), losses, strict=True):
        asked = prompts(pl.DataFrame({"question": [row["question"]]}), tokenizer)[0]
        question = tokenizer(asked)["input_ids"]
        answer = tokenizer(row["answer"] + tokenizer.eos_token)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([question + answer])).logits[0].log_softmax(-1)
        places = range(len(question) - 1, len(question) + len(answer) - 1)
        each = [logits[place, token].item() for place, token in zip(places, answer, strict=True)]
        assert loss == pytest.approx(-sum(each) / len(each), rel=1e-4)
        # Together they are the text that the student was trained on.
        whole = tokenizer(asked + row["answer"] + tokenizer.eos_token)["input_ids"]
        assert whole == question + answer


@pytest.mark.parametrize("family", ["sft", "rl"])
def test_evaluation_gives_each_question_its_own_result(folder: Path, family: Family) -> None:
    asked = questions()
    model = load_model(folder / "base.gguf")
    tokenizer = load_tokenizer(folder / "tokenizer.json", OF_FAMILY[family])
    files = (folder / "base.gguf", folder / "tokenizer.json")
    found = evaluate(*files, asked, OF_FAMILY[family], limit=8)
    assert found["id"].to_list() == asked["id"].to_list()
    scores = answer_scores(model, tokenizer, asked, 8)
    assert found["right"].to_list() == [float(score >= 1) for score in scores]
    losses = reference_losses(model, tokenizer, asked)
    assert found["loss"].to_list() == pytest.approx(losses, rel=1e-4)


def test_settings_need_something_to_compare() -> None:
    both = {"sft": {"model": "m"}, "rl": {"model": "n"}}
    settings = DistillationSettings.model_validate(both)
    assert list(settings.families) == ["sft", "rl"]
    assert (settings.families["sft"].source, settings.families["rl"].source) == ("sft", "rl")
    assert ("start", *settings.arms) == ARMS
    with pytest.raises(ValueError, match="give `sft`, `rl` or both"):
        DistillationSettings.model_validate({})
    for arms in (["extracted", "other"], ["original"], ["original", "other", "other"]):
        with pytest.raises(ValueError, match="expected `original` and at least one other"):
            DistillationSettings.model_validate({**both, "arms": arms})
