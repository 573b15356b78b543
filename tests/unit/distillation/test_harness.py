"""lm-evaluation-harness on a tiny local task, without the hub; skipped where it is missing."""

import importlib.util
import json
from pathlib import Path

import pytest

from alignment_extraction.distillation import harness
from alignment_extraction.files import InputError
from alignment_extraction.training.gguf_export import load_model, load_tokenizer
from tests.toy_training import train_tokenizer_and_base

INSTALLED = importlib.util.find_spec("lm_eval") is not None
needs_harness = pytest.mark.skipif(
    not INSTALLED, reason="lm-evaluation-harness is not installed (extra `evaluation`)"
)

TASK = """task: sums
dataset_path: json
dataset_name: null
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
doc_to_choice: ["one", "two"]
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = train_tokenizer_and_base(tmp_path_factory.mktemp("training"))
    load_model(folder / "base.gguf").save_pretrained(folder / "model")
    load_tokenizer(folder / "tokenizer.json").save_pretrained(folder / "model")
    return folder


def write_questions(path: Path, answer: int, number: int = 6) -> Path:
    rows = [{"question": f"What is {i}?", "answer": answer} for i in range(number)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@needs_harness
def test_a_local_task_and_a_local_file_for_its_questions(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    given = write_questions(tmp_path / "given.jsonl", 0)
    (tmp_path / "tasks/sums.yaml").write_text(TASK.format(file=given))
    model, include = folder / "model", tmp_path / "tasks"
    found = harness.evaluate(model, {"sums": None}, include=include)
    assert found.schema == harness.SCHEMA
    row = found.filter(metric="acc").row(0, named=True)
    assert (row["task"], row["items"]) == ("sums", 6)
    # The other answer to the same questions is right where the first was wrong.
    other = write_questions(tmp_path / "other.jsonl", 1, number=4)
    turned = harness.evaluate(model, {"sums": other}, include=include)
    opposite = turned.filter(metric="acc").row(0, named=True)
    assert opposite["items"] == 4
    first = harness.evaluate(model, {"sums": None}, include=include, limit=4)
    assert opposite["value"] == pytest.approx(1 - first.filter(metric="acc")["value"][0])


@needs_harness
def test_unknown_tasks_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no task no_such_task"):
        harness.evaluate("unused", {"no_such_task": None})


@pytest.mark.skipif(INSTALLED, reason="lm-evaluation-harness is installed")
def test_without_the_harness_the_error_says_how_to_get_it() -> None:
    with pytest.raises(InputError, match="pip install"):
        harness.evaluate("unused", {"gsm8k": None})
