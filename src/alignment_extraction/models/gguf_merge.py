"""GGUF models made whole: the parts of a split one, a base model and its LoRA adapter."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alignment_extraction.files import InputError
from alignment_extraction.models.gguf_file import open_gguf, part_files, value

_NAME_IT = "name the model that it was trained on"


def merge_parts(parts: Sequence[Path], output: Path) -> None:
    """Write the parts of a split model as one GGUF, with the same entries and tensors.

    Raises as `open_gguf`.
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
    kind, own = (str(value(one, "general.architecture")) for one in (lora, readers[0]))
    matrices = {tensor.name: tensor for tensor in lora.tensors}
    tensors = {tensor.name: tensor for reader in readers for tensor in reader.tensors}
    stems = {name.rsplit(".lora_", 1)[0] for name in matrices}
    if kind != own or not stems <= set(tensors):
        raise InputError(
            f"{adapter}: an adapter of another model ({kind}; {base} is {own} and has not all "
            f"matrices that it changes); {_NAME_IT}"
        )
    alpha = float(value(lora, "adapter.lora.alpha") or 0)
    changed = {}
    for name in stems:
        b, a = (matrices.get(f"{name}.lora_{side}") for side in "ba")
        if a is None or b is None:
            raise InputError(f"{adapter}: half of the pair for {name} is missing; convert it again")
        changed[name] = _adapted(tensors[name], b, a, alpha, adapter)
    _write(output, readers, changed)


def _adapted(tensor: Any, b: Any, a: Any, alpha: float, adapter: Path) -> Any:
    """The changed matrix, an array of gguf's that is computed when it is written."""
    from gguf import GGMLQuantizationType as Kind
    from gguf import LazyNumpyTensor, quants

    shape = tuple(int(size) for size in reversed(tensor.shape))
    left, right = (quants.dequantize(m.data, m.tensor_type) for m in (b, a))
    # Of an embedding, which is looked up by row, llama.cpp keeps A transposed.
    if right.shape[-1] != shape[-1]:
        left, right = right, left.swapaxes(-1, -2)
    rank = left.shape[-1]
    if (*left.shape[:-1], right.shape[-1]) != shape or right.shape[-2] != rank:
        raise InputError(
            f"{adapter}: its change of {tensor.name} has another shape than the model's matrix; "
            + _NAME_IT
        )
    dtype = np.float32 if tensor.tensor_type in (Kind.F32, Kind.BF16) else np.float16

    def make() -> Any:
        weights = quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        change = left.astype(np.float32) @ right.astype(np.float32)
        return (weights + (alpha / rank if alpha else 1.0) * change).astype(dtype)

    meta = LazyNumpyTensor.meta_with_dtype_and_shape(dtype, shape)
    return LazyNumpyTensor(meta=meta, func=make)


def _write(output: Path, readers: Sequence[Any], changed: dict[str, Any]) -> None:
    """Write a GGUF with the first reader's entries and all tensors, some of them changed."""
    from gguf import GGUFValueType, GGUFWriter

    writer = GGUFWriter(output, str(value(readers[0], "general.architecture")))
    for name, field in readers[0].fields.items():
        if name == "general.alignment":
            writer.add_custom_alignment(int(field.contents()))
        elif name != "general.architecture" and not name.startswith(("GGUF.", "split.")):
            inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    for tensor in (tensor for reader in readers for tensor in reader.tensors):
        # Taken out of `changed`, so that each is in memory no longer than it is written.
        if (own := changed.pop(tensor.name, None)) is not None:
            writer.add_tensor(tensor.name, own)
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
