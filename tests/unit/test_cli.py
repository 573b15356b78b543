"""The command line: every verb explains itself, and bad input is one line and status 1."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alignment_extraction.cli import app

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


def test_the_verbs_are_few() -> None:
    assert (
        sorted(
            [
                *("audit", "check", "report", "plan", "validate", "compare"),
                *("generate", "search", "likelihood", "curate"),
            ]
        )
        == VERBS
    )


def test_help_groups_the_verbs_and_each_has_an_example() -> None:
    page = CliRunner().invoke(app, ["--help"]).output
    for panel in ("Audits", "Studies", "One step by hand"):
        assert panel in page
    for group in app.registered_groups:
        for command in group.typer_instance.registered_commands:
            assert "Example: alignment-extraction" in (command.callback.__doc__ or "")


@pytest.mark.parametrize(
    ("arguments", "given", "says"),
    [
        (["validate", "none.yaml"], "", "none.yaml: cannot be read"),
        (["plan", "x", "--params", "none.yaml"], "", "none.yaml: cannot be read"),
        (["report", "x"], "", "params.yaml: cannot be read"),
        (["generate", "none.gguf"], "", "none.gguf: cannot be read"),
        (["generate", "a.gguf", "--prefix-text", ""], "", "--prefix-text: text: String should"),
        (["search", "a.parquet", "--corpus", "c", "--embedder", "e"], "", "a.parquet: no such"),
        (["likelihood", "a.gguf", "--corpus", "c.parquet"], "", "c.parquet: no such file"),
        (["curate", "a.parquet"], "", "a.parquet: no such file"),
        (["audit", "none.gguf", "none.jsonl"], "", "none.jsonl: no such file"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], given: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, given=given)
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert not list(tmp_path.iterdir())


def test_bad_input_of_the_gate_is_no_verdict(tmp_path: Path) -> None:
    """Status 1 would say that a limit is exceeded."""
    (tmp_path / "params.yaml").write_text("run: [")
    for study in (str(tmp_path), "nothing"):
        result = CliRunner().invoke(app, ["check", study, "--max-rows-at-risk", "1"])
        assert result.exit_code == 3 and result.output.count("\n") == 1
