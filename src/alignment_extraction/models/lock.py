"""The lock file: what came from the hub at the first download, so that nothing else comes later.

The first download records commit and hash in a YAML file that belongs into version control; every
later one, on any machine, takes the recorded commit and must get the recorded bytes.

    model owner/name@main:model.gguf: {commit: 0123..., sha256: 4567...}
"""

from pathlib import Path
from typing import NamedTuple

import yaml
from filelock import FileLock

from alignment_extraction.files import InputError, atomic_path
from alignment_extraction.models.hub import RepoType, is_commit, look_up

LOCK = Path("sources.lock.yaml")
"""Beside params.yaml."""
_HEADER = """\
# What the first download of each source from the hub got; later downloads are checked against it.
# Commit this file. To take a source anew, delete its line.
"""


class LockedSource(NamedTuple):
    """A source of the hub as it was downloaded: the commit, and `files.sha256` of its files."""

    commit: str
    sha256: str


def read_lock(path: Path) -> dict[str, LockedSource]:
    """The locked sources by name; none without the file.

    Raises:
        InputError: it is no lock file.
    """
    if not path.exists():
        return {}
    try:
        values = yaml.safe_load(path.read_text()) or {}
        return {name: LockedSource(**entry) for name, entry in values.items()}
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        message = " ".join(str(error).split())
        raise InputError(
            f"{path}: not a lock of sources ({message}); restore it from version control"
        ) from error


def locked_commit(path: Path, name: str, repo: str, revision: str, repo_type: RepoType) -> str:
    """The commit to download: `revision`, if it is one, or the locked one, or the branch's now.

    Raises as `read_lock` and `hub.look_up`.
    """
    if is_commit(revision):
        return revision
    known = read_lock(path).get(name)
    return known.commit if known else look_up(repo, revision, repo_type)[0]


def check_lock(path: Path, name: str, found: LockedSource) -> None:
    """Check what was downloaded against the lock; record it if it is the first.

    Raises:
        InputError: other bytes than at the first download, or see `read_lock`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several downloads may end at once, on several machines.
    with FileLock(path.with_name(f".{path.name}.lock")):
        entries = read_lock(path)
        known = entries.setdefault(name, found)
        if known != found:
            raise InputError(
                f"{name}: commit {found.commit} with sha256 {found.sha256} where {path} has commit "
                f"{known.commit} with sha256 {known.sha256}; it was cut off or altered, so fetch "
                "it again, or delete that line to take it anew"
            )
        with atomic_path(path) as partial:
            lines = {key: entries[key]._asdict() for key in sorted(entries)}
            partial.write_text(_HEADER + yaml.safe_dump(lines, width=1000))
