"""Rendering of chat templates, which are programs from strangers, in a process of its own.

Jinja's sandbox keeps a template from reaching files and Python's objects. It does not keep it from
looping for ever or asking for all memory, so the process that renders has a limit on both.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

Message = dict[str, str]

_SECONDS = 5  # of processor time; real templates take milliseconds
_MEMORY = 1 << 30  # bytes of address space
_LENGTH = 1 << 20  # characters of one rendering


class TemplateError(ValueError):
    """A template that cannot be rendered; the message says why."""


def render(
    template: str, conversations: Sequence[Sequence[Message]], *, bos: str = "", eos: str = ""
) -> list[str]:
    """Render each conversation as transformers and llama.cpp do, without a generation prompt.

    `strftime_now` is left undefined, so that templates which print the date fall back to the fixed
    one they carry and the same file always gives the same text.

    Args:
        template: Jinja text.
        conversations: lists of messages {role, content}.
        bos: text of the beginning-of-sequence token, `bos_token` in templates.
        eos: text of the end-of-sequence token, `eos_token` in templates.

    Raises:
        TemplateError: an error in the template, or more than 5 s, 1 GiB or 2^20 characters.
    """
    request = json.dumps(
        {"template": template, "conversations": conversations, "bos": bos, "eos": eos}
    )
    # -P: the modules beside this file must not take the place of the standard library's.
    done = subprocess.run(
        [sys.executable, "-P", __file__],
        input=request.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise TemplateError(f"takes more than {_SECONDS} s or {_MEMORY >> 20} MiB to render")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise TemplateError(answer["error"])
    texts: list[str] = answer["texts"]
    return texts


def _serve() -> None:
    """Answer one request, JSON on standard input, within the limits."""
    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = json.load(sys.stdin)
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment.globals["raise_exception"] = raise_exception
    try:
        template = environment.from_string(request["template"])
        texts = [
            template.render(
                messages=messages,
                bos_token=request["bos"],
                eos_token=request["eos"],
                add_generation_prompt=False,
            )
            for messages in request["conversations"]
        ]
        if any(len(text) > _LENGTH for text in texts):
            raise OverflowError(f"renders more than {_LENGTH} characters")
        answer: dict[str, Any] = {"texts": texts}
    except Exception as error:  # whatever a template can raise is its own fault
        answer = {"error": f"{type(error).__name__}: {error}"[:500]}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    _serve()
