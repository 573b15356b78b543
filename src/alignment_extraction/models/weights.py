"""Weights of an embedder that are shipped as a pickle, made into safetensors without running it."""

import pickle
from pathlib import Path

from alignment_extraction.files import InputError, atomic_path


def without_pickles(folder: Path) -> None:
    """Put model.safetensors in the place of every pytorch_model.bin that has none beside it.

    PyTorch's unpickler reads tensors alone here (`weights_only`): of a pickle that asks for
    anything else nothing is run.

    Raises:
        InputError: a file holds more than tensors, or is damaged.
    """
    for path in sorted(folder.rglob("pytorch_model.bin")):
        target = path.with_name("model.safetensors")
        if not target.exists():
            _convert(path, target)
        path.unlink()


def _convert(path: Path, target: Path) -> None:
    # PyTorch takes seconds to import, and most embedders need no conversion.
    import torch
    from safetensors.torch import save_file

    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        # Tensors that share their memory would be refused.
        plain = {
            str(name): tensor.detach().clone().contiguous() for name, tensor in weights.items()
        }
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: no plain weights ({reason}); take a version with model.safetensors"
        ) from None
    except (AttributeError, TypeError):
        raise InputError(
            f"{path}: holds more than tensors; take a version with model.safetensors"
        ) from None
    with atomic_path(target) as partial:
        save_file(plain, partial, metadata={"format": "pt"})
