"""An audit of someone's own model: the study that is written, and what is refused."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from alignment_extraction.cli import app
from alignment_extraction.files import InputError, sha256
from alignment_extraction.settings import audit, config
from tests.tiny_models import make_tiny_gguf

ROOT = Path(__file__).resolve().parents[3]
ROWS = {
    "messages": {"messages": [{"role": "user", "content": "q"}]},
    "orz": [{"from": "human", "value": "q"}, {"from": "assistant", "ground_truth": {"value": "1"}}],
    "gsm8k": {"question": "q", "answer": "a"},
    "alpaca": {"instruction": "q", "output": "a"},
}


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("form", ROWS)
def test_the_format_is_found_out(form: str, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", {"what": 1}, ROWS[form], ROWS[form])
    assert audit.detect_format(data) == form


def test_no_known_format(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", {"what": 1})
    with pytest.raises(InputError, match=r"rows\.jsonl: no row is of a known format \(messages: "):
        audit.detect_format(data)


@pytest.mark.parametrize(
    ("file", "name"),
    [("Mine_7B.Q4_K_M.gguf", "mine-7b.q4-k-m"), ("../..gguf", "audit"), ("É.gguf", "audit")],
)
def test_names(file: str, name: str) -> None:
    assert audit.study_name(Path(file)) == name


def test_the_study_goes_over_params(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "mine.jsonl", ROWS["gsm8k"])
    write_rows(tmp_path / "others.jsonl", ROWS["gsm8k"])
    result = CliRunner().invoke(
        app,
        ["audit", str(tiny_path), "mine.jsonl", "--held-out", "others.jsonl", "--name", "mine"],
    )
    assert result.output == "studies/mine.yaml\n"
    written = yaml.safe_load(Path("studies/mine.yaml").read_text())
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["run"] = written["run"]
    for section in ("models", "corpora", "studies"):
        values[section] |= written[section]
    params = config.validate(values)
    source = params.models["mine"].source
    assert source is not None
    assert source.sha256 == sha256(tiny_path)
    assert [one.role for one in params.corpora["mine"].sources] == ["member", "held-out"]
    # The tiny model's template has no system turn: `full` and `user` are one prefix.
    assert params.studies["mine"].prefix_names == ("full", "bos", "none")


def test_a_model_without_a_template_has_no_prefix_of_it(tmp_path: Path) -> None:
    model = make_tiny_gguf(tmp_path / "bare.gguf", seed=1, chat_template=None)
    assert audit.derivable_prefixes(model) == ["none"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.gguf", "rows.jsonl"], "none.gguf: no such file"),
        (["rows.jsonl", "none.jsonl"], "none.jsonl: no such file"),
        (["rows.jsonl", "rows.jsonl"], "rows.jsonl: not a GGUF file"),
        (["rows.jsonl", "rows.jsonl", "--format", "csv"], "format: Input should be 'messages'"),
        (["rows.jsonl", "rows.jsonl", "--name", "../x"], "name: String should match pattern"),
    ],
)
def test_what_is_refused(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", ROWS["gsm8k"])
    result = CliRunner().invoke(app, ["audit", *arguments])
    assert isinstance(result.exception, InputError)
    assert says in str(result.exception)
    assert not (tmp_path / "studies").exists()
