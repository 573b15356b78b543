"""An audit's folder, and Snakemake in it: progress on the terminal, everything else in a log."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from alignment_extraction.files import InputError

LOG = "logs/audit.log"
ABOUT = "# Written by `alignment-extraction audit`.\n"
_LOCK = ".audit.lock"
_PACKAGE = Path(__file__).resolve().parents[1]
_RULE, _DONE = re.compile(r"(?:local)?rule (\w+):"), re.compile(r"(\d+) of (\d+) steps")
_BAR = re.compile(r"[^%]*\d+%\|.*\| (\S+)")


def shipped(name: str) -> Path:
    """A file of the workflow: in an installed package the one beside it, or the clone's own."""
    own = _PACKAGE / "shipped"
    return (own if own.is_dir() else _PACKAGE.parents[1]) / name


def link(name: Path, target: Path) -> None:
    """Make `name` a symbolic link to `target`, unless it is one."""
    if name.is_symlink() and name.readlink() == target:
        return
    name.parent.mkdir(parents=True, exist_ok=True)
    if name.is_symlink():
        name.unlink()
    name.symlink_to(target)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in the folder of an audit, alone; one that was made for bad input goes again.

    Links to the workflow and the package make it like a clone: their paths have no odd characters
    (Snakemake takes braces for wildcards), and `snakemake` can be typed there. Caches go below it
    too where the user's own cannot be written, as in containers. Whoever is killed leaves no lock.

    Raises:
        InputError: it is the folder of something or somebody else, or another audit runs there.
    """
    params = folder / "params.yaml"
    if params.exists() and not params.read_text().startswith(ABOUT):
        raise InputError(f"{folder}: has a params.yaml that no audit wrote; give another --out")
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _LOCK).touch()
        for name in ("Snakefile", "workflow", "profiles"):
            link(folder / name, shipped(name))
        link(folder / "src" / _PACKAGE.name, _PACKAGE)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); give a folder of your own with --out"
        ) from None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/"), ".cache"))
    try:
        (cache / "snakemake").mkdir(parents=True, exist_ok=True)
        writable = os.access(cache / "snakemake", os.W_OK)
    except OSError:
        writable = False
    if not writable:
        own = {"XDG_CACHE_HOME": folder / ".cache", "XDG_CONFIG_HOME": folder / ".config"}
        os.environ |= {name: str(path) for name, path in own.items()}
    try:
        with contextlib.chdir(folder), FileLock(folder / _LOCK, timeout=0):
            yield
    except Timeout:
        raise InputError(
            f"{folder}: another audit runs in this folder; wait for it, or give --out"
        ) from None
    except InputError:
        if new and not params.exists() and not (folder / "data" / "models").exists():
            shutil.rmtree(folder)
            with contextlib.suppress(OSError):
                folder.parent.rmdir()
        raise


def snakemake(targets: Sequence[str], cores: int, label: str, *, dry_run: bool = False) -> None:
    """Make files of the audit in the current folder, on so many cores in all.

    The progress bar is called `label`; `dry_run` prints what would run, and runs nothing.

    Raises:
        InputError: a step failed: what it said, and where the log is.
        KeyboardInterrupt: this process was told to end, and all steps have.
    """
    command = [sys.executable, "-m", "snakemake", "--nolock", "--profile", "none"]
    command += ["--cores", str(cores), *(["--dry-run"] if dry_run else [])]
    log = Path(LOG)
    log.parent.mkdir(parents=True, exist_ok=True)
    said: list[str] = []
    with (
        log.open("a") as file,
        tqdm(desc=label, unit="step", disable=not sys.stderr.isatty(), leave=False) as bar,
        # A session of its own: Ctrl-C reaches the steps once, and through `_ending`.
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
        _ending(process),
    ):
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", file=file, flush=True)
            if dry_run:
                print(line, end="")
            said = [*said[-200:], line.strip()]
            if rule := _RULE.match(line):
                bar.set_description_str(f"{label}: {rule[1]}")
                if bar.disable and not dry_run:
                    print(f"{label}: {rule[1]}", file=sys.stderr, flush=True)
            elif done := _DONE.match(line):
                bar.total = int(done[2])
                bar.update(int(done[1]) - bar.n)
            elif own := _BAR.match(line):
                bar.set_postfix_str(own[1])
    if process.returncode:
        told = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
        words = " ".join(told[:1] or [line for line in said if line][-3:])
        raise InputError(f"{words} (all that was said: {log.absolute()})")


@contextlib.contextmanager
def _ending(process: subprocess.Popen[str]) -> Iterator[None]:
    """End Snakemake and its steps, as Ctrl-C does, when this process is told to end."""

    def stop(*_: Any) -> None:
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
