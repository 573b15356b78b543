"""What results say of where they come from."""

import subprocess
from pathlib import Path

import polars as pl

from alignment_extraction import provenance
from alignment_extraction.files import write_parquet
from alignment_extraction.vocabulary import Condition


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.email=someone@example.org", "-c", "user.name=Someone"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_revision(tmp_path: Path) -> None:
    assert provenance.git_revision(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert provenance.git_revision(tmp_path) == commit
    (tmp_path / "file").write_text("b")
    assert provenance.git_revision(tmp_path) == f"{commit}-dirty"


def test_models_and_prefixes_are_named_by_what_their_generations_say(tmp_path: Path) -> None:
    frame = pl.DataFrame({"index": [0]})
    about = {"model_sha256": "abc", "prefix_tokens": '[[1, "<s>"]]'}
    write_parquet(frame, tmp_path / "a.parquet", about)
    write_parquet(frame, tmp_path / "b.parquet")
    shards = {Condition(name, "user", 0): tmp_path / f"{name}.parquet" for name in ("b", "a")}
    pairs = dict(provenance.collect(shards))
    assert pairs["sha256 of a"] == "abc"
    assert pairs["sha256 of b"] == "not recorded"
    assert pairs["prefix user of a, token by token"] == "'<s>' 1"
    assert pairs["prefix user of b, token by token"] == "not recorded"
    assert pairs["polars"] == pl.__version__
    assert pairs["machine"].endswith("Linux") or "cores" in pairs["machine"]
