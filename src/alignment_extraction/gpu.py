"""Which GPU there is for a step that can use one; where there is none, it says so."""

import logging

_logger = logging.getLogger(__name__)


def torch_device(work: str) -> str:
    """The device of PyTorch for `work`: "cuda", or "cpu" with a warning."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    _logger.warning("no GPU that PyTorch can use: %s on the CPU, many times slower", work)
    return "cpu"


def usable_gpu_layers(wanted: int) -> int:
    """`wanted`, layers to put on a GPU; 0 with a warning where llama.cpp has none to use."""
    import llama_cpp

    if wanted == 0 or llama_cpp.llama_supports_gpu_offload():
        return wanted
    _logger.warning(
        "gpu_layers is %d, but llama.cpp was built without GPU support or finds no GPU: running on "
        "the CPU, many times slower (`make environment GPU=1` builds it with CUDA)",
        wanted,
    )
    return 0
