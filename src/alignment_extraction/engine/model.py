"""A GGUF model and its vocabulary, on llama-cpp-python's low-level API.

    with Model(Path("model.gguf")) as model:
        tokens = model.tokenize("Hello <|im_end|>")
        model.detokenize(tokens)  # "Hello "

llama.cpp's own log is kept from stderr; its last error lines go into the exceptions raised here.
"""

import ctypes
import logging
import os
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import llama_cpp

from alignment_extraction.files import InputError

_logger = logging.getLogger(__name__)

_CONTROL = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
_ERROR_LEVEL = 4  # GGML_LOG_LEVEL_ERROR in ggml.h
_errors: deque[str] = deque(maxlen=8)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _keep_errors(level: int, text: bytes | None, _: object) -> None:
    if level == _ERROR_LEVEL and text:
        _errors.append(text.decode("utf-8", "replace").strip())


def forget_errors() -> None:
    """Forget llama.cpp's error lines so far, before what may fail; its log goes nowhere else."""
    llama_cpp.llama_log_set(_keep_errors, ctypes.c_void_p(0))
    _errors.clear()


def last_error() -> str:
    """The first error line of llama.cpp's log since `forget_errors`, for a message."""
    # llama.cpp prefixes lines with the C++ function's name, which tells a user nothing.
    return next((line.split(": ", 1)[-1] for line in _errors if line), "it gave no reason")


