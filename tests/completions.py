"""Servers of completions for tests: llama-cpp-python's own, and one that misbehaves when told to.

with LlamaServer(path) as server: ...          # a process of its own, at server.url
with Fake(model, faults=[Fault(429)]) as fake: ...  # speaks as vLLM does
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.sampling import sample
from alignment_extraction.engine.scoring import score


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class LlamaServer:
    """`python -m llama_cpp.server` on 127.0.0.1."""

    def __init__(self, model: Path, port: int | None = None) -> None:
        self.model, self.port = model, port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "llama_cpp.server", "--model", str(self.model)]
        command += ["--model_alias", "tiny", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--n_ctx", "256", "--logits_all", "true", "--verbose", "false"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until = time.monotonic() + 180
        while time.monotonic() < until:
            if self.process.poll() is not None:
                assert self.process.stderr is not None
                raise RuntimeError(self.process.stderr.read().decode()[-2000:])
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(f"{self.url}/models", timeout=5).status_code == 200:
                    return self
            time.sleep(0.1)
        raise TimeoutError("llama_cpp.server did not start")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Fault:
    """What is done to one request instead of answering it, or before."""

    status: int = 200
    seconds: float = 0.0
    body: Any = None
    retry_after: str = ""
    cut: bool = False  # half of the answer, then the connection ends


class Fake:
    """A server on 127.0.0.1 that answers with the engine's own samples, in vLLM's words.

    Attributes:
        requests: bodies of the completions asked for.
        keys: the Authorization header of each.
        most: most requests at once.

    Args:
        added: tokens that it says to put in front of a prompt.
        tells: whether it tokenises.
    """

    def __init__(
        self,
        model: Model,
        *,
        owner: str = "vllm",
        faults: Sequence[Fault] = (),
        chat_only: bool = False,
        added: int = 0,
        key: str = "",
        tells: bool = True,
    ) -> None:
        self.model, self.owner, self.faults = model, owner, list(faults)
        self.chat_only, self.added, self.key, self.tells = chat_only, added, key, tells
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.most = self._now = 0
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._lock = threading.Lock()  # a llama.cpp model is sampled by one thread at a time

    async def _models(self, request: Request) -> Response:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            given = request.headers.get("authorization", "")
            return JSONResponse({"error": {"message": f"Incorrect API key: {given}"}}, 401)
        return JSONResponse({"data": [{"id": "tiny", "owned_by": self.owner}]})

    async def _version(self, _: Request) -> Response:
        return JSONResponse({"version": "0.26.0"})

    async def _tokenize(self, request: Request) -> Response:
        body = await request.json()
        model, text = self.model, body["prompt"]
        tokens = (model.conversation if body["add_special_tokens"] else model.tokenize)(text)
        return JSONResponse({"tokens": tokens, "max_model_len": model.n_ctx_train})

    async def _completions(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("authorization"))
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            fault = self.faults.pop(0) if self.faults else Fault()
            await asyncio.sleep(fault.seconds)
            if fault.status != 200 or fault.body is not None:
                headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
                if isinstance(fault.body, str):
                    return Response(fault.body, fault.status, headers)
                return JSONResponse(
                    fault.body or {"error": {"message": "x"}}, fault.status, headers
                )
            answer = JSONResponse(await asyncio.to_thread(self._answer, body))
            if fault.cut:
                answer.body = answer.body[: len(answer.body) // 2]
            return answer
        finally:
            self._now -= 1

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        model, prompt = self.model, body["prompt"]
        if isinstance(prompt, str):
            prompt = model.tokenize(prompt)
        with self._lock:
            frame = sample(
                model,
                prompt,
                body.get("n", 1),
                seed=body.get("seed", 0),
                max_tokens=body["max_tokens"],
                slots=8,
            )
            logprobs = None
            if body.get("prompt_logprobs") is not None:
                scores = score(model, [(prompt[:1], prompt[1:])], slots=1).log_probabilities
                logprobs = [
                    None,
                    *(
                        {str(t): {"logprob": float(x)}}
                        for t, x in zip(prompt[1:], scores, strict=True)
                    ),
                ]
        end = next(iter(model.eog))
        choices = []
        for row in frame.iter_rows(named=True):
            ids = row["question_tokens"] + [end] * (row["question_finish"] == "stop")
            choices.append(
                {
                    "index": row["index"],
                    "text": row["question"],
                    "finish_reason": row["question_finish"],
                    "token_ids": ids if body.get("return_token_ids") else None,
                    "logprobs": {"token_logprobs": [row["question_log_likelihood"]]},
                    "prompt_logprobs": logprobs,
                }
            )
        # Servers may give them in any order.
        return {
            "choices": choices[::-1],
            "usage": {"prompt_tokens": len(prompt) + self.added},
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        routes = [Route("/v1/models", self._models), Route("/version", self._version)]
        if self.tells:
            routes.append(Route("/tokenize", self._tokenize, methods=["POST"]))
        if not self.chat_only:
            routes.append(Route("/v1/completions", self._completions, methods=["POST"]))
        config = uvicorn.Config(
            Starlette(routes=routes), host="127.0.0.1", port=self.port, log_level="error"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield self
        finally:
            server.should_exit = server.force_exit = True
            thread.join(10)
