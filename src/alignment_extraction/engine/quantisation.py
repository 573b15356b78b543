"""The same weights in another form, with llama.cpp's quantiser.

quantise(Path("model.gguf"), Path("model-q8.gguf"), "Q8_0")
"""

import ctypes
import os
from pathlib import Path

import llama_cpp

from alignment_extraction.engine.model import forget_errors, last_error
from alignment_extraction.files import InputError, atomic_path

FTYPES = {
    "F16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16,
    "BF16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
}
"""llama.cpp's file types by name, most exact first."""


def quantise(source: Path, output: Path, kind: str, threads: int = 0) -> None:
    """Write a GGUF's weights in the form `kind` of `FTYPES`; the same source, the same bytes.

    A source that is quantised already is quantised again, which adds the new form's rounding to the
    old one's: little for Q8_0, much for a form no finer than its own. `threads` 0 is llama.cpp's
    own choice.

    Raises:
        InputError: an unknown kind, or llama.cpp cannot quantise the source.
    """
    if kind not in FTYPES:
        raise InputError(f"quantisation {kind} is unknown; use one of {', '.join(FTYPES)}")
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FTYPES[kind]
    parameters.nthread = threads
    parameters.allow_requantize = True
    forget_errors()
    with atomic_path(output) as partial:
        status = llama_cpp.llama_model_quantize(
            os.fsencode(source), os.fsencode(partial), ctypes.byref(parameters)
        )
        if status:
            raise InputError(f"{source}: llama.cpp could not quantise it to {kind}: {last_error()}")