def _check_header(path: Path) -> None:
    """Refuse what is not a GGUF, or promises more than it holds: the C reader allocates first.

    Header, little-endian: magic "GGUF", version uint32, tensor count int64, key-value count int64.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(24)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the path of a GGUF model") from None
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror})") from error
    if header[:4] != b"GGUF":
        raise InputError(f"{path}: not a GGUF file (it does not start with the bytes GGUF)")
    if len(header) < 24:
        raise InputError(f"{path}: truncated GGUF ({size} bytes); fetch the file again")
    version, tensors, pairs = struct.unpack("<IQQ", header[4:])
    if version not in (2, 3):
        raise InputError(f"{path}: GGUF version {version}, where version 2 or 3 is expected")
    # A key-value pair takes at least 13 bytes (8 length, 4 type, 1 value), a tensor's entry 32.
    if 13 * pairs + 32 * tensors > size:
        raise InputError(
            f"{path}: the header promises {tensors} tensors and {pairs} entries, more than "
            f"{size} bytes can hold; the file is truncated or damaged, fetch it again"
        )


class Model(AbstractContextManager["Model"]):
    """A loaded GGUF: vocabulary, metadata, and the weights that contexts share; `close` frees them.

    Attributes:
        path: the GGUF file.
        handle: the `llama_model` pointer, for llama_cpp's functions.
        threads: CPU threads for decoding.
        n_vocab: number of tokens in the vocabulary.
        n_ctx_train: context length, in tokens, that the model was trained with.
        chat_template: the file's Jinja chat template, None where it has none.
        bos: beginning-of-sequence token, None where the vocabulary has none.
        eos: end-of-sequence token, None where the vocabulary has none.
        add_bos: whether the file asks for `bos` in front of every text.
        eog: every end-of-generation token (end of turn, end of text, ...), as llama.cpp finds them.
        pieces: UTF-8 of every token, special ones included; some hold part of a character alone.
        forgets: whether a context can go back to an earlier position (no recurrent state).
    """

    def __init__(self, path: Path, *, threads: int | None = None, gpu_layers: int = 0) -> None:
        """Load a GGUF; `threads` None means every CPU of this process, `gpu_layers` -1 every layer.

        Raises:
            InputError: no such file, not a GGUF, damaged, or a model that llama.cpp cannot load
                or that does not predict the next token.
        """
        self.path = Path(path)
        self.handle: Any = None
        if threads is not None and threads < 1:
            raise InputError(f"threads must be at least 1, not {threads}")
        self.threads = threads or len(os.sched_getaffinity(0))
        _check_header(self.path)
        llama_cpp.llama_backend_init()
        forget_errors()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        if b"AMX_INT8 = 1" in llama_cpp.llama_print_system_info():
            # GCC drops stores that ggml's AMX kernels need (llama.cpp pull request 26954), which
            # kills the process at the first product; the weights' plain layout avoids them.
            params.use_extra_bufts = False
            _logger.warning(
                "llama.cpp was built with AMX kernels, which crash; running without them, slower. "
                "Rebuild llama-cpp-python with CMAKE_ARGS='-DCMAKE_C_FLAGS=-mno-amx-tile "
                "-DCMAKE_CXX_FLAGS=-mno-amx-tile'"
            )
        self.handle = llama_cpp.llama_model_load_from_file(os.fsencode(self.path), params)
        if not self.handle:
            raise InputError(f"{self.path}: llama.cpp cannot load this model: {last_error()}")
        causal = self._metadata(f"{self._metadata('general.architecture')}.attention.causal")
        if llama_cpp.llama_model_has_encoder(self.handle) or causal == "false":
            self.close()
            raise InputError(
                f"{self.path}: an encoder-decoder or encoder model; give a language model that "
                "predicts the next token"
            )
        template = llama_cpp.llama_model_chat_template(self.handle, None)
        try:
            self.chat_template: str | None = template.decode() if template else None
        except UnicodeDecodeError:
            self.close()
            raise InputError(
                f"{self.path}: its chat template is not UTF-8 text; fetch the file again"
            ) from None
        vocab = self._vocab = llama_cpp.llama_model_get_vocab(self.handle)
        self.n_vocab: int = llama_cpp.llama_vocab_n_tokens(vocab)
        self.n_ctx_train: int = llama_cpp.llama_model_n_ctx_train(self.handle)
        none = llama_cpp.LLAMA_TOKEN_NULL
        bos, eos = llama_cpp.llama_vocab_bos(vocab), llama_cpp.llama_vocab_eos(vocab)
        self.bos: int | None = None if bos == none else bos
        self.eos: int | None = None if eos == none else eos
        self.add_bos: bool = llama_cpp.llama_vocab_get_add_bos(vocab)
        self.forgets = not (
            llama_cpp.llama_model_is_recurrent(self.handle)
            or llama_cpp.llama_model_is_hybrid(self.handle)
        )
        self.eog = frozenset(
            token for token in range(self.n_vocab) if llama_cpp.llama_vocab_is_eog(vocab, token)
        )
        self.pieces = [self._piece_bytes(token) for token in range(self.n_vocab)]
        # The same as text: nothing for special ones.
        self._text = [
            b"" if token in self.eog or self.control(token) else piece
            for token, piece in enumerate(self.pieces)
        ]

    def _metadata(self, key: str) -> str | None:
        buffer = ctypes.create_string_buffer(256)
        length = llama_cpp.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return None if length < 0 else buffer.value.decode("utf-8", "replace")

    def _piece_bytes(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, size, 0, True)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of `text`; no beginning-of-sequence token is ever added.

        Characters that UTF-8 cannot hold (lone surrogates) become "?". Without `special`
        `<|im_start|>` and its like are plain text, else one token each.
        """
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        while True:
            tokens = (llama_cpp.llama_token * size)()
            count = llama_cpp.llama_tokenize(
                self._vocab, data, len(data), tokens, size, False, special
            )
            if count >= 0:
                return list(tokens[:count])
            size = -count

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Text of `tokens` without any special token; bytes that form no character are U+FFFD."""
        return b"".join([self._text[token] for token in tokens]).decode("utf-8", "replace")

    def piece(self, token: int) -> str:
        """Text of one token, special ones included (`<|im_end|>`), for messages and prefixes."""
        return self.pieces[token].decode("utf-8", "replace")

    def bytes_of(self, tokens: Sequence[int]) -> bytes:
        """UTF-8 of `tokens`, special ones spelt out."""
        return b"".join([self.pieces[token] for token in tokens])

    def conversation(self, text: str) -> list[int]:
        """Token ids of a text from its beginning on, as llama.cpp feeds them to the model.

        With special tokens, and `bos` in front where `add_bos` and the text does not spell it out.
        """
        tokens = self.tokenize(text)
        if self.add_bos and self.bos is not None and tokens[:1] != [self.bos]:
            return [self.bos, *tokens]
        return tokens

    def _is(self, token: int, attribute: int) -> bool:
        return bool(llama_cpp.llama_vocab_get_attr(self._vocab, token) & attribute)

    def control(self, token: int) -> bool:
        """Whether a token is read from text alone where special tokens are (`tokenize`)."""
        return self._is(token, _CONTROL)

    def special(self, token: int) -> bool:
        """Whether a token is one that nobody writes: `<|im_start|>`, `</think>`.

        A vocabulary's user-defined tokens count, but for those of white space (Gemma's line ends).
        """
        defined = self._is(token, llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED)
        return self.control(token) or (defined and bool(self.pieces[token].strip()))

    def swallows(self, token: int) -> tuple[bool, bool]:
        """Whether a special token takes the white space before it, and that behind it."""
        left, right = llama_cpp.LLAMA_TOKEN_ATTR_LSTRIP, llama_cpp.LLAMA_TOKEN_ATTR_RSTRIP
        return self._is(token, left), self._is(token, right)

    def check_tokens(self, tokens: Sequence[int], name: str) -> None:
        """Raise `InputError`, naming `name`, if a token id is outside the vocabulary."""
        bad = next((token for token in tokens if not 0 <= token < self.n_vocab), None)
        if bad is not None:
            raise InputError(
                f"{name}: token {bad} is outside the vocabulary of {self.path} "
                f"(0 to {self.n_vocab - 1}); tokenise it with this model"
            )

    def close(self) -> None:
        """Free the weights. Contexts of this model must be closed before; twice is harmless."""
        if self.handle:
            llama_cpp.llama_model_free(self.handle)
            self.handle = None

    def __exit__(self, *_: object) -> None:
        self.close()


def probe(path: Path) -> None:
    """Load a model in a process of its own; `InputError` if that fails, or llama.cpp dies of it."""
    program = "import sys; from alignment_extraction.engine.model import Model; Model(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        # Without the variable llama.cpp calls a debugger for a backtrace, which takes seconds.
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if not done.returncode:
        return
    lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it gave no reason"]
    _, refused, why = lines[-1].partition(f"{InputError.__name__}: ")
    if refused:
        raise InputError(why)
    how = signal.Signals(-done.returncode).name if done.returncode < 0 else done.returncode
    raise InputError(
        f"{path}: llama.cpp dies of this model ({how}: {lines[-1].split(': ', 1)[-1]}); it is "
        "damaged or of an unknown kind, fetch it again or take another"
    )


def require_same_vocabulary(first: Model, second: Model) -> None:
    """Raise `InputError` unless token ids mean the same to two models."""
    if (first.pieces, first.eog) != (second.pieces, second.eog):
        raise InputError(
            f"{first.path} and {second.path} have different vocabularies ({first.n_vocab} and "
            f"{second.n_vocab} tokens, or other texts for the same ids); only models that share "
            "one tokenizer can be compared token by token"
        )
