"""A GPU that is asked for and not there: a warning, never silence."""

import llama_cpp
import pytest
import torch

from alignment_extraction.gpu import torch_device, usable_gpu_layers


def test_no_gpu_for_llama(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp, "llama_supports_gpu_offload", lambda: False)
    assert usable_gpu_layers(0) == 0
    assert not caplog.messages
    assert usable_gpu_layers(-1) == 0
    assert "gpu_layers is -1" in caplog.text
    monkeypatch.setattr(llama_cpp, "llama_supports_gpu_offload", lambda: True)
    caplog.clear()
    assert usable_gpu_layers(-1) == -1
    assert not caplog.messages


def test_no_gpu_for_pytorch(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch_device("embedding") == "cpu"
    assert "no GPU that PyTorch can use: embedding on the CPU, many times slower" in caplog.text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    caplog.clear()
    assert torch_device("embedding") == "cuda"
    assert not caplog.messages
