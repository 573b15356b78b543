"""GGUF files: whether one is a whole language model, and the parts of a split one.

What llama.cpp cannot sample from is refused here in a sentence that says what it is, before a
loader that may die of it sees the file.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from alignment_extraction.files import InputError, listing_sha256, sha256

_PART = re.compile(r"(?P<stem>.*)-\d{5}-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_ENCODERS = re.compile(r".*bert.*|t5encoder|gemma-embedding|llama-embed|pangu-embed", re.IGNORECASE)
LONE_ADAPTER = "a LoRA adapter without its base; name the model that it was trained on: --base"
"""What an adapter alone is told."""
_MERGE = "llama-gguf-split --merge FIRST-PART MERGED.gguf"


def open_gguf(path: Path) -> Any:
    """A reader of the file's header and tensors.

    Raises:
        InputError: not a GGUF file, cut off or damaged.
    """
    from gguf import GGUFReader

    class Reader(GGUFReader):  # type: ignore[misc]
        """GGUFReader itself reads on past the end of a file, without an error."""

        def _get(self, offset: int, dtype: Any, count: int = 1, *rest: Any, **named: Any) -> Any:
            if offset + int(count) * np.dtype(dtype).itemsize > len(self.data):
                raise EOFError(f"{len(self.data)} bytes are fewer than it promises")
            return super()._get(offset, dtype, count, *rest, **named)

    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); fetch it first") from None
    if start[:4] != b"GGUF":
        raise InputError(f"{path}: not a GGUF file (it does not start with the bytes GGUF)")
    if start[4:7] == b"\0\0\0" and len(start) == 8:
        raise InputError(
            f"{path}: a big-endian GGUF, for other processors; fetch the little-endian one, or "
            "turn it with gguf_convert_endian.py of llama.cpp"
        )
    try:
        return Reader(path)
    # Of recursion, where arrays lie within arrays.
    except (EOFError, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"{path}: a cut-off or damaged GGUF file ({error}); fetch it again"
        ) from error


def value(reader: Any, key: str) -> Any:
    """An entry of a header; None where it has none, or one that cannot be read."""
    field = reader.fields.get(key)
    try:
        return None if field is None else field.contents()
    except (ValueError, IndexError, TypeError, UnicodeDecodeError):
        return None


def check_gguf(path: Path) -> None:
    """Check that `path` is a whole GGUF file of a language model that can be sampled from.

    Of a split model one part will do whose other parts lie beside it.

    Raises:
        InputError: as `open_gguf`; an adapter, projector, importance matrix, vocabulary, encoder or
            embedding model; a part of a split model without the others.
    """
    parts = part_files(path)
    readers = [open_gguf(part) for part in parts]
    if what := _unlike_a_model(readers[0]):
        raise InputError(f"{path}: {what}")
    count = value(readers[0], "split.count")
    if isinstance(count, int) and count > 1 and count != len(parts):
        raise InputError(
            f"{path}: one of {count} parts of a split GGUF, under another name; give all parts "
            f"their names NAME-00001-of-{count:05d}.gguf back, or merge them: {_MERGE}"
        )


def is_adapter(path: Path) -> bool:
    """Whether it is a LoRA adapter in GGUF; raises as `open_gguf`."""
    return bool(value(open_gguf(path), "general.type") == "adapter")


def _unlike_a_model(reader: Any) -> str | None:
    """What a GGUF is that no text can be drawn from, and what would do."""
    kind = str(value(reader, "general.type") or "model").lower()
    architecture = str(value(reader, "general.architecture") or "").lower()
    names = {tensor.name for tensor in reader.tensors}
    causal = value(reader, f"{architecture}.attention.causal")
    pooling = value(reader, f"{architecture}.pooling_type")
    embeds = _ENCODERS.fullmatch(architecture) or (isinstance(pooling, int) and pooling > 0)
    decodes = any(name.startswith("enc.") for name in names) and architecture != "t5encoder"
    if kind == "adapter" or any(name.endswith((".lora_a", ".lora_b")) for name in names):
        return LONE_ADAPTER
    if kind == "mmproj" or architecture == "clip":
        what = "a projector of images or sound (mmproj), no language model"
    elif kind == "imatrix" or any(name.endswith(".in_sum2") for name in names):
        what = "an importance matrix for quantising (imatrix), no model"
    elif not names:
        what = "a GGUF file without tensors, a vocabulary alone"
    elif decodes:
        what = f"an encoder-decoder model ({architecture}), which answers a text"
    elif embeds:
        what = f"an embedding model or encoder ({architecture}), which writes no text"
    elif causal is False:
        what = f"an encoder or diffusion model ({architecture}: attention is not causal)"
    else:
        return None
    return f"{what}; give a language model that predicts the next token"


def part_files(path: Path) -> list[Path]:
    """The files of a split model of which `path` is one, in order; `path` alone where it is whole.

    Raises:
        InputError: a part is missing.
    """
    names = part_names(path.name)
    if len(names) == 1 or not path.exists():
        return [path]
    parts = [path.with_name(name) for name in names]
    if missing := [part.name for part in parts if not part.is_file()]:
        number = parts.index(path) + 1 if path in parts else "one"
        raise InputError(
            f"{path}: part {number} of {len(parts)} of a split GGUF, and {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not beside it; fetch all parts into one "
            f"folder, or give the merged model ({_MERGE})"
        )
    return parts


def pinned_sha256(path: Path) -> str:
    """The SHA-256 that pins a GGUF; of a split one, of all its parts. Raises as `part_files`."""
    parts = part_files(path)
    return sha256(path) if len(parts) == 1 else listing_sha256([(p.name, p) for p in parts])


def part_names(name: str) -> list[str]:
    """The names of all parts of a split model of which `name` is one; it alone where it is not."""
    found = _PART.fullmatch(name)
    if not found or not 0 < int(found["count"]) < 1000:
        return [name]
    count = int(found["count"])
    return [f"{found['stem']}-{i:05d}-of-{count:05d}.gguf" for i in range(1, count + 1)]
