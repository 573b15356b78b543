"""Damaged objects in a real DVC cache."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from alignment_extraction.files import InputError
from alignment_extraction.tracking.store import damaged_objects, remove


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a repository with a folder of three files; dvc.lock as a stage has it."""
    monkeypatch.chdir(tmp_path)
    data = Path("data")
    data.mkdir()
    for name in ("a", "b", "c"):
        (data / name).write_text(f"file {name}\n")
    with Repo.init(no_scm=True) as repo:
        repo.add("data")
    out = yaml.safe_load(Path("data.dvc").read_text())["outs"][0]
    Path("dvc.lock").write_text(json.dumps({"stages": {"s": {"outs": [out]}}}))
    return Path(".dvc/cache")


def object_of(cache: Path, file: Path) -> Path:
    wanted = file.read_bytes()
    return next(p for p in cache.glob("files/md5/??/*") if p.read_bytes() == wanted)


def damage(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_damaged_object_is_named_with_its_file_and_removed(cache: Path) -> None:
    lock = Path("dvc.lock")
    assert damaged_objects([cache], lock) == []
    path = object_of(cache, Path("data/b"))
    damage(path, b"broken")
    Path("data/b").write_bytes(b"broken")  # as a checkout would
    (found,) = damaged_objects([cache], lock)
    assert found.path == path
    assert found.expected == path.parent.name + path.name
    assert found.files == (Path("data/b"),)
    assert remove(found) == [path, Path("data/b")]
    assert sorted(p.name for p in Path("data").iterdir()) == ["a", "c"]
    assert damaged_objects([cache], lock) == []


def test_a_file_of_ones_own_is_left_alone(cache: Path) -> None:
    path = object_of(cache, Path("data/b"))
    damage(path, b"broken")
    (found,) = damaged_objects([cache], Path("dvc.lock"))
    assert remove(found) == [path]
    assert Path("data/b").read_text() == "file b\n"


def test_a_damaged_listing_is_named_by_its_folder(cache: Path) -> None:
    listing = next(cache.glob("files/md5/??/*.dir"))
    damage(listing, b"[")
    (found,) = damaged_objects([cache], Path("dvc.lock"))
    assert (found.path, found.files) == (listing, (Path("data"),))


def test_a_truncated_and_an_empty_object_are_found(cache: Path) -> None:
    for name, content in (("a", b""), ("c", b"file")):
        damage(object_of(cache, Path("data") / name), content)
    found = damaged_objects([cache], Path("dvc.lock"))
    assert {item.files for item in found} == {(Path("data/a"),), (Path("data/c"),)}


def test_what_is_not_there_is_refused(cache: Path) -> None:
    with pytest.raises(InputError, match="nothing: no such folder"):
        damaged_objects([Path("nothing")], Path("dvc.lock"))
    damage(object_of(cache, Path("data/a")), b"broken")
    with pytest.raises(InputError, match=r"none: not a readable dvc\.lock"):
        damaged_objects([cache], Path("none"))
    shutil.copy("data.dvc", "dvc.lock")
    with pytest.raises(InputError, match="restore it from git"):
        damaged_objects([cache], Path("dvc.lock"))
