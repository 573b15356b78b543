"""GGUF models made whole: the parts of a split one, a base model and its LoRA adapter."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alignment_extraction.files import InputError
from alignment_extraction.models.gguf_file import open_gguf, part_files, value


def merge_parts(parts: Sequence[Path], output: Path) -> None:
    """Write the parts of a split model as one GGUF, with the same entries and tensors.

    Raises:
        InputError: a part is no GGUF, or cut off.
    """
    _write(output, [open_gguf(part) for part in parts], {})


def merge_adapter(base: Path, adapter: Path, output: Path) -> None:
    """Write a model with a LoRA adapter in it: W + alpha / rank x B A (Hu et al. 2021).

    The matrices that the adapter changes are written in 16-bit floats, or in 32-bit ones where the
    base has these or bfloat16; the others stay as they are, quantised or not.

    Args:
        base: GGUF of the model that the adapter was trained on; of a split one, any part.
        adapter: GGUF of the adapter, as llama.cpp's convert_lora_to_gguf.py writes it.
        output: the GGUF to write.

    Raises:
        InputError: either is no GGUF, `adapter` is no LoRA adapter, or of another model.
    """
    readers = [open_gguf(part) for part in part_files(base)]
    lora = open_gguf(adapter)
    if value(lora, "general.type") != "adapter" or value(lora, "adapter.type") != "lora":
        raise InputError(
            f"{adapter}: no LoRA adapter in GGUF; give what convert_lora_to_gguf.py of llama.cpp "
            "makes of one"
        )
    if "adapter.alora.invocation_tokens" in lora.fields:
        raise InputError(f"{adapter}: an adapter that some tokens switch on (aLoRA); give a LoRA")
    kinds = [str(value(one, "general.architecture")) for one in (lora, readers[0])]
    matrices = {tensor.name: tensor for tensor in lora.tensors}
    tensors = {tensor.name: tensor for reader in readers for tensor in reader.tensors}
    stems = {name.rsplit(".lora_", 1)[0] for name in matrices}
    if kinds[0] != kinds[1] or not stems <= set(tensors):
        raise InputError(
            f"{adapter}: an adapter of another model ({kinds[0]}; {base} is {kinds[1]} and has not "
            "all matrices that it changes); name the model that it was trained on"
        )
    alpha = float(value(lora, "adapter.lora.alpha") or 0)
    changed = {}
    for name in stems:
        a, b = matrices.get(f"{name}.lora_a"), matrices.get(f"{name}.lora_b")
        if a is None or b is None:
            raise InputError(f"{adapter}: half of the pair for {name} is missing; convert it again")
        changed[name] = _adapted(tensors[name], a, b, alpha, adapter)
    _write(output, readers, changed)


def _adapted(tensor: Any, a: Any, b: Any, alpha: float, adapter: Path) -> Callable[[], Any]:
    """A function that computes the changed matrix, float32, when its turn comes."""
    from gguf import quants

    shape = _shape(tensor)
    left, right = (quants.dequantize(m.data, m.tensor_type) for m in (b, a))
    # Of an embedding, which is looked up by row, llama.cpp keeps A transposed.
    if right.shape[-1] != shape[-1]:
        left, right = right, left.swapaxes(-1, -2)
    rank = left.shape[-1]
    if (*left.shape[:-1], right.shape[-1]) != shape or right.shape[-2] != rank:
        raise InputError(
            f"{adapter}: its change of {tensor.name} has another shape than the model's matrix; "
            "name the model that it was trained on"
        )

    def make() -> Any:
        weights = quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        change = left.astype(np.float32) @ right.astype(np.float32)
        return weights + (alpha / rank if alpha else 1.0) * change

    return make


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in reversed(tensor.shape))


def _write(output: Path, readers: Sequence[Any], changed: Mapping[str, Callable[[], Any]]) -> None:
    """Write a GGUF with the first reader's entries and all tensors, one in memory at a time."""
    from gguf import GGMLQuantizationType as Kind
    from gguf import GGUFValueType, GGUFWriter

    writer = GGUFWriter(output, str(value(readers[0], "general.architecture")))
    for name, field in readers[0].fields.items():
        if name.startswith(("GGUF.", "split.")) or name == "general.architecture":
            continue
        if name == "general.alignment":
            writer.add_custom_alignment(int(field.contents()))
            continue
        array = field.types[0] == GGUFValueType.ARRAY
        inner = field.types[-1] if array else None
        writer.add_key_value(name, field.contents(), field.types[0], inner)
    tensors = [tensor for reader in readers for tensor in reader.tensors]
    types = {}
    for tensor in tensors:
        kind, data = tensor.tensor_type, tensor.data
        shape, dtype, size = data.shape, data.dtype, data.nbytes
        if tensor.name in changed:
            wide = kind in (Kind.F32, Kind.BF16)
            kind, dtype = (Kind.F32, np.dtype("f4")) if wide else (Kind.F16, np.dtype("f2"))
            shape = _shape(tensor)
            size = int(np.prod(shape)) * dtype.itemsize
        types[tensor.name] = dtype
        writer.add_tensor_info(tensor.name, shape, dtype, size, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        make = changed.get(tensor.name)
        writer.write_tensor_data(make().astype(types[tensor.name]) if make else tensor.data)
    writer.close()
