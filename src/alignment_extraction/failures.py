"""Bad input, and what the machine refuses - space, permission, memory - as a line of advice."""

import errno
import re

from alignment_extraction.files import InputError

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EFBIG: "files may not grow so large here: raise the limit (ulimit -f)",
    errno.EROFS: "the file system is read-only: make it writable",
    errno.EACCES: "permission is denied: correct the owner or mode of the file and its folder",
    errno.EPERM: "permission is denied: correct the owner, mode or attributes of the folder",
    errno.ENOMEM: "the memory is used up: free some, or lower slots or batch_size in params.yaml",
}


def explain(error: BaseException) -> str | None:
    """One line on bad input or a failure of the machine or a model; None for a bug's error.

    Libraries wrap such failures in exceptions of their own: Rust's name the number in their text,
    numpy's and Polars' of a full disk do not.
    """
    if isinstance(error, InputError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, FloatingPointError):
        return f"{text}: its weights are damaged or overflow; take another file of the model"
    code = getattr(error, "errno", None)
    if isinstance(error, MemoryError):
        code = errno.ENOMEM
    elif named := re.search(r"\(os error (\d+)\)", text):
        code = int(named[1])
    elif text.endswith("Invalid thrift: transport error") or (
        isinstance(error, OSError) and re.search(r"\d+ requested and \d+ written", text)
    ):
        code = errno.ENOSPC
    advice = _ADVICE.get(code) if code is not None else None
    if advice is None:
        return None
    return (
        f"{advice}, then run the same command again; no unfinished file has a final name ({text})"
    )
