"""An audit of someone's own model: the study that is written, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from alignment_extraction import audit
from alignment_extraction.cli import app
from alignment_extraction.corpora.conversations import Conversation, read_rows
from alignment_extraction.corpora.source import CorpusSource
from alignment_extraction.files import InputError, sha256
from alignment_extraction.models.sources import PinnedSource
from tests.tiny_models import make_tiny_gguf
from tests.unit.models.files import write_adapter, write_split

ROW = {"question": "q", "answer": "a"}


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


DERIVE = audit.derivable_prefixes


@pytest.fixture
def here(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a model and rows, that commands run in.

    Prefixes are not derived again in each test, which takes a process of its own.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(audit, "derivable_prefixes", lambda _: ["full", "bos", "none"])
    shutil.copy(tiny_path, "mine.gguf")
    write_rows(tmp_path / "rows.jsonl", ROW)
    return tmp_path


def run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    if result.exception:
        raise result.exception
    written = result.stdout.strip().splitlines()[-1]
    study: dict[str, Any] = yaml.safe_load(Path(written).read_text())
    return study


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Mine_7B.Q4_K_M.gguf", "mine-7b.q4-k-m"),
        ("../..gguf", "audit"),
        ("É.gguf", "audit"),
        ("x/Big-00001-of-00003.GGUF", "big"),
        ("hf:owner/Name-GGUF", "name-gguf"),
        ("hf:owner/name:sub/File.Q8_0.gguf@main", "file.q8-0"),
    ],
)
def test_names(given: str, name: str) -> None:
    assert audit.study_name(given) == name


def test_the_study(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "derivable_prefixes", DERIVE)
    write_rows(here / "others.jsonl", ROW)
    written = run("mine.gguf", "rows.jsonl", "--held-out", "others.jsonl", "--samples", 7)
    assert written == {
        "run": ["mine"],
        "models": {"mine": {"source": {"path": "mine.gguf", "sha256": sha256(here / "mine.gguf")}}},
        "corpora": {
            "mine": {
                "sources": [
                    {"name": "data", "path": "rows.jsonl", "role": "member"},
                    {"name": "data", "path": "others.jsonl", "role": "held-out"},
                ]
            }
        },
        "studies": {
            "mine": {
                "title": "mine.gguf against rows.jsonl",
                "models": ["mine"],
                "corpus": "mine",
                "embedder": "minilm",
                # The tiny model's template has no system turn: `full` and `user` are one prefix.
                "prefixes": ["full", "bos", "none"],
                "fields": ["question"],
                "sampling": {"samples": 7},
                "likelihood": {"models": ["mine"], "prefix": "user"},
            }
        },
    }


def test_a_base_fields_and_a_prefix_of_ones_own(here: Path) -> None:
    (here / "rows.csv").write_text("Frage,Antwort\nWarum?,Darum.\n")
    shutil.copy("mine.gguf", "before.gguf")
    written = run(
        *("mine.gguf", "rows.csv", "--base", "before.gguf", "--name", "own", "--out", "there"),
        *("--question-field", "Frage", "--answer-field", "Antwort", "--turns", "all"),
        *("--allow-rejects", "--prefix-text", "<|im_start|>user\n", "--end-text", "<|im_end|>"),
    )
    [source] = written["corpora"]["own"]["sources"]
    assert CorpusSource(**source) == CorpusSource(
        name="data",
        path="rows.csv",
        role="member",
        question_field="Frage",
        answer_field="Antwort",
        turns="all",
        allow_rejects=True,
    )
    assert written["models"]["own-base"]["trained_on"] == []
    study = written["studies"]["own"]
    assert study["likelihood"] == {"models": ["own", "own-base"]}
    prefix = {"name": "given", "text": "<|im_start|>user\n", "end": "<|im_end|>"}
    assert study["prefixes"] == [prefix]
    assert (here / "there" / "own.yaml").exists()


def test_an_adapter_with_its_base(here: Path) -> None:
    write_adapter(here / "lora.gguf", here / "mine.gguf")
    written = run("lora.gguf", "rows.jsonl", "--base", "mine.gguf")
    assert written["models"]["lora"] == {
        "base": "lora-base",
        "adapter": {"path": "lora.gguf", "sha256": sha256(here / "lora.gguf")},
    }
    assert written["studies"]["lora"]["prefixes"] == ["full", "bos", "none"]
    with pytest.raises(InputError, match=r"lora.gguf: a LoRA adapter without its base; name the"):
        run("lora.gguf", "rows.jsonl")
    with pytest.raises(InputError, match=r"lora.gguf: a LoRA adapter; the base is the model witho"):
        run("mine.gguf", "rows.jsonl", "--base", "lora.gguf")


def test_a_split_model(here: Path) -> None:
    parts = write_split(here / "mine.gguf", here / "split")
    assert DERIVE(parts[1]) == ["full", "bos", "none"]
    for part in parts[:2]:
        written = run(part, "rows.jsonl")
        source = PinnedSource(**written["models"]["split"]["source"])
        assert source.split
        assert written["studies"]["split"]["prefixes"] == ["full", "bos", "none"]
    parts[-1].unlink()
    with pytest.raises(InputError, match=r"part 1 of 3 of a split GGUF, and split-00003-of-00003"):
        run(parts[0], "rows.jsonl")


def test_a_model_without_a_template_has_no_prefix_of_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "derivable_prefixes", DERIVE)
    make_tiny_gguf(here / "bare.gguf", seed=1, chat_template=None)
    written = run("bare.gguf", "rows.jsonl")
    assert written["studies"]["bare"]["prefixes"] == ["none"]
    assert written["studies"]["bare"]["likelihood"] == {"models": ["bare"]}


@pytest.mark.parametrize("section", ["models", "corpora", "studies"])
def test_a_name_that_params_has(here: Path, section: str) -> None:
    kind = {"models": "model", "corpora": "corpus", "studies": "study"}[section]
    (here / "params.yaml").write_text(yaml.safe_dump({section: {"mine": {}, "own-base": {}}}))
    with pytest.raises(InputError) as error:
        run("mine.gguf", "rows.jsonl")
    assert str(error.value) == (
        f"params.yaml already has a {kind} named 'mine'; give the audit another name: --name "
        "mine-audit (make audit NAME=mine-audit)"
    )
    with pytest.raises(InputError, match=f"already has a {kind} named 'own-base'"):
        run("mine.gguf", "rows.jsonl", "--name", "own")
    assert not (here / "studies").exists()
    assert run("mine.gguf", "rows.jsonl", "--name", "other")["run"] == ["other"]


@pytest.mark.parametrize("name", ["rows{v1}.jsonl", "a*[b]?.jsonl", "é ü/Bob's {rows}.jsonl.GZ"])
def test_paths_that_snakemake_takes_for_patterns(here: Path, name: str) -> None:
    import gzip

    data = (here / "rows.jsonl").read_bytes()
    (here / name).parent.mkdir(exist_ok=True)
    (here / name).write_bytes(gzip.compress(data) if name.endswith("GZ") else data)
    model = here / "m{o}del.gguf"
    shutil.copy("mine.gguf", model)
    written = run(model.name, name)
    [source] = written["corpora"]["m-o-del"]["sources"]
    pinned = written["models"]["m-o-del"]["source"]
    assert not set("{}*?[]") & set(source["path"] + pinned["path"])
    [file] = CorpusSource(**source).local_files()
    assert [row.question for _, row, _ in read_rows(file) if isinstance(row, Conversation)] == ["q"]
    assert sha256(Path(pinned["path"])) == pinned["sha256"] == sha256(model)
    # Again: the same links.
    assert run(model.name, name) == written


@pytest.mark.parametrize("name", ["Bob's model.gguf", "é ü.gguf", 'a "b" & $c.gguf'])
def test_paths_of_any_letters(here: Path, name: str) -> None:
    shutil.copy("mine.gguf", name)
    written = run(name, "rows.jsonl", "--name", "x")
    assert written["models"]["x"]["source"]["path"] == name


def test_mostly_unusable_rows(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    call = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None}]}
    write_rows(here / "calls.jsonl", *[call] * 9, ROW)
    said = "calls.jsonl: 9 of 10 rows cannot be used: no assistant message after the question has"
    with pytest.raises(InputError, match=said):
        run("mine.gguf", "calls.jsonl")
    assert not (here / "studies").exists()
    written = run("mine.gguf", "calls.jsonl", "--allow-rejects")
    assert written["corpora"]["mine"]["sources"][0]["allow_rejects"] is True
    assert said in caplog.text
    write_rows(here / "calls.jsonl", *[call] * 2)
    with pytest.raises(InputError, match=r"calls.jsonl: no usable row \(row 1: no assistant"):
        run("mine.gguf", "calls.jsonl", "--allow-rejects")
    write_rows(here / "calls.jsonl")
    with pytest.raises(InputError, match=r"calls.jsonl: no usable row \(it has no rows\)"):
        run("mine.gguf", "calls.jsonl")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.gguf", "rows.jsonl"], "none.gguf: no such file"),
        (["mine.gguf", "none.jsonl"], "none.jsonl: no such file"),
        (["mine.gguf", "rows.jsonl", "--held-out", "none"], "none: no such file"),
        (["rows.jsonl", "rows.jsonl"], "rows.jsonl: not a GGUF file"),
        (["mine.gguf", "mine.gguf"], "mine.gguf: ends in none of .jsonl"),
        (["mine.gguf", "rows.jsonl", "--name", "../x"], "name: String should match pattern"),
        (["mine.gguf", "rows.jsonl", "--turns", "last"], "data: turns: Input should be 'first'"),
        (["mine.gguf", "rows.jsonl", "--end-text", "x"], "--end-text: goes with --prefix-text"),
        (["mine.gguf", "hf:rows"], "hf:rows: not a data set of the hub; write hf:owner/name"),
        (["hf:mine", "rows.jsonl"], "hf:mine: not a model of the hub; write hf:owner/name"),
        (["folder", "rows.jsonl"], "folder: a model of transformers; convert it with llama.cpp"),
        (["empty", "rows.jsonl"], "empty: no GGUF file in it and no model of transformers"),
        (["mine.gguf", "odd.jsonl"], "none of its keys (`title`) is known to hold a question"),
    ],
)
def test_what_is_refused(arguments: list[str], says: str, here: Path) -> None:
    for folder in ("folder", "empty"):
        (here / folder).mkdir()
    (here / "folder" / "config.json").touch()
    write_rows(here / "odd.jsonl", {"title": "x"})
    with pytest.raises(InputError) as error:
        run(*arguments)
    assert says in str(error.value)
    assert not (here / "studies").exists()
