"""The command line: every verb explains itself, and bad input is one line and status 1."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alignment_extraction.cli import app
from alignment_extraction.settings import reference

VERBS = sorted(
    command.name or command.callback.__name__.replace("_", "-")
    for group in app.registered_groups
    for command in group.typer_instance.registered_commands
)


def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """The installed program, as a user runs it."""
    program = Path(sys.executable).with_name("alignment-extraction")
    return subprocess.run(
        [program, *arguments], input=given, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 4


def test_the_verbs_are_all_there() -> None:
    assert {"validate", "fetch", "corpus", "generate", "match", "report", "track"} <= set(VERBS)
    assert {"match-held-out", "calibrate"} <= set(VERBS)


def test_settings_prints_the_table() -> None:
    assert CliRunner().invoke(app, ["settings"]).output == reference.markdown()


@pytest.mark.parametrize(
    ("arguments", "given", "says"),
    [
        (["validate", "none.yaml"], "", "none.yaml: cannot be read"),
        (
            ["fetch", "--settings", "-", "--output", "x"],
            "{path: a}",
            "`path` and `pypi` need `sha256`",
        ),
        (["fetch", "--settings", "-", "--output", "x"], "{path: [", "-: not valid YAML"),
        (["fetch", "--settings", "none.yaml", "--output", "x"], "", "none.yaml: cannot be read"),
        (
            ["generate", "--model", "none.gguf", "--prefix", "user", "--output", "x"],
            "",
            "none.gguf: no such file",
        ),
        (
            [
                "report",
                "--settings",
                "-",
                "--name",
                "x",
                "--folder",
                ".",
                "--figure-folder",
                ".",
                "--output",
                "x.html",
                "--generations",
                "nameless",
            ],
            "{title: x, models: [m], corpus: c, embedder: e, prefixes: [user]}",
            "expected NAME=FILE",
        ),
        (
            [
                "likelihood",
                "--before",
                "a.gguf",
                "--after",
                "b.gguf",
                "--corpus",
                "c.parquet",
                "--output",
                "x",
            ],
            "",
            "c.parquet: no such file",
        ),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], given: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "report":
        (tmp_path / "metrics.json").write_text("{}")
    result = run(*arguments, given=given)
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"metrics.json"}
