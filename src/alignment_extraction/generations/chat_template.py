"""Rendering of chat templates, untrusted programs, in a process of its own.

Jinja's sandbox keeps a template from files and Python's objects, but not from looping for ever or
asking for all memory, so the process that renders has a limit on both.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]

TODAY = (2024, 7, 26)
"""Year, month, day that `strftime_now` tells templates, so that a file always gives the same text:
the date that Llama 3.1's template falls back to."""

_SECONDS = 5  # of processor time; real templates take milliseconds
_MEMORY = 1 << 30  # bytes of address space
_LENGTH = 1 << 20  # characters of one rendering


class TemplateError(ValueError):
    """A template that cannot be rendered; the message says why."""


def render_each(
    template: str,
    conversations: Sequence[Sequence[Message]],
    *,
    bos: str = "",
    eos: str = "",
    prompt: bool = False,
    tools: Sequence[Any] | None = None,
) -> list[str | TemplateError]:
    """Each conversation as transformers' `apply_chat_template` renders it, or why it cannot be.

    Templates call `bos`, `eos` and `prompt` `bos_token`, `eos_token` and `add_generation_prompt`.

    Raises:
        TemplateError: all of them together take more than 5 s or 1 GiB.
    """
    names = {"bos_token": bos, "eos_token": eos, "add_generation_prompt": prompt, "tools": tools}
    request = {"template": template, "conversations": conversations, "names": names}
    # -P: the modules beside this file must not shadow the standard library's.
    done = subprocess.run(
        [sys.executable, "-P", __file__],
        input=json.dumps(request).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise TemplateError(f"takes more than {_SECONDS} s or {_MEMORY >> 20} MiB to render")
    return [
        TemplateError(answer["error"]) if "error" in answer else answer["text"]
        for answer in json.loads(done.stdout)
    ]


def _environment() -> Any:
    """The names, filters and tags that transformers gives templates (its `chat_template_utils`)."""
    from datetime import datetime

    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what an assistant says, which changes no text."""

        tags = {"generation"}  # noqa: RUF012 (as Jinja declares it)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_written"), [], [], body).set_lineno(line)

        def _written(self, caller: Any) -> str:
            return str(caller())

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, *arguments: Any, **names: Any) -> str:
        # Jinja's own filter escapes <, > and &.
        names |= zip(("indent", "separators", "sort_keys"), arguments, strict=False)
        return json.dumps(value, ensure_ascii=ensure_ascii, **names)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = datetime(*TODAY).strftime
    return environment


def _serve() -> None:
    """Answer one request, JSON on standard input, within the limits."""
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = json.load(sys.stdin)
    compiled: Any = None
    answers: list[dict[str, str]] = []
    for messages in request["conversations"]:
        try:
            compiled = compiled or _environment().from_string(request["template"])
            text = compiled.render(messages=messages, documents=None, **request["names"])
            if len(text) > _LENGTH:
                raise OverflowError(f"renders more than {_LENGTH} characters")
            answers.append({"text": text})
        except Exception as error:  # whatever a template can raise is its own fault
            answers.append({"error": f"{type(error).__name__}: {error}"[:500]})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    _serve()
