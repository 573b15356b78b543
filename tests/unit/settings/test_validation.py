"""Prefixes of params.yaml against models on disk."""

from pathlib import Path

import pytest

from alignment_extraction.files import InputError
from alignment_extraction.settings.config import Params
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.settings.validation import check_prefixes
from tests.tiny_models import make_tiny_gguf


def params(*prefixes: object) -> Params:
    study = StudySettings.model_validate(
        {"title": "x", "models": ["m"], "corpus": "c", "embedder": "e", "prefixes": prefixes}
    )
    return Params.model_construct(run=("x",), studies={"x": study})


def test_derivable_prefixes_pass(tiny_path: Path) -> None:
    literal = {"name": "mine", "text": "<|im_start|>"}
    check_prefixes(params("full", "user", "bos", "none", literal), lambda _: tiny_path)


def test_a_model_that_is_not_there_yet_is_left_out(tmp_path: Path) -> None:
    check_prefixes(params("user"), lambda _: tmp_path / "later.gguf")


def test_the_key_is_named(tmp_path: Path) -> None:
    plain = make_tiny_gguf(tmp_path / "plain.gguf", chat_template=None)
    with pytest.raises(InputError, match=r"params.yaml: studies.x.prefixes.1: .*no chat template"):
        check_prefixes(params({"name": "mine", "text": "Hello"}, "user"), lambda _: plain)
