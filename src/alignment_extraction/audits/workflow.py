"""Snakemake, run below an audit: its workflow, its progress on the terminal, its log in a file."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from filelock import FileLock, Timeout
from tqdm import tqdm

from alignment_extraction.files import InputError

LOG = "logs/audit.log"
"""Everything that Snakemake and the steps say, below the audit's folder."""
LOCK = ".audit.lock"

_PACKAGE = Path(__file__).resolve().parents[1]
_STEP, _DONE = re.compile(r"(?:local)?rule (\w+):"), re.compile(r"(\d+) of (\d+) steps")
_BAR = re.compile(r"[^%]*\d+%\|.*\| (\S+)")
# As profiles/default has them, which is not asked here.
_OPTIONS = (
    *("--rerun-incomplete", "--nolock", "--show-failed-logs", "--resources", "gpu=1"),
    *("--rerun-triggers", "mtime", "params", "input", "software-env"),
    *("--max-checksum-file-size", "1000000000", "--workflow-profile", "none", "--profile", "none"),
)


def shipped(name: str) -> Path:
    """A file of the workflow: the clone's own, or in an installed package the one beside it."""
    clone = _PACKAGE.parents[1]
    folder = clone if (clone / "Snakefile").is_file() else _PACKAGE / "shipped"
    return folder / name


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second audit out of a folder. A killed one leaves no lock behind.

    Raises:
        InputError: another audit runs there.
    """
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise InputError(
            f"{folder}: another audit runs in this folder; wait for it, or give --out"
        ) from None


def own_caches(folder: Path) -> None:
    """Let caches go below `folder` where the user's own cannot be written, as in containers."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/"), ".cache"))
    try:
        (cache / "snakemake").mkdir(parents=True, exist_ok=True)
        writable = os.access(cache / "snakemake", os.W_OK)
    except OSError:
        writable = False
    if not writable:
        os.environ |= {
            "XDG_CACHE_HOME": str(folder / ".cache"),
            "XDG_CONFIG_HOME": str(folder / ".config"),
        }


def snakemake(targets: Sequence[str], cores: int, label: str, *, dry_run: bool = False) -> None:
    """Make files of the audit in the current folder.

    Args:
        targets: files, as `layout` names them.
        cores: that all jobs use together.
        label: what the progress bar is called.
        dry_run: print what would run, and run nothing.

    Raises:
        InputError: a step failed: what it said, and where the log is.
        KeyboardInterrupt: the user stopped it, and all steps have ended.
    """
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(shipped("Snakefile"))]
    command += [*_OPTIONS, "--cores", str(cores), *(["--dry-run"] if dry_run else [])]
    log = Path(LOG)
    log.parent.mkdir(parents=True, exist_ok=True)
    said: list[str] = []
    # A session of its own: the terminal's Ctrl-C reaches the steps once, and by `_stop`.
    with (
        log.open("a") as file,
        tqdm(desc=label, unit="step", disable=not sys.stderr.isatty(), leave=False) as bar,
        subprocess.Popen(
            [*command, "--", *targets],
            env=os.environ | {"PYTHONSAFEPATH": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process,
        _stopping(process),
    ):
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", file=file, flush=True)
            if dry_run:
                print(line, end="")
            said = [*said[-200:], line.strip()]
            _show(bar, line, label)
    if process.returncode:
        raise InputError(_failure(said, log.absolute()))


def _show(bar: "tqdm[NoReturn]", line: str, label: str) -> None:
    """Move the bar by a line of Snakemake's, or of a step's own bar."""
    if step := _STEP.match(line):
        bar.set_description_str(f"{label}: {step[1]}")
        if bar.disable:
            print(f"{label}: {step[1]}", file=sys.stderr, flush=True)
    elif done := _DONE.match(line):
        bar.total = int(done[2])
        bar.update(int(done[1]) - bar.n)
    elif own := _BAR.match(line):
        bar.set_postfix_str(own[1])


@contextlib.contextmanager
def _stopping(process: subprocess.Popen[str]) -> Iterator[None]:
    """End Snakemake and its steps, as Ctrl-C does, when this process is told to end."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except BaseException:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.communicate(timeout=20)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _failure(said: Sequence[str], log: Path) -> str:
    """What went wrong, in a line: what a step said of it, or else Snakemake's last words."""
    told = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    words = told[:1] or [line for line in said if line][-3:]
    return f"{' '.join(words)} (all that was said: {log})"
