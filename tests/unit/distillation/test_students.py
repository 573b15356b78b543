"""Students at toy size: what they are trained on, that they repeat, and their examination."""

from pathlib import Path

import polars as pl
import pytest
import torch

from alignment_extraction.distillation import students
from alignment_extraction.distillation.curation import with_labels
from alignment_extraction.distillation.data_sets import BENCHMARKS, COLUMNS
from alignment_extraction.distillation.evaluation import evaluate, reference_losses
from alignment_extraction.files import InputError
from alignment_extraction.settings.distillation import RlStudentSettings, SftStudentSettings
from alignment_extraction.training.answers import answer_scores, prompts
from alignment_extraction.training.gguf_export import END_OF_TURN, load_model, load_tokenizer
from tests.toy_training import TOY, toy_corpus, train_tokenizer_and_base

SFT = SftStudentSettings(model="sft", steps=3)
RL = RlStudentSettings(model="rl", steps=2, batch_size=8, accuracy_steps=1)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tokenizer_and_base(tmp_path_factory.mktemp("training"))


def data_set(source: str) -> pl.DataFrame:
    return with_labels(toy_corpus().filter(source=source, role="member")).select(COLUMNS)


def questions() -> pl.DataFrame:
    group = pl.concat_str("source", "split", separator=".")
    rows = toy_corpus().with_columns(benchmark=group).filter(pl.col("benchmark").is_in(BENCHMARKS))
    return rows.select("benchmark", "id", "question", "answer", "template", "metadata")


def train_sft(data: pl.DataFrame, folder: Path, output: Path, seed: int = 0) -> bytes:
    students.train_sft_student(
        data,
        folder / "base.gguf",
        folder / "tokenizer.json",
        TOY,
        SFT,
        seed,
        output,
        output.with_suffix(".checkpoints"),
        output.with_suffix(".parquet"),
    )
    return output.read_bytes()


def test_the_same_seed_gives_the_same_student(folder: Path, tmp_path: Path) -> None:
    data = data_set("sft")
    first = train_sft(data, folder, tmp_path / "first.gguf")
    assert train_sft(data, folder, tmp_path / "again.gguf") == first
    assert train_sft(data, folder, tmp_path / "other.gguf", seed=1) != first
    curves = pl.read_parquet(tmp_path / "first.parquet")
    assert curves["step"].max() == SFT.steps


def test_a_conversation_is_question_and_answer(folder: Path) -> None:
    rows = students.conversations(data_set("sft").head(1))
    turns = rows["messages"].to_list()[0]
    source = toy_corpus().filter(source="sft", role="member")
    assert turns == source["messages"].to_list()[0]
    assert rows["repetitions"].to_list() == [1]


def test_rl_records_reward_and_accuracy(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "student.gguf"
    students.train_rl_student(
        data_set("rl"),
        questions(),
        folder / "base.gguf",
        folder / "tokenizer.json",
        TOY,
        RL,
        0,
        output,
        tmp_path / "checkpoints",
        tmp_path / "curves.parquet",
    )
    curves = pl.read_parquet(tmp_path / "curves.parquet")
    for metric, steps in (("reward", [1, 2]), ("accuracy", [0, 1, 2])):
        assert curves.filter(metric=metric)["step"].to_list() == steps
    assert output.read_bytes()[:4] == b"GGUF"


def test_a_data_set_without_its_columns_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks the columns label"):
        train_sft(data_set("sft").drop("label"), folder, tmp_path / "student.gguf")


def test_losses_are_those_of_single_answers(folder: Path) -> None:
    rows = questions().head(5)
    model = load_model(folder / "base.gguf").eval()
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    losses, tokens = reference_losses(model, tokenizer, rows)
    for row, loss, number in zip(rows.iter_rows(named=True), losses, tokens, strict=True):
        asked = prompts(pl.DataFrame({"question": [row["question"]]}), tokenizer)[0]
        question = tokenizer(asked)["input_ids"]
        answer = tokenizer(f"{row['answer']}{END_OF_TURN}")["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([question + answer])).logits[0].log_softmax(-1)
        places = range(len(question) - 1, len(question) + len(answer) - 1)
        each = [logits[place, token].item() for place, token in zip(places, answer, strict=True)]
        assert number == len(answer)
        assert loss == pytest.approx(-sum(each) / len(each), rel=1e-4)
        # Together they are the text that the student was trained on.
        whole = tokenizer(asked + row["answer"] + END_OF_TURN)["input_ids"]
        assert whole == question + answer


def test_examination_gives_each_question_its_own_result(folder: Path) -> None:
    asked = questions()
    model = load_model(folder / "base.gguf")
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    found = evaluate(folder / "base.gguf", folder / "tokenizer.json", asked, max_tokens=8)
    assert found["id"].to_list() == asked["id"].to_list()
    scores = answer_scores(model, tokenizer, asked, 8)
    assert found["right"].to_list() == [float(score >= 1) for score in scores]
    losses, tokens = reference_losses(model, tokenizer, asked)
    assert found["loss"].to_list() == pytest.approx(losses, rel=1e-4)
    assert found["tokens"].to_list() == tokens
