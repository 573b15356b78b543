"""Students at toy size: what they are trained on, that they repeat, and their evaluation."""

from pathlib import Path

import polars as pl
import pytest
import torch

from alignment_extraction.distillation.curation import final_answer
from alignment_extraction.distillation.data_sets import COLUMNS
from alignment_extraction.distillation.students import train_student
from alignment_extraction.settings.distillation import (
    ARMS,
    DistillationSettings,
    Family,
    RlStudentSettings,
    SftStudentSettings,
)
from alignment_extraction.training.fitting import Run
from alignment_extraction.training.gguf_export import OF_FAMILY
from alignment_extraction.training.reinforcement import evaluate
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


@pytest.mark.parametrize("family", ["sft", "rl"])
def test_evaluation_gives_each_question_its_own_result(folder: Path, family: Family) -> None:
    """In batches as alone."""
    asked = questions()
    files = (folder / "base.gguf", folder / "tokenizer.json")
    found = evaluate(*files, asked, OF_FAMILY[family], limit=8)
    assert found["id"].to_list() == asked["id"].to_list()
    alone = [evaluate(*files, row, OF_FAMILY[family], limit=8) for row in asked.iter_slices(1)]
    assert pl.concat(alone).equals(found)


def test_settings_need_something_to_compare() -> None:
    both = {"sft": {"model": "m"}, "rl": {"model": "n"}}
    settings = DistillationSettings.model_validate(both)
    assert list(settings.families) == ["sft", "rl"]
    assert (settings.families["sft"].source, settings.families["rl"].source) == ("sft", "rl")
    assert all(("start", *own.arms) == ARMS for own in settings.families.values())
    with pytest.raises(ValueError, match="give `sft`, `rl` or both"):
        DistillationSettings.model_validate({})
    for arms in (["extracted", "other"], ["original"], ["original", "other", "other"]):
        with pytest.raises(ValueError, match=r"rl\.arms: expected `original` and another"):
            DistillationSettings.model_validate(both | {"rl": {"model": "n", "arms": arms}})
