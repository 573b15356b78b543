"""LoRA adapters as PEFT saves them, converted to GGUF as llama.cpp loads them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from alignment_extraction.files import InputError, atomic_path
from alignment_extraction.models.gguf_file import open_gguf, part_files, value

_MATRIX = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
# Those whose query and key matrices llama.cpp orders otherwise than transformers, and those not.
_PERMUTED, _PLAIN = ("llama",), ("qwen2", "qwen3", "olmo2")
_CONVERT = "convert it with convert_lora_to_gguf.py of llama.cpp and give the result"


def convert_peft(folder: Path, base: Path, output: Path) -> None:
    """Write an adapter that PEFT saved as a GGUF with matrices in 16-bit floats.

    Args:
        folder: holds adapter_config.json and adapter_model.safetensors.
        base: GGUF of the model that it was trained on; of a split one, any part.
        output: GGUF to write; the same weights give the same bytes.

    Raises:
        InputError: no adapter there, one of a kind that this does not convert, or of another model.
    """
    import gguf
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        weights = load_file(folder / "adapter_model.safetensors")
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(
            f"{folder}: no LoRA adapter of PEFT, adapter_config.json and "
            f"adapter_model.safetensors ({error}); give its folder"
        ) from None
    reader = open_gguf(part_files(base)[0])
    kind = str(value(reader, "general.architecture"))
    special = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "trainable_tokens")
    if config.get("peft_type") != "LORA" or any(config.get(key) for key in special):
        raise InputError(f"{folder}: more than a plain LoRA of one rank; {_CONVERT}")
    if kind not in (*_PERMUTED, *_PLAIN):
        raise InputError(f"{folder}: an adapter of a {kind} model; {_CONVERT}")
    heads = int(value(reader, f"{kind}.attention.head_count"))
    groups = int(value(reader, f"{kind}.attention.head_count_kv") or heads)
    architecture = next(k for k, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)
    names = gguf.get_tensor_name_map(architecture, int(value(reader, f"{kind}.block_count")))
    with atomic_path(output) as partial:
        writer = gguf.GGUFWriter(partial, kind)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        # llama.cpp divides by the rank; rank-stabilised LoRA by its square root.
        scale = rank**0.5 if config.get("use_rslora") else 1.0
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha * scale)
        for name, weight in sorted(weights.items()):
            found = _MATRIX.fullmatch(name)
            target = names.get_name(found["module"]) if found else None
            if found is None or target is None:
                raise InputError(f"{folder}: {name} has no place in a GGUF adapter; {_CONVERT}")
            matrix: Any = weight.float().numpy().astype(np.float16)
            if found["side"] == "B" and kind in _PERMUTED:
                # Rotary pairs are neighbours in llama.cpp, halves of a head in transformers.
                count = {"q_proj": heads, "k_proj": groups}.get(found["module"].split(".")[-1])
                if count:
                    matrix = matrix.reshape(count, 2, -1, rank).swapaxes(1, 2).reshape(-1, rank)
            writer.add_tensor(
                f"{target}.weight.lora_{found['side'].lower()}", np.ascontiguousarray(matrix)
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
