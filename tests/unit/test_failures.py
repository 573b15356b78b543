"""Full disks, read-only folders, too little memory, replaced models: one line that says what."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alignment_extraction.failures import explain
from alignment_extraction.files import InputError, sha256, unchanged, write_parquet
from alignment_extraction.generations.shards import read_shards

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_explained_whoever_notices_it() -> None:
    with pytest.raises(OSError) as of_python, FULL.open("w", buffering=1) as file:
        file.write("x" * 10**6)
    with pytest.raises(OSError) as of_numpy, FULL.open("wb") as file:
        np.save(file, np.zeros(10**6))
    with pytest.raises(Exception, match="os error 28") as of_polars:
        pl.DataFrame({"a": range(10**5)}).write_parquet(FULL)
    for failure in (of_python, of_numpy, of_polars):
        message = explain(failure.value)
        assert message is not None
        assert message.startswith("the disk is full: free some space, then run the same command")
        assert "\n" not in message


WRITE_EVERYWHERE = """
import resource, signal, sys
from pathlib import Path
import polars as pl
from alignment_extraction.failures import explain
from alignment_extraction.files import write_parquet
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, frame = Path(sys.argv[1]), pl.DataFrame({"a": range(40), "b": ["x"] * 40})
write_parquet(frame, path)
size = path.stat().st_size
path.unlink()
for limit in range(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_parquet(frame, path)
    except Exception as error:
        assert explain(error), (limit, size, error)
    else:
        raise AssertionError(limit)
    assert not any(path.parent.iterdir())
print(size)
"""


def test_a_file_cut_off_at_any_byte_is_explained(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    command = [sys.executable, "-c", WRITE_EVERYWHERE, str(tmp_path / "x.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 300


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EROFS, "Read-only file system"), "read-only: make it writable"),
        (PermissionError(errno.EACCES, "Permission denied"), "permission is denied"),
        (MemoryError(), "lower slots or batch_size"),
    ],
)
def test_other_refusals(error: BaseException, says: str) -> None:
    message = explain(error)
    assert message is not None
    assert says in message


def test_bad_input_is_its_own_explanation() -> None:
    assert explain(InputError("row 3: no question; give one")) == "row 3: no question; give one"


def test_bugs_are_not_explained_away() -> None:
    assert explain(ValueError("wrong")) is None
    assert explain(FileNotFoundError(errno.ENOENT, "no such file")) is None


STEP = """
import sys
from pathlib import Path
import polars as pl
from alignment_extraction.files import InputError, write_parquet
from alignment_extraction.step import step
with step(sys.argv[1]):
    print("working", file=sys.stderr)
    if sys.argv[2] == "input":
        raise InputError("row 3: no question; give one")
    if sys.argv[2] == "bug":
        raise ValueError("wrong")
    write_parquet(pl.DataFrame({"a": range(10**6)}), Path(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("target", "limit", "says"),
    [
        ("out.parquet", "1", "error: files may not grow so large here"),
        ("input", "unlimited", "error: row 3: no question; give one"),
    ],
)
def test_a_failed_step_says_so_in_one_line(
    tmp_path: Path, target: str, limit: str, says: str
) -> None:
    """A limit on the size of files stands in for a full disk: it needs no rights."""
    command = f"ulimit -f {limit}; trap '' XFSZ; exec {sys.executable} -c \"$0\" log {target}"
    done = subprocess.run(
        ["bash", "-c", command, STEP], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    first, *rest = done.stderr.splitlines()
    assert first == "working"
    assert len(rest) == 1 and rest[0].startswith(says), done.stderr
    assert (tmp_path / "log").read_text().splitlines()[0] == "working"
    assert {path.name for path in tmp_path.iterdir()} == {"log"}


def test_a_bug_in_a_step_keeps_its_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEP, "log", "bug"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "ValueError: wrong" in done.stderr


def test_a_model_other_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"one")
    pinned = sha256(path)
    with unchanged(path, pinned):
        pass
    path.write_bytes(b"two")
    refused = pytest.raises(InputError, match=r"where params\.yaml pins .*delete it and run again")
    with refused, unchanged(path, pinned):
        pytest.fail("the block must not be entered")


@pytest.mark.parametrize("renamed", [False, True])
def test_a_model_replaced_while_in_use_is_noticed(tmp_path: Path, renamed: bool) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"one")
    with pytest.raises(InputError, match="was replaced while it was in use"), unchanged(path):
        if renamed:
            shutil.copy2(path, tmp_path / "other.gguf")
            (tmp_path / "other.gguf").replace(path)
        else:
            path.write_bytes(b"three")


def test_shards_of_different_models_are_not_mixed(tmp_path: Path) -> None:
    frame = pl.DataFrame({"index": [0], "question": ["a"], "answer": [None]})
    paths = [tmp_path / f"{i:05d}.parquet" for i in range(3)]
    for path, model in zip(paths, ("x", "x", "y"), strict=True):
        write_parquet(frame, path, {"model_sha256": model})
    assert read_shards(paths[:2]).height == 2
    with pytest.raises(InputError, match=r"00002\.parquet: written by a model with sha256 y, but"):
        read_shards(paths)
