"""The sources of a corpus: settings of each, and the files that it consists of."""

import glob
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from alignment_extraction.corpora.conversations import Turns
from alignment_extraction.corpora.hub_data import HubData, hub_data, hub_files
from alignment_extraction.files import InputError, listing_sha256
from alignment_extraction.models.hub import HubName, Revision
from alignment_extraction.models.lock import LOCK, LockedSource, check_lock, locked_commit
from alignment_extraction.vocabulary import Role, group_name


class CorpusSource(BaseModel):
    """One data set: files on disk, or files of a hub repository."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")] = Field(
        description="what results call it; first part of its rows' ids"
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
    template: str | None = Field(
        None, min_length=1, description="what kind its rows are of; members are compared within it"
    )
    template_field: str | None = Field(
        None,
        pattern=r'^[^"\\]+$',
        description="the key of each row's kind, in place of one for all",
    )
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
    rows: PositiveInt | None = Field(
        None, description="rows that it has, for `plan`, where it is not there yet"
    )
    limit: PositiveInt | None = Field(None, description="rows read, from the first; all by default")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.path is None) == (self.hf is None):
            raise ValueError("give exactly one of `path` and `hf`")
        if self.hf and not (self.revision and self.files):
            raise ValueError(
                "`hf` needs `revision`, a commit (40 hex digits) or branch, and `files`, a glob"
            )
        if not self.hf and (self.revision or self.files):
            raise ValueError("`revision` and `files` go with `hf` alone")
        if self.template and self.template_field:
            raise ValueError("give one of `template`, of all rows, and `template_field`, a key")
        _ = self.hub
        return self

    @property
    def group(self) -> str:
        """What its rows are called together: its name and their role."""
        return group_name(self.name, self.role)

    @property
    def id_prefix(self) -> str:
        """The first part of its rows' ids: members keep theirs where other roles come to them."""
        return self.name if self.role in ("member", "unknown") else self.group

    @property
    def hub(self) -> HubData | None:
        """What it is of the hub; None for data of this machine."""
        if self.hf:
            return HubData(self.hf, None, str(self.revision), None, self.files)
        return hub_data(self.path) if self.path and self.path.startswith("hf:") else None

    def local_files(self) -> list[Path]:
        """Files that `path` names, in order of their names; none without one on this machine.

        Raises:
            InputError: a glob that matches nothing.
        """
        if not self.path or self.hub:
            return []
        # What is there under that very name is no pattern, whatever characters it has.
        if Path(self.path).is_file() or not glob.has_magic(self.path):
            return [Path(self.path)]
        found = [Path(name) for name in sorted(glob.glob(self.path, recursive=True))]  # noqa: PTH207
        files = [path for path in found if path.is_file()]
        if not files:
            raise InputError(f"{self.path}: matches no file; correct path of source {self.name}")
        return files


def source_files(source: CorpusSource) -> list[tuple[str, Path]]:
    """Every file of a source with the name that its rejected rows are listed under.

    The lock (see `models.lock`) pins what comes from the hub.

    Raises:
        InputError: nothing matches, or it cannot be downloaded, or it is not what the lock pins.
    """
    data = source.hub
    if data is None:
        return [(str(path), path) for path in source.local_files()]
    name = f"dataset {source.path or f'{data.repo}@{data.revision}:{data.files}'}"
    commit = locked_commit(LOCK, name, data.repo, data.revision, "dataset")
    found = hub_files(data, commit)
    check_lock(LOCK, name, LockedSource(commit, listing_sha256(found)))
    return found
