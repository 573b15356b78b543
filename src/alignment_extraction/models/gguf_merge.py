"""GGUF models made whole: the parts of a split one, a base model and its LoRA adapter."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alignment_extraction.files import InputError
from alignment_extraction.models.gguf_file import open_gguf, part_files, value


class _Planned(NamedTuple):
    """A tensor of a file that is to be written; its data are made when their turn comes."""

    name: str
    shape: tuple[int, ...]
    dtype: Any
    nbytes: int
    kind: Any
    make: Callable[[], Any]


def _as_it_is(tensor: Any) -> _Planned:
    data = tensor.data
    return _Planned(
        tensor.name, data.shape, data.dtype, data.nbytes, tensor.tensor_type, lambda: data
    )


def merge_parts(parts: Sequence[Path], output: Path) -> None:
    """Write the parts of a split model as one GGUF, with the same entries and tensors.

    Raises:
        InputError: a part is no GGUF, or cut off.
    """
    readers = [open_gguf(part) for part in parts]
    _write(output, readers[0], [_as_it_is(t) for reader in readers for t in reader.tensors])


def _write(output: Path, like: Any, tensors: Sequence[_Planned]) -> None:
    """Write a GGUF with the entries that `like` reads, one tensor in memory at a time."""
    from gguf import GGUFValueType, GGUFWriter

    writer = GGUFWriter(output, str(value(like, "general.architecture")))
    for name, field in like.fields.items():
        if name.startswith(("GGUF.", "split.")) or name == "general.architecture":
            continue
        if name == "general.alignment":
            writer.add_custom_alignment(int(field.contents()))
            continue
        array = field.types[0] == GGUFValueType.ARRAY
        inner = field.types[-1] if array else None
        writer.add_key_value(name, field.contents(), field.types[0], inner)
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, tensor.dtype, tensor.nbytes, tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(tensor.make())
    writer.close()


# Adapters ---------------------------------------------------------------------------------------


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
    stems = {name.rsplit(".lora_", 1)[0] for name in matrices}
    tensors = {tensor.name: tensor for reader in readers for tensor in reader.tensors}
    if kinds[0] != kinds[1] or not stems <= set(tensors):
        raise InputError(
            f"{adapter}: an adapter of another model ({kinds[0]}; {base} is {kinds[1]} and has not "
            "all matrices that it changes); name the model that it was trained on"
        )
    alpha = float(value(lora, "adapter.lora.alpha") or 0)
    planned = []
    for name, tensor in tensors.items():
        if name not in stems:
            planned.append(_as_it_is(tensor))
            continue
        a, b = matrices.get(f"{name}.lora_a"), matrices.get(f"{name}.lora_b")
        if a is None or b is None:
            raise InputError(f"{adapter}: half of the pair for {name} is missing; convert it again")
        planned.append(_adapted(tensor, a, b, alpha, adapter))
    _write(output, readers[0], planned)


def _adapted(tensor: Any, a: Any, b: Any, alpha: float, adapter: Path) -> _Planned:
    from gguf import GGMLQuantizationType as Kind
    from gguf import quants

    shape = tuple(int(size) for size in reversed(tensor.shape))
    wide = tensor.tensor_type in (Kind.F32, Kind.BF16)
    kind, dtype = (Kind.F32, np.float32) if wide else (Kind.F16, np.float16)
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
        return (weights + (alpha / rank if alpha else 1.0) * change).astype(dtype)

    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return _Planned(tensor.name, shape, np.dtype(dtype), size, kind, make)
