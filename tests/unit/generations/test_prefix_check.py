"""Prefixes of params.yaml against models on disk."""

import shutil
from pathlib import Path

import pytest

from alignment_extraction.files import InputError
from alignment_extraction.generations.prefix import check_prefixes
from alignment_extraction.settings.config import ModelSettings, Params
from alignment_extraction.settings.studies import StudySettings
from tests.tiny_models import make_tiny_gguf

PLAIN = {"name": "mine", "text": "Hello"}


def params(*prefixes: object, conditions: object = ()) -> Params:
    study = StudySettings.model_validate(
        {
            "title": "x",
            "models": ["m", "plain"],
            "corpus": "c",
            "embedder": "e",
            "prefixes": prefixes,
            "conditions": conditions,
        }
    )
    source = {"path": "m.gguf", "sha256": "0" * 64}
    models = {name: ModelSettings.model_validate({"source": source}) for name in ("m", "plain")}
    return Params.model_construct(run=("x",), studies={"x": study}, models=models)


@pytest.fixture
def here(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that has a chat template and one that has none."""
    monkeypatch.chdir(tmp_path)
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    shutil.copy(tiny_path, models / "m.gguf")
    make_tiny_gguf(models / "plain.gguf", chat_template=None)
    return models


def test_derivable_prefixes_pass(here: Path) -> None:
    (here / "plain.gguf").unlink()
    check_prefixes(params("full", "user", "bos", "none", PLAIN))


def test_models_are_checked_with_the_prefixes_that_they_are_sampled_at(here: Path) -> None:
    """A model without a template at `none` is right; at `user` it is not."""
    sampled = [
        {"models": ["m"], "prefixes": ["user"]},
        {"models": ["plain"], "prefixes": ["none"]},
    ]
    check_prefixes(params("user", "none", conditions=sampled))
    with pytest.raises(InputError, match=r"params.yaml: studies.x.prefixes.0: .*no chat template"):
        check_prefixes(params("user", "none"))
