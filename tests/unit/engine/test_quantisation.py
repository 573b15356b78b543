"""Weights in other forms: the same bytes each time, and nearly the same model."""

from pathlib import Path

import numpy as np
import pytest

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.quantisation import FTYPES, quantise
from alignment_extraction.engine.scoring import score
from alignment_extraction.files import InputError
from tests.tiny_models import make_tiny_gguf


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forms")
    return make_tiny_gguf(folder / "f16.gguf", seed=3, hidden=256, half=True)


def test_a_finer_form_changes_less(source: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [([1], rng.integers(3, 512, 30).tolist()) for _ in range(8)]
    found = {}
    for kind in FTYPES:
        quantise(source, tmp_path / f"{kind}.gguf", kind, threads=1)
        with Model(tmp_path / f"{kind}.gguf", threads=1) as model:
            found[kind] = score(model, texts).log_probabilities
    changes = {kind: np.abs(values - found["F16"]).mean() for kind, values in found.items()}
    assert 0 < changes["Q8_0"] < 0.2 * changes["Q4_K_M"]


def test_quantising_again_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    quantise(source, tmp_path / "q4.gguf", "Q4_K_M", threads=1)
    for name, threads in (("one", 1), ("two", 2)):
        quantise(tmp_path / "q4.gguf", tmp_path / name, "Q8_0", threads=threads)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_cannot_be_quantised(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="quantisation Q9 is unknown; use one of F16, BF16, Q8_0"):
        quantise(source, tmp_path / "out.gguf", "Q9")
    with pytest.raises(InputError, match=r"none\.gguf: llama\.cpp could not quantise it"):
        quantise(tmp_path / "none.gguf", tmp_path / "out.gguf", "Q8_0")
    assert not (tmp_path / "out.gguf").exists()
