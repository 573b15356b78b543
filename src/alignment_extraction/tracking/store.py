"""The objects that DVC keeps, in its cache or a store in a folder: are they what they are named?

DVC names an object by the MD5 of its bytes, but takes one that lies in the cache read-only, as all
do, for whole without reading it. So a damaged object would be checked out without a word.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from alignment_extraction.files import InputError


class DamagedObject(NamedTuple):
    """An object whose bytes are not those that its name promises."""

    path: Path
    expected: str
    """MD5 in hex, its name."""
    found: str
    """MD5 of its bytes."""
    files: tuple[Path, ...]
    """Files of the working directory that dvc.lock says it belongs to."""


def damaged_objects(stores: Sequence[Path], lock: Path) -> list[DamagedObject]:
    """Read every object of the stores and give those that are damaged, sorted by path.

    Args:
        stores: folders with DVC's layout `files/md5/ab/cdef...`, such as `.dvc/cache`.
        lock: dvc.lock, which says what belongs to which file.

    Raises:
        InputError: a store is not there, or dvc.lock is not readable.
    """
    for store in stores:
        if not store.is_dir():
            raise InputError(f"{store}: no such folder; name a folder that DVC keeps objects in")
    objects = [
        (path, f"{path.parent.name}{path.name}")
        for store in stores
        for path in sorted(store.glob("files/md5/??/*"))
    ]
    wrong = [
        (path, name.removesuffix(".dir"), found)
        for path, name in objects
        if (found := md5(path)) != name.removesuffix(".dir")
    ]
    if not wrong:
        return []
    owners = _owners(lock, stores)
    return [
        DamagedObject(path, expected, found, tuple(owners.get(expected, ())))
        for path, expected, found in wrong
    ]


def remove(damaged: DamagedObject) -> list[Path]:
    """Remove an object and the files that were checked out from it, so that a pull brings both.

    A file of the working directory that has other bytes than the damaged object stays.

    Returns:
        What was removed.
    """
    copies = [path for path in damaged.files if path.is_file() and md5(path) == damaged.found]
    for path in (removed := [damaged.path, *copies]):
        path.unlink()
    return removed


def md5(path: Path) -> str:
    """The MD5 of a file, in hex: the name under which DVC keeps it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _owners(lock: Path, stores: Sequence[Path]) -> dict[str, list[Path]]:
    """Files of the working directory by the MD5 that dvc.lock gives them."""
    try:
        stages = yaml.safe_load(lock.read_text())["stages"]
        outs = [out for stage in stages.values() for out in stage.get("outs", ())]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{lock}: not a readable dvc.lock ({error}); restore it from git"
        ) from None
    owners: dict[str, list[Path]] = {}
    for out in outs:
        name, path = str(out["md5"]), Path(out["path"])
        owners.setdefault(name.removesuffix(".dir"), []).append(path)
        for store in stores:
            listing = store / "files" / "md5" / name[:2] / name[2:]
            if name.endswith(".dir") and listing.exists():
                try:
                    entries = json.loads(listing.read_text())
                except ValueError:
                    continue  # the listing itself is damaged, and among those found
                for entry in entries:
                    owners.setdefault(entry["md5"], []).append(path / entry["relpath"])
                break
    return owners
