"""The Makefile hands a person's own file names on as they are."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clone whose environment is made, with a program that notes what it is called with."""
    folder = tmp_path / "o'brien's $HOME"
    tools = folder / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
        os.utime(folder / name, (0, 0))
    program = tools / "alignment-extraction"
    program.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\" >> called\n")
    program.chmod(0o755)
    for i, name in enumerate(("python", "llama-cpu"), 1):
        (folder / ".venv" / name).touch()
        os.utime(folder / ".venv" / name, (i, i))
    return folder


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("model", "data"),
    [("mine.gguf", "mine.jsonl"), ("Bob's model.gguf", 'two  "rows".jsonl'), ("`a`;b&.gguf", "-x")],
)
def test_file_names_reach_the_verb_as_they_are(folder: Path, model: str, data: str) -> None:
    done = make(folder, "audit", f"MODEL={model}", f"DATA={data}", "HELD_OUT=it's.jsonl")
    assert done.returncode == 0, done.stderr
    called = (folder / "called").read_text().split("\0")[:-1]
    assert called == ["audit", "--held-out", "it's.jsonl", "--", model, data]


def test_what_an_audit_needs(folder: Path) -> None:
    done = make(folder, "audit", "DATA=mine.jsonl")
    assert done.returncode == 2 and "usage: make audit MODEL=" in done.stdout
    assert make(folder, "audit", "MODEL=mine.gguf").returncode == 0
    assert (folder / "called").read_text().split("\0")[:-1] == ["audit", "--", "mine.gguf"]
