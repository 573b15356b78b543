"""A decoding context of llama.cpp whose batch and logits are numpy arrays.

with Context(model, sequences=2, positions=16, batch=2, outputs=2) as context:
    context.tokens[:2], context.positions[:2], context.sequences[:2] = [5, 6], 0, [0, 1]
    context.decode(2)
    context.logits(2)  # what follows token 5 and what follows token 6
"""

import ctypes
from contextlib import AbstractContextManager
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from alignment_extraction.engine.model import Model, forget_errors, last_error
from alignment_extraction.files import InputError

MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ in llama.cpp's llama-cparams.h


class Context(AbstractContextManager["Context"]):
    """A `llama_context` and one batch: fill the first k entries, `decode(k)`, read `logits(rows)`.

    Every sequence has a key-value stream of its own, so its attention sees no neighbour's cells.

    Attributes:
        tokens: int32 (batch,), token ids to feed.
        positions: int32 (batch,), their positions, counted from 0 in each sequence.
        sequences: int32 (batch,), the sequence of each, in ascending order: llama.cpp splits a
            batch at any other.
        wanted: int8 (batch,), 1 where the logits that follow the token are wanted, else 0.
    """

    def __init__(
        self,
        model: Model,
        *,
        sequences: int,
        positions: int,
        batch: int,
        outputs: int,
        flash_attention: bool = False,
    ) -> None:
        """Make a context, or raise `InputError` where llama.cpp cannot: too little memory, say.

        Args:
            model: the model; must outlive the context.
            sequences: their number, 1 to 256.
            positions: tokens that each sequence can hold.
            batch: most tokens in one `decode`, computed together.
            outputs: most of them whose logits are wanted, float32 (outputs, n_vocab) held twice.
            flash_attention: where the backend has it; on a CPU faster, but in half precision.
        """
        self._vocab_size = model.n_vocab
        params = llama_cpp.llama_context_default_params()
        # llama.cpp rounds the positions of a stream up to a multiple of 256.
        params.n_ctx = sequences * (-(-positions // 256) * 256)
        params.n_batch = params.n_ubatch = batch
        params.n_seq_max = sequences
        params.n_outputs_max = outputs
        params.n_threads = params.n_threads_batch = model.threads
        params.kv_unified = False
        # A sliding window's cache cannot give back positions unless it is kept in full.
        params.swa_full = True
        flash = "AUTO" if flash_attention else "DISABLED"
        params.flash_attn_type = getattr(llama_cpp, f"LLAMA_FLASH_ATTN_TYPE_{flash}")
        params.no_perf = True
        self.tokens = np.zeros(batch, np.int32)
        self.positions = np.zeros(batch, np.int32)
        self.sequences = np.zeros(batch, np.int32)
        self.wanted = np.ones(batch, np.int8)
        # One sequence a token: each pointer leads to that token's entry of `sequences`.
        self._one = np.ones(batch, np.int32)
        self._pointers = self.sequences.ctypes.data + 4 * np.arange(batch, dtype=np.uintp)
        fields = dict(llama_cpp.llama_batch._fields_)

        def pointer(field: str, array: npt.NDArray[Any]) -> Any:
            return ctypes.cast(array.ctypes.data, fields[field])

        self._batch = llama_cpp.llama_batch(
            n_tokens=0,
            token=pointer("token", self.tokens),
            pos=pointer("pos", self.positions),
            n_seq_id=pointer("n_seq_id", self._one),
            seq_id=pointer("seq_id", self._pointers),
            logits=pointer("logits", self.wanted),
        )
        forget_errors()
        self._context = llama_cpp.llama_init_from_model(model.handle, params)
        if not self._context:
            raise InputError(
                f"{model.path}: llama.cpp cannot make a context of {sequences} sequences of "
                f"{positions} tokens ({last_error()}); ask for fewer slots or tokens"
            )
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._view = np.empty((0, self._vocab_size), np.float32)
        self._view_of = (0, 0)

    def decode(self, count: int) -> None:
        """Feed the first `count` entries of the batch; `RuntimeError` if llama.cpp refuses."""
        self._batch.n_tokens = count
        forget_errors()
        status = llama_cpp.llama_decode(self._context, self._batch)
        if status != 0:
            raise RuntimeError(f"llama_decode gave {status}: {last_error()}")

    def logits(self, rows: int) -> npt.NDArray[np.float32]:
        """Logits of the last `decode`, float32 (rows, n_vocab), in the order of `wanted`.

        A view on llama.cpp's own buffer: valid until the next `decode`.
        """
        pointer = llama_cpp.llama_get_logits(self._context)
        address = ctypes.addressof(pointer.contents)
        # Making a view costs more than decoding a small model's layer; llama.cpp moves the buffer
        # only when it grows.
        if (address, rows) != self._view_of:
            self._view_of = (address, rows)
            self._view = np.ctypeslib.as_array(pointer, (rows, self._vocab_size))
        return self._view

    def truncate(self, sequence: int, length: int) -> bool:
        """Forget all but the first `length` tokens; False where the model's memory cannot."""
        return bool(llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1))

    def copy(self, source: int, target: int) -> None:
        """Let sequence `target` hold what `source` holds."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def clear(self) -> None:
        """Forget every sequence."""
        llama_cpp.llama_memory_clear(self._memory, False)

    def close(self) -> None:
        """Free the context; twice is harmless."""
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None

    def __exit__(self, *_: object) -> None:
        self.close()
