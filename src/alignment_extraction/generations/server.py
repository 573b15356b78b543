"""A client of OpenAI-compatible `/v1/completions`: retries, back-pressure, and what the server is.

The key is read from the environment variable ENDPOINT_API_KEY, and stands in no message.
"""

import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import httpx2

from alignment_extraction.files import InputError

_logger = logging.getLogger(__name__)

KEY = "ENDPOINT_API_KEY"
"""The environment variable that holds the server's key."""

USE_ANOTHER = "serve the model with vLLM, SGLang or llama-server"

_RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
_LONGEST_WAIT = 60.0  # seconds between two tries

# What a server is told beside OpenAI's own parameters, by the owner that it gives its models (of
# llama-server and llama_cpp.server the last two), and where it tells its version. vLLM and SGLang
# otherwise take defaults out of the model's folder, and llama.cpp cuts off the distribution's tail.
_VLLM = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True}
_LLAMA = {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}
_DIALECTS = {"vllm": _VLLM, "sglang": _VLLM, "llamacpp": _LLAMA, "me": _LLAMA}
_VERSIONS = {
    "vllm": ("/version", "version"),
    "sglang": ("/server_info", "version"),
    "llamacpp": ("/props", "build_info"),
    "me": ("/openapi.json", "info"),
}


class Server:
    """One model of one server.

    Attributes:
        owner: of the model, as the server says, which tells the server's kind (`vllm`, ...).
        dialect: what a request holds beside OpenAI's parameters (see `_DIALECTS`).
        longest: tokens of the model's context, where the server tells them with its tokens.

    Args:
        url: its address, up to and with `/v1`.
        model: its name of the model.
        in_flight: most requests that the server works on at once.
        tries: of each request (with all waits between, about ten minutes).
        timeout: seconds until an answer counts as lost.
        first_wait: seconds before the second try; doubled with each, up to a minute.

    Raises:
        InputError: no such server or model, or no access.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        in_flight: int = 32,
        tries: int = 15,
        timeout: float = 600.0,
        first_wait: float = 0.5,
    ) -> None:
        self.url, self.model = url.rstrip("/"), model
        self._root = self.url.removesuffix("/v1")
        self.longest: int | None = None
        self._in_flight, self._tries, self._first_wait = in_flight, tries, first_wait
        self._key = os.environ.get(KEY, "")
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(timeout, connect=min(timeout, 30.0)),
            limits=httpx2.Limits(max_connections=in_flight),
        )
        data = self._ask("GET", f"{self.url}/models").get("data")
        entries = [e for e in data if isinstance(e, dict)] if isinstance(data, list) else []
        owners = {str(e.get("id")): str(e.get("owned_by") or "").lower() for e in entries}
        if model not in owners:
            raise InputError(
                f"{self.url}: serves no model {model!r} (it has {', '.join(owners) or 'none'}); "
                "correct the key `model`"
            )
        self.owner = owners[model]
        self.dialect: dict[str, Any] = _DIALECTS.get(self.owner, {})

    @cached_property
    def version(self) -> str:
        """Of the server; "unknown" where it does not say."""
        path, key = _VERSIONS.get(self.owner, ("/version", "version"))
        told = self._ask("GET", self._root + path, optional=True).get(key) or "unknown"
        return str(told.get("version") if isinstance(told, dict) else told)

    @cached_property
    def _begin(self) -> list[int] | None:
        """Tokens that begin every text; None where the server does not tokenise."""
        plain, whole = self._tokenise("the", False), self._tokenise("the", True)
        return None if plain is None or whole is None else whole[: len(whole) - len(plain)]

    def tokens(self, text: str) -> list[int] | None:
        """Token ids of a text from its beginning on; None where the server has no `/tokenize`.

        Special tokens are read as such, and the beginning-of-sequence token stands in front where
        the tokenizer has one there and the text does not spell it out.
        """
        if self._begin is None:
            return None
        found = self._tokenise(text, False) or []
        return found if found[: len(self._begin)] == self._begin else [*self._begin, *found]

    def _tokenise(self, text: str, begin: bool) -> list[int] | None:
        body = {"prompt": text, "add_special_tokens": begin}  # vLLM, SGLang
        body |= {"content": text, "add_special": begin, "parse_special": True}  # llama-server
        found = self._ask("POST", f"{self._root}/tokenize", body, optional=True)
        self.longest = found.get("max_model_len", self.longest)
        return found.get("tokens")

    def complete(
        self, prompt: Sequence[int] | str, body: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """The choices of a completion, in order.

        Raises:
            InputError: the server refuses, puts something before the prompt, answers with something
                else, or not within the tries.
        """
        found = self._ask("POST", f"{self.url}/completions", {"prompt": prompt, **body})
        choices = found.get("choices")
        if not isinstance(choices, list) or not all(isinstance(c, dict) for c in choices):
            raise InputError(f"{self.url}: an answer without `choices`; {USE_ANOTHER}")
        given = (found.get("usage") or {}).get("prompt_tokens")
        if not isinstance(prompt, str) and given not in (None, len(prompt)):
            raise InputError(
                f"{self.url}: puts {given} tokens in front of the model where the prompt has "
                f"{len(prompt)}: it adds a chat template or a beginning-of-sequence token; "
                f"{USE_ANOTHER}"
            )
        return sorted(choices, key=lambda choice: choice.get("index") or 0)

    def in_parallel(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """What `work` gives for each item, in order; after a failure none is begun."""
        with ThreadPoolExecutor(self._in_flight) as pool:
            try:
                yield from pool.map(work, items)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _ask(
        self, method: str, url: str, body: Mapping[str, Any] | None = None, optional: bool = False
    ) -> dict[str, Any]:
        """The JSON of an answer to body and model's name; empty if refused and `optional`."""
        reason = ""
        given = None if body is None else {"model": self.model, **body}
        for turn in range(self._tries):
            wait = min(_LONGEST_WAIT, self._first_wait * 2**turn) * random.uniform(0.5, 1)
            try:
                answer = self._client.request(method, url, json=given)
                found, status = _json_object(answer), answer.status_code
                if status == 200 and found:
                    return found
                if status != 200 and status not in _RETRIED:
                    if optional:
                        return {}
                    raise self._refusal(status, found)
                reason = "an answer that is no JSON object" if status == 200 else f"HTTP {status}"
                asked = answer.headers.get("retry-after", "")
                if asked.isdigit():
                    wait = max(wait, min(_LONGEST_WAIT, float(asked)))
            except httpx2.TransportError as error:
                reason = type(error).__name__
            if turn + 1 < self._tries:
                _logger.warning("%s: %s; again in %.1f s", self.url, reason, wait)
                time.sleep(wait)
        raise InputError(
            f"{self.url}: no answer in {self._tries} tries (the last: {reason}); see that the "
            "server runs, and run it again: finished shards are kept"
        )

    def _refusal(self, status: int, found: Mapping[str, Any]) -> InputError:
        """What to raise for an answer that is not 200."""
        error = found.get("error", found.get("message", found.get("detail", "")))
        message = str(error.get("message", "") if isinstance(error, dict) else error)[:300]
        if self._key:
            # Some servers repeat the key that they refuse.
            message = message.replace(self._key, "***")
        if status in (401, 403):
            reason = f"refuses access (HTTP {status}); put its key into {KEY}"
        elif status in (404, 405, 501):
            reason = (
                f"has no completions (HTTP {status}), only chat perhaps, which would put its "
                f"template around the prefix; {USE_ANOTHER}"
            )
        else:
            reason = f"refuses the request (HTTP {status}: {' '.join(message.split())})"
        return InputError(f"{self.url}: {reason}")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _json_object(answer: httpx2.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
