"""GGUF files that are not one whole model: split ones, adapters, and those of other kinds."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

ALPHA, RANK = 8.0, 2


def copy_entries(reader: Any, writer: Any) -> None:
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            inner = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], inner)


def write_split(path: Path, stem: Path, tensors: int = 8) -> list[Path]:
    """The model at `path` in files of so many tensors, written by gguf's own writer."""
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(f"{stem}.gguf", "llama", split_max_tensors=tensors)
    copy_entries(reader, writer)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    finish(writer)
    return sorted(stem.parent.glob(f"{stem.name}-*-of-*.gguf"))


def write_adapter(
    path: Path, base: Path, matrices: tuple[str, ...] = ("attn_q", "ffn_down"), seed: int = 0
) -> Path:
    """A LoRA adapter of two matrices of each layer, with random weights."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    for tensor in gguf.GGUFReader(base).tensors:
        if any(name in tensor.name for name in matrices):
            columns, rows = (int(size) for size in tensor.shape)
            for name, shape in (("lora_a", (RANK, columns)), ("lora_b", (rows, RANK))):
                data = (rng.standard_normal(shape) * 0.2).astype(np.float32)
                writer.add_tensor(f"{tensor.name}.{name}", data)
    finish(writer)
    return path


def write_kind(
    path: Path, architecture: str, entries: dict[str, Any], tensors: tuple[str, ...]
) -> Path:
    """A GGUF of some kind: texts, numbers and switches, and small tensors of these names."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in entries.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string}[type(value)]
        add(key, value)
    for name in tensors:
        writer.add_tensor(name, np.zeros((4, 4), np.float32))
    finish(writer)
    return path


def finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
