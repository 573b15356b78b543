"""Adapters of PEFT as GGUF: the merged model says what PEFT's says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.scoring import score
from alignment_extraction.files import InputError, sha256
from alignment_extraction.models.peft_adapter import convert_peft
from alignment_extraction.models.sources import PinnedSource
from alignment_extraction.models.steps import fetch_adapted
from alignment_extraction.training.gguf_export import load_model
from tests.tiny_models import make_tiny_gguf

TOKENS = [1, 40, 77, 300, 12, 401, 33, 8]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gguf(tmp_path_factory.mktemp("base") / "tiny.gguf", half=True)


def save(base: Path, folder: Path, **options: object) -> np.ndarray:
    """Save an adapter with random weights; gives the log-probabilities of TOKENS under it."""
    config = LoraConfig(
        r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM", **options
    )
    torch.manual_seed(0)
    adapted = get_peft_model(load_model(base), config)
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapted.save_pretrained(folder)
    with torch.no_grad():
        logits = adapted(torch.tensor([TOKENS])).logits[0, :-1]
    return logits.log_softmax(-1)[range(len(TOKENS) - 1), TOKENS[1:]].numpy()


def scores(path: Path) -> np.ndarray:
    with Model(path, threads=1) as model:
        return score(model, [(TOKENS[:1], TOKENS[1:])]).log_probabilities


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}])
def test_merged_model_agrees_with_peft(base: Path, tmp_path: Path, options: dict) -> None:
    expected = save(base, tmp_path / "peft", **options)
    source = PinnedSource(path=str(tmp_path / "peft"), sha256=sha256(tmp_path / "peft"))
    fetch_adapted(source, base, tmp_path / "merged.gguf")
    assert np.abs(scores(base) - expected).max() > 0.3
    assert scores(tmp_path / "merged.gguf") == pytest.approx(expected, abs=0.03)


def test_the_same_adapter_gives_the_same_bytes(base: Path, tmp_path: Path) -> None:
    save(base, tmp_path / "peft")
    for name in ("one", "two"):
        convert_peft(tmp_path / "peft", base, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_is_no_plain_lora_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no LoRA adapter of PEFT"):
        convert_peft(tmp_path, base, tmp_path / "out.gguf")
    save(base, tmp_path / "peft")
    config = tmp_path / "peft" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True}))
    with pytest.raises(InputError, match="more than a plain LoRA"):
        convert_peft(tmp_path / "peft", base, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
