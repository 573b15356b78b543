"""Data sets of the hub by one word: which files it means, and what the lock makes of it."""

import fnmatch
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alignment_extraction.corpora import hub_data as module
from alignment_extraction.corpora.hub_data import hub_data, hub_files
from alignment_extraction.files import InputError
from alignment_extraction.models.lock import LOCK, read_lock
from tests.hub import COMMIT, Hub, client_environment, serve

ASK = """
import json, sys
from alignment_extraction.corpora.source import CorpusSource, source_files
from alignment_extraction.files import InputError
for path in json.loads(sys.argv[1]):
    source = CorpusSource(name="x", role="member", path=path)
    assert source.local_files() == []
    try:
        found = source_files(source)
        print(json.dumps([[name, file.read_text()] for name, file in found]))
    except InputError as error:
        print(json.dumps(str(error)))
"""


def ask(hub: Hub, folder: Path, *paths: str) -> list[Any]:
    """The files, or the refusal, of each id; in one process, as it takes seconds."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(paths)],
        cwd=folder,
        env=client_environment(hub.url, folder / "cache"),
        capture_output=True,
        text=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [one if isinstance(one, str) else [name for name, _ in one] for one in found]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf:a/b", (None, "main", None)),
        ("hf:a/b:c", ("c", "main", None)),
        ("hf:a/b@v1", (None, "v1", None)),
        ("hf:a/b/test", (None, "main", "test")),
        (f"hf:a/b:c@{COMMIT}/test", ("c", COMMIT, "test")),
    ],
)
def test_ids(text: str, parts: tuple[str | None, str, str | None]) -> None:
    assert hub_data(text) == ("a/b", *parts, None)


@pytest.mark.parametrize("text", ["hf:a", "hf:a/b@v1:c", "hf:../b", "hf:a/b/c/d", "hf:", "hf:a/b:"])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(InputError, match="not a data set of the hub; write hf:owner/name, hf:"):
        hub_data(text)


CARD = """---
license: mit
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - {split: test, path: [main/test.jsonl, "main/**/more-test.jsonl"]}
- config_name: socratic
  data_dir: socratic
  data_files: "*.csv"
%s---
# A card
"""
FILES = [
    *("main/train-00000-of-00002.jsonl", "main/train-00001-of-00002.jsonl", "main/test.jsonl"),
    *("main/deep/more-test.jsonl", "socratic/rows.csv", "socratic/notes.txt"),
]


def fill(hub: Hub, names: list[str], card: str | None = None) -> None:
    hub.files = {name: name.encode() for name in names}
    if card is not None:
        hub.files["README.md"] = card.encode()


def test_a_card_says_which_files(tmp_path: Path) -> None:
    with serve() as hub:
        fill(hub, FILES, CARD % "")
        which, wrong, *found = ask(
            hub,
            tmp_path,
            "hf:owner/model",
            "hf:owner/model:other",
            "hf:owner/model:main",
            "hf:owner/model:main/test",
            f"hf:owner/model:socratic@{COMMIT}",
            "hf:owner/model:main/validation",
        )
        assert which == (
            "hf:owner/model: which config?; name one of main, socratic, as in hf:owner/model:main"
        )
        assert wrong.startswith("hf:owner/model: it has no config other; name one of main, soc")
        assert found[:3] == [
            FILES[:2],
            ["main/deep/more-test.jsonl", "main/test.jsonl"],
            FILES[4:5],
        ]
        assert found[3] == (
            "hf:owner/model/validation: it has no such split but train, test; name one"
        )
        lock = read_lock(tmp_path / LOCK)
        assert "dataset hf:owner/model:main/test" in lock
        assert {entry.commit for entry in lock.values()} == {COMMIT}
        # The branch moves on, and what was locked is what comes; other bytes are refused.
        hub.branches["main"] = "f" * 40
        assert ask(hub, tmp_path, "hf:owner/model:main/test") == [found[1]]
        cached = next((tmp_path / "cache").rglob(f"{COMMIT}/main/test.jsonl"))
        cached.resolve().write_text("other")
        assert (
            "delete that line to take it anew" in ask(hub, tmp_path, "hf:owner/model:main/test")[0]
        )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the hub, of which as much is asked for as of the real one."""

    def download(repo: str, commit: str, kind: str, patterns: list[str]) -> Path:
        assert (repo, commit, kind) == ("owner/model", COMMIT, "dataset")
        got = tmp_path / "got"
        for path in tmp_path.glob("hub/**/*"):
            name = path.relative_to(tmp_path / "hub").as_posix()
            if path.is_file() and any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                (got / name).parent.mkdir(parents=True, exist_ok=True)
                (got / name).write_bytes(path.read_bytes())
        return got

    monkeypatch.setattr(module, "download_hub", download)
    return tmp_path / "hub"


def files_of(folder: Path, names: list[str], text: str, card: str | None = None) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    if card is not None:
        (folder / "README.md").write_text(card)
    return [name for name, _ in hub_files(hub_data(text), COMMIT)]


@pytest.mark.parametrize(
    ("names", "asked", "found"),
    [
        (["data/train-0.parquet", "data/test-0.parquet"], "", ["data/train-0.parquet"]),
        (["data/train-0.parquet", "data/test-0.parquet"], "/test", ["data/test-0.parquet"]),
        (["train.csv", "constraints.csv"], "", ["train.csv"]),
        (["test/a.jsonl", "train/a.jsonl"], "/test", ["test/a.jsonl"]),
        (["rows.jsonl.gz", "info.txt"], "", ["rows.jsonl.gz"]),
        (["en/train.jsonl", "de/train.jsonl"], ":de", ["de/train.jsonl"]),
        (["info.txt"], "", "no file of its rows that can be read"),
        (["train.jsonl"], "/test", "no file of test that can be read"),
    ],
)
def test_names_of_files_say_which(
    names: list[str], asked: str, found: list[str] | str, folder: Path
) -> None:
    if isinstance(found, str):
        with pytest.raises(InputError, match=f"{found}.*or the files: hf, revision and files in"):
            files_of(folder, names, f"hf:owner/model{asked}")
    else:
        assert files_of(folder, names, f"hf:owner/model{asked}") == found


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("no front matter", FILES[:2]),
        ("---\nlicense: mit\n---\n", FILES[:2]),
        ("---\nconfigs:\n- config_name: default\n---\n", FILES[:2]),
        (CARD % "  default: true\n", FILES[4:5]),
    ],
)
def test_cards_that_say_little(card: str, found: list[str], folder: Path) -> None:
    assert files_of(folder, FILES, "hf:owner/model", card) == found


def test_a_card_that_is_damaged(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"the card's YAML cannot be read .*name the files instead"
    ):
        files_of(folder, FILES, "hf:owner/model", "---\nconfigs: [\n---\n")
