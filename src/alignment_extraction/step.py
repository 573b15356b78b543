"""What a script of the workflow runs in: a log of its own, and failures of one line."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from alignment_extraction.failures import explain


class Given(NamedTuple):
    """Settings as a parameter of a rule; of a tuple Snakemake sees whether the text changed."""

    settings: Any


@contextlib.contextmanager
def step(log: str | Path) -> Iterator[None]:
    """Run a block whose standard error also goes to `log`, as far as to what C libraries write.

    An `InputError`, or what the machine refuses, ends the process with status 1 after one line on
    standard error; any other exception passes, with its traceback.
    """
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    terminal = os.dup(2)
    tee = subprocess.Popen(["tee", str(log)], stdin=subprocess.PIPE, stdout=terminal)
    assert tee.stdin is not None
    os.dup2(tee.stdin.fileno(), 2)
    try:
        yield
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        tee.stdin.close()
        tee.wait()
