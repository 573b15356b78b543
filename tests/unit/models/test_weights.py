"""Pickled weights: made into safetensors, and never run."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from alignment_extraction.files import InputError, sha256
from alignment_extraction.models.sources import PinnedSource
from alignment_extraction.models.steps import fetch_checked, without_pickles
from alignment_extraction.search.embedding import Embedder
from tests.workflow.project import write_embedder


class Program:
    """What a hostile pickle does when it is read."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.made,)


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_embedder(tmp_path_factory.mktemp("embedder") / "safe")


@pytest.fixture
def pickled(safe: Path, tmp_path: Path) -> Path:
    """The same embedder as its weights were shipped years ago."""
    folder = tmp_path / "pickled"
    shutil.copytree(safe, folder)
    (path,) = folder.rglob("model.safetensors")
    torch.save(load_file(path), path.with_name("pytorch_model.bin"))
    path.unlink()
    return folder


def test_the_vectors_stay_the_same(safe: Path, pickled: Path) -> None:
    with pytest.raises(InputError, match="weights as a pickle"):
        Embedder(pickled)
    without_pickles(pickled)
    assert not list(pickled.rglob("*.bin"))
    texts = ["one", "another"]
    np.testing.assert_array_equal(Embedder(pickled).embed(texts), Embedder(safe).embed(texts))


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_program_is_not_run(pickled: Path, tmp_path: Path, protocol: int) -> None:
    (path,) = pickled.rglob("pytorch_model.bin")
    mark = tmp_path / "was-run"
    path.write_bytes(pickle.dumps({"weight": Program(mark)}, protocol))
    with pytest.raises(InputError, match=r"pytorch_model\.bin: not weights and nothing else"):
        without_pickles(pickled)
    assert not mark.exists()


def test_other_things_than_tensors_are_refused(pickled: Path) -> None:
    (path,) = pickled.rglob("pytorch_model.bin")
    torch.save({"weight": [1, 2]}, path)
    with pytest.raises(InputError, match="not weights and nothing else"):
        without_pickles(pickled)


def test_fetch_converts(pickled: Path, tmp_path: Path) -> None:
    output = tmp_path / "fetched"
    fetch_checked(PinnedSource(path=str(pickled), sha256=sha256(pickled)), output)
    assert list(output.rglob("model.safetensors"))
    assert not list(output.rglob("pytorch_model.bin"))
