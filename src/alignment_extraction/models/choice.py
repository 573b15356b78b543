"""Which file of a folder or a repository is the model, and what to do where none is."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from alignment_extraction.files import InputError
from alignment_extraction.models.gguf_file import part_names

_LLAMA_CPP = "git clone https://github.com/ggml-org/llama.cpp"
_ID = re.compile(
    r"hf:(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::(?P<file>[^@]+))?"
    r"(?:@(?P<revision>[0-9A-Za-z][\w.-]*))?"
)
_QUANTISATIONS = (
    *("Q8_0", "Q6_K_L", "Q6_K", "Q5_K_L", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_L", "Q4_K_M"),
    *("Q4_K_S", "IQ4_NL", "IQ4_XS", "Q4_1", "Q4_0", "F16", "BF16", "F32"),
)
"""In order of preference: eight bits lose next to nothing, and more are slow to draw from."""
_OTHER_FILES = re.compile(r"mmproj|imatrix|(^|[-_./])lora([-_./]|$)|ggml-vocab", re.IGNORECASE)


def hub_model(text: str) -> tuple[str, str | None, str]:
    """Repository, file (None is `choose_gguf`'s) and revision of `hf:owner/name[:file][@revision]`.

    Raises:
        InputError: it is written otherwise.
    """
    if found := _ID.fullmatch(text):
        return found["repo"], found["file"], found["revision"] or "main"
    raise InputError(
        f"{text}: not a model of the hub; write hf:owner/name, hf:owner/name:FILE.gguf or "
        "either with @revision behind it"
    )


def folder_refusal(folder: Path | str, names: Iterable[str]) -> str:
    """What a folder, or `hf:owner/name`, without a GGUF is by its files, and what command helps."""
    found, what = set(names), str(folder).removeprefix("hf:")
    remote, quoted = str(folder).startswith("hf:"), shlex.quote(what)
    stem = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(what).name) or "model"
    if "adapter_config.json" in found:
        local = f"hf download {quoted} --local-dir {stem} && " if remote else ""
        return (
            f"{folder}: a LoRA adapter of PEFT; convert it with llama.cpp and give the result with "
            f"--base: {_LLAMA_CPP} && {local}python llama.cpp/convert_lora_to_gguf.py "
            f"{stem if remote else quoted} --outfile {stem}-lora.gguf"
        )
    if "config.json" in found:
        given = f"--remote {quoted}" if remote else quoted
        return (
            f"{folder}: a model of transformers; convert it with llama.cpp and give the result: "
            f"{_LLAMA_CPP} && python llama.cpp/convert_hf_to_gguf.py {given} --outtype q8_0 "
            f"--outfile {stem}-Q8_0.gguf"
        )
    return f"{folder}: no GGUF file in it and no model of transformers; give a GGUF file"


def choose_gguf(repo: str, names: Iterable[str]) -> str:
    """The GGUF of a repository that is meant where none is named; of a split one, its first part.

    The first of `_QUANTISATIONS` of which there is a file; another one only where it is alone.

    Raises:
        InputError: no GGUF, or several of which none comes first.
    """
    names = sorted(names)
    models = [name for name in names if name.lower().endswith(".gguf")]
    models = [name for name in models if not _OTHER_FILES.search(name)]
    models = [name for name in models if part_names(Path(name).name)[0] == Path(name).name]
    if not models:
        raise InputError(folder_refusal(f"hf:{repo}", {Path(name).name for name in names}))
    for kind in _QUANTISATIONS:
        called = re.compile(rf"(?:^|[-_./]){kind}(?:[-_./]|$)", re.IGNORECASE)
        if found := [name for name in models if called.search(name)]:
            models = found
            break
    if len(models) == 1:
        return models[0]
    shown = ", ".join([*models[:5], *(["..."] if len(models) > 5 else [])])
    raise InputError(f"hf:{repo}: several models ({shown}); name one, as in hf:{repo}:{models[0]}")
