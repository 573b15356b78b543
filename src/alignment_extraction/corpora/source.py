"""The sources of a corpus: settings of each, and the files that it consists of."""

import glob
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from alignment_extraction.corpora.conversations import Turns
from alignment_extraction.corpora.formats import FileFormat
from alignment_extraction.corpora.hub_data import hub_data, hub_files, matching_files
from alignment_extraction.files import InputError
from alignment_extraction.models.hub import HubName, Revision
from alignment_extraction.models.lock import (
    LOCK,
    LockedSource,
    check_lock,
    listing_sha256,
    locked_commit,
)
from alignment_extraction.vocabulary import Role, group_name


class GeneratedData(BaseModel):
    """Problems of one reasoning-gym data set; a bare number is the size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: PositiveInt = Field(description="number of problems")
    options: dict[str, Any] = Field({}, description="settings of the data set, as it names them")

    @model_validator(mode="before")
    @classmethod
    def _size_alone(cls, value: Any) -> Any:
        return {"size": value} if isinstance(value, int) else value


class CorpusSource(BaseModel):
    """One data set: files on disk, files of a hub repository, or generated problems."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")] = Field(
        description="what results call it; first part of its rows' ids"
    )
    format: FileFormat | Literal["reasoning-gym"] = Field(
        "auto", description="how a row is written; by default its keys tell"
    )
    question_field: str | None = Field(
        None, min_length=1, description="the key of the question, dotted where it lies deeper"
    )
    answer_field: str | None = Field(
        None, min_length=1, description="the key of the answer, dotted where it lies deeper"
    )
    turns: Turns = Field(
        "first", description="user turns that are rows: the first, or all, each with its reply"
    )
    allow_rejects: bool = Field(
        False, description="go on where more than half of the rows cannot be used"
    )
    role: Role = Field(description="what is known of its part in the target's training")
    path: str | None = Field(
        None,
        min_length=1,
        description="a file or glob (.jsonl, .json, .csv, .tsv, .parquet; also .gz, .zst), or"
        " hf:owner/name[:config][@revision][/split]",
    )
    hf: HubName | None = Field(None, description="a hub data set, `owner/name`")
    revision: Revision | None = Field(
        None, description="with `hf`: the commit, or a branch or tag, pinned by sources.lock.yaml"
    )
    files: str | None = Field(None, min_length=1, description="with `hf`: glob of the files in it")
    datasets: dict[str, GeneratedData] = Field(
        {}, description="with format `reasoning-gym`: data sets and their sizes"
    )
    rows: PositiveInt | None = Field(
        None, description="rows that it has, for `plan`, where it is not there yet"
    )
    limit: PositiveInt | None = Field(None, description="rows read, from the first; all by default")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.format != "auto" and (self.format == "reasoning-gym") != bool(self.datasets):
            raise ValueError("format `reasoning-gym` and `datasets` go together")
        if self.path and self.path.startswith("hf:"):
            hub_data(self.path)
        if sum((self.path is not None, self.hf is not None, bool(self.datasets))) != 1:
            raise ValueError("give exactly one of `path`, `hf` and `datasets`")
        if self.hf and not (self.revision and self.files):
            raise ValueError(
                "`hf` needs `revision`, a commit (40 hex digits) or branch, and `files`, a glob"
            )
        if not self.hf and (self.revision or self.files):
            raise ValueError("`revision` and `files` go with `hf` alone")
        if self.datasets and self.limit:
            raise ValueError("`limit` is for files; `datasets` has sizes of its own")
        return self

    @property
    def group(self) -> str:
        """What its rows are called together: its name and their role."""
        return group_name(self.name, self.role)

    @property
    def id_prefix(self) -> str:
        """The first part of its rows' ids: members keep theirs where other roles come to them."""
        return self.name if self.role in ("member", "unknown") else self.group

    def local_files(self) -> list[Path]:
        """Files that `path` names, in order of their names; none without one on this machine.

        Raises:
            InputError: a glob that matches nothing.
        """
        if not self.path or self.path.startswith("hf:"):
            return []
        # What is there under that very name is no pattern, whatever characters it has.
        if Path(self.path).is_file() or not glob.has_magic(self.path):
            return [Path(self.path)]
        found = [Path(name) for name in sorted(glob.glob(self.path, recursive=True))]  # noqa: PTH207
        files = [path for path in found if path.is_file()]
        if not files:
            raise InputError(f"{self.path}: matches no file; correct path of source {self.name}")
        return files


def source_files(source: CorpusSource, lock: Path = LOCK) -> list[tuple[str, Path]]:
    """Every file of a source with the name that its rejected rows are listed under.

    Args:
        source: not of generated problems.
        lock: the file that pins what comes from the hub (see `models.lock`).

    Raises:
        InputError: nothing matches, or it cannot be downloaded, or it is not what the lock pins.
    """
    if source.hf:
        repo, revision = source.hf, str(source.revision)
        name = f"dataset {repo}@{revision}:{source.files}"
    elif source.path and source.path.startswith("hf:"):
        data = hub_data(source.path)
        repo, revision, name = data.repo, data.revision, f"dataset {source.path}"
    else:
        return [(str(path), path) for path in source.local_files()]
    commit = locked_commit(lock, name, repo, revision, "dataset")
    found = (
        matching_files(repo, commit, [str(source.files)]) if source.hf else hub_files(data, commit)
    )
    if not found:
        raise InputError(
            f"{repo}: files {source.files!r} matches nothing in it; correct files of source "
            f"{source.name}"
        )
    check_lock(lock, name, LockedSource(commit, listing_sha256(found)))
    return found
