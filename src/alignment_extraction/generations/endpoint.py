"""Generations from a server with an OpenAI-compatible `/v1/completions`: vLLM, SGLang, llama.cpp.

    server = Server("http://127.0.0.1:8000/v1", "allenai/OLMo-2-1124-7B-Instruct")
    user = LiteralPrefix(name="user", text="<|endoftext|><|user|>\n", end="\n<|assistant|>\n")
    with Endpoint(server) as sampler:
        asked = sampler.asked(user, answers=False)
        frame = sampler.draw(samples=2000, seed=0, max_tokens=256, **asked)

Prompts go out as token ids where the server tokenises, else as text with its special tokens spelt
out, and never through a chat template.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from alignment_extraction.engine.request import Request, Turn, table
from alignment_extraction.engine.scoring import TokenScores
from alignment_extraction.files import InputError
from alignment_extraction.generations.sampler import Progress
from alignment_extraction.generations.server import USE_ANOTHER, Server
from alignment_extraction.generations.turns import shared_start
from alignment_extraction.settings.studies import LiteralPrefix, PrefixForm
from alignment_extraction.statistics import named_seed

SPECIAL = re.compile(
    r"[<〈][|\uff5c][^<>|\uff5c\s]+[|\uff5c][>〉]|</?[A-Za-z_][\w.:-]*>|<\|\w+>|<\w+\|>|<<\w+>>"
    r"|\[/?[A-Za-z_]*[A-Z][A-Z_]+\]|\]~!?b[\[\]]|\[e~\["
)
"""What is written like a special token: `<|user|>`, `[INST]`, `</s>`."""

_PER_REQUEST = 8
"""Samples of one request: they share the prompt, and a lost request loses no more."""


def ending_of(text: str) -> tuple[str, str]:
    """What stands between something said and its end, and the end, in the `text` behind it.

    The end is the first special token, or the plain text before that.
    """
    special = SPECIAL.search(text)
    end = text[: special and special.start()].strip() or (special[0] if special else "")
    return (text.partition(end)[0], end) if end else (text, "")


class Endpoint(AbstractContextManager["Endpoint"]):
    """A sampler that asks a server; a context manager, which closes it. See `sampler.Sampler`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        # Other servers leave out `n`, or give it the same seed n times.
        self._per_request = _PER_REQUEST if server.owner in ("vllm", "sglang") else 1

    def literal(self, prefix: PrefixForm | LiteralPrefix, answers: bool = False) -> LiteralPrefix:
        """A prefix as texts; `InputError` where what it lacks would be in the model's file."""
        if isinstance(prefix, LiteralPrefix) and (prefix.end or not answers):
            return prefix
        lacks = "no answer can be drawn, as the assistant's header is unknown"
        if not isinstance(prefix, LiteralPrefix):
            lacks = f"prefix {prefix!r} cannot be derived without the model's file"
        raise InputError(
            f"{self._server.url}: {lacks}; give the prefix as a literal {{name, text, end}} "
            "(docs/models.md has those of many models)"
        )

    def asked(self, prefix: PrefixForm | LiteralPrefix, *, answers: bool) -> dict[str, Any]:
        """See `Sampler.asked`; prefix and header are texts."""
        prefix = self.literal(prefix, answers)
        tail, end = ending_of(prefix.end)
        # A last space is the next word's.
        bare, header = prefix.text.rstrip(" "), prefix.end.rstrip(" ")
        return {
            "prefix": bare,
            "answer_header": header if answers else None,
            "end_text": end,
            "tails": (tail, ""),
            "leads": (prefix.text[len(bare) :], prefix.end[len(header) :]),
        }

    def draw(self, *, progress: Progress | None = None, **options: Any) -> pl.DataFrame:
        """See `Sampler.draw`.

        Tokens and log-likelihoods are null where the server tells none. A server that leaves the
        end token out of its log-probabilities (llama-cpp-python's) leaves it out of these too.

        Raises:
            InputError: the server refuses, or adds to the prefix; see `Server.complete`.
        """
        request: Request[str] = Request(**options)
        server, size, last = self._server, self._per_request, request.first + request.samples
        common = {"temperature": request.temperature, "top_p": request.top_p} | server.dialect
        cut = {"top_k": request.top_k, "min_p": request.min_p}
        common |= {"logprobs": 1} | {key: value for key, value in cut.items() if value}
        ends: dict[str, Any] = {"stop": [request.end_text]} if request.end_text else {}
        # Special tokens are in no text, so one that ends the question is named by its id.
        if server.owner in ("vllm", "sglang") and SPECIAL.fullmatch(request.end_text):
            ends["stop_token_ids"] = (server.tokens(request.end_text) or [])[-1:]
        prefix = server.tokens(request.prefix) or request.prefix

        def ask(prompt: list[int] | str, n: int, name: str, body: dict[str, Any]) -> list[Turn]:
            # Signed 32 bits hold the seed in every server.
            seed = named_seed(request.seed, name) % 2**31
            choices = server.complete(prompt, common | body | {"n": n, "seed": seed})
            if len(choices) != n:
                raise InputError(
                    f"{server.url}: gave {len(choices)} of {n} completions; {USE_ANOTHER}"
                )
            return [self._turn(choice) for choice in choices]

        def group(number: int) -> list[tuple[int, Turn, Turn | None]]:
            turns = ask(prefix, size, str(number), ends | {"max_tokens": request.max_tokens})
            made = []
            for index, turn in enumerate(turns, number * size):
                if not request.first <= index < last:
                    continue
                answer = None
                if request.answer_header is not None and turn.finish == "stop":
                    text = request.prefix + turn.text.removesuffix(request.tails[0])
                    text += request.answer_header
                    limit = {"max_tokens": request.max_answer_tokens}
                    (answer,) = ask(server.tokens(text) or text, 1, f"{index}/answer", limit)
                made.append((index, turn, answer))
            return made

        rows: list[tuple[int, Turn, Turn | None]] = []
        drawn = 0
        for made in server.in_parallel(group, range(request.first // size, -(-last // size))):
            rows += made
            drawn += sum(len(t.tokens or ()) for _, *turns in made for t in turns if t)
            if progress is not None:
                progress(len(rows), drawn)

        def said(turn: Turn | None, place: int) -> Turn | None:
            if turn is None:
                return None
            tail = request.tails[place] if turn.finish == "stop" else ""
            text = turn.text.removeprefix(request.leads[place]).removesuffix(tail)
            return turn._replace(text=text)

        indices, *turns = zip(*rows, strict=True)
        return table(indices, *([said(turn, i) for turn in some] for i, some in enumerate(turns)))

    def about(self, prefix: Any) -> dict[str, str]:
        """See `Sampler.about`: the server, its version and address, and the model's name."""
        return {
            "sampler": "endpoint",
            "server": self._server.owner or "unknown",
            "server_version": self._server.version,
            "endpoint": self._server.url,
            "model": self._server.model,
            "model_sha256": "not known, as a server has it",
            "samples_per_request": str(self._per_request),
            "prefix": prefix,
        }

    def score(
        self, texts: Sequence[tuple[str, str, str]]
    ) -> tuple[TokenScores, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Log-probabilities of texts: context, text and what ends it each, tokenised together.

        Returns:
            Scores of the tokens of text and end; numbers of tokens of each text, -1 where context,
            text and end are longer than the model's context, and of each end.

        Raises:
            InputError: the server does not give `prompt_logprobs` (vLLM does), or see `draw`.
        """

        def one(text: tuple[str, str, str]) -> tuple[list[float], int]:
            before, asked, whole = (
                self._server.tokens("".join(text[:parts])) or [] for parts in (1, 2, 3)
            )
            if self._server.longest is not None and len(whole) >= self._server.longest:
                return [], -1
            # A token that reaches over from the context belongs to the text.
            start = max(1, len(shared_start([before, whole])))
            stop = len(shared_start([asked, whole]))
            body = {"max_tokens": 1, "temperature": 1.0, "prompt_logprobs": 0}
            choices = self._server.complete(whole, body) if whole else [{}]
            found = choices[0].get("prompt_logprobs")
            if not isinstance(found, list) or len(found) != len(whole):
                raise InputError(
                    f"{self._server.url}: gives no prompt_logprobs, so it cannot score texts; "
                    "serve the model with vLLM, or leave `likelihood` out of the study"
                )
            places = range(start, len(whole))
            return [float(found[i][str(whole[i])]["logprob"]) for i in places], stop - start

        rows = list(self._server.in_parallel(one, texts))
        lengths = np.array([length for _, length in rows], np.int64)
        sizes = np.array([len(values) for values, _ in rows], np.int64)
        values = np.array([x for values, _ in rows for x in values], np.float32)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        return TokenScores(values, offsets), lengths, sizes - np.maximum(lengths, 0)

    def _turn(self, choice: Mapping[str, Any]) -> Turn:
        """One completion, as whichever server words it."""
        finish = choice.get("finish_reason")
        if finish not in ("stop", "length"):
            raise InputError(
                f"{self._server.url}: ended a completion by {finish!r}, neither by an end token "
                "nor at the limit; switch off what filters or cuts completions there"
            )
        given = choice.get("logprobs") or {}
        values = given.get("token_logprobs") or []
        if (content := given.get("content")) is not None:  # llama-server
            values = [entry.get("logprob") for entry in content]
        known = [float(value) for value in values if value is not None]
        tokens = choice.get("token_ids")
        if tokens and finish == "stop":
            # The end token; where a text ended the turn, which tokens are its own is not told.
            tokens = None if isinstance(choice.get("stop_reason"), str) else tokens[:-1]
        return Turn(str(choice.get("text")), tokens, finish, sum(known) if known else None)

    def __exit__(self, *_: object) -> None:
        self._server.close()
