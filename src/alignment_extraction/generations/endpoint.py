"""Generations from a server with an OpenAI-compatible `/v1/completions`: vLLM, SGLang, llama.cpp.

    server = Server("http://127.0.0.1:8000/v1", "allenai/OLMo-2-1124-7B-Instruct")
    with Endpoint(server) as sampler:
        asked = sampler.asked("user", answers=False)
        frame = sampler.draw(samples=2000, seed=0, max_tokens=256, **asked)

Prompts go out as token ids where the server tokenises, else as text with its special tokens spelt
out, and never through a chat template.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from alignment_extraction.engine.request import Request, Turn, table
from alignment_extraction.engine.scoring import TokenScores
from alignment_extraction.files import InputError
from alignment_extraction.generations.prefix import Words, derive_turns, ending_of
from alignment_extraction.generations.sampler import Progress
from alignment_extraction.generations.server import USE_ANOTHER, Server
from alignment_extraction.generations.turns import Texts, shared_start
from alignment_extraction.settings.studies import LiteralPrefix, PrefixForm
from alignment_extraction.statistics import named_seed

_PER_REQUEST = 8
"""Samples of one request: they share the prompt, and a lost request loses no more."""


class Endpoint:
    """A sampler that asks a server; a context manager, which closes it. See `sampler.Sampler`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._checked: set[str] = set()
        self._per_request = _PER_REQUEST

    def turns(self, prefix: PrefixForm | LiteralPrefix) -> tuple[str, Texts]:
        """A prefix and the texts around what is said behind it.

        What stands between question and answer is empty where neither prefix nor server tells it.

        Raises:
            InputError: the server's chat template gives no such prefix, or it tells none.
        """
        template = self._server.template
        try:
            texts, user = derive_turns(*template) if template else (Texts("", ""), "")
        except InputError as error:
            if not isinstance(prefix, LiteralPrefix):
                raise InputError(f"{self._server.url}: {error}") from error
            texts, user = Texts("", ""), ""
        if isinstance(prefix, LiteralPrefix):
            return prefix.text, replace(texts, middle=prefix.end or texts.middle)
        first = "".join(Words().conversation(texts.before)[:1])
        bos = first if Words().special(first) else ""
        found = {"full": texts.before, "user": user, "bos": bos}.get(prefix)
        if not found:
            raise InputError(
                f"{self._server.url}: prefix {prefix!r} cannot be derived, as the server "
                f"{'has it in no' if template else 'tells no chat'} template; give the prefix as a "
                "literal {name, text, end}"
            )
        return found, texts

    def asked(self, prefix: PrefixForm | LiteralPrefix, *, answers: bool) -> dict[str, Any]:
        """See `Sampler.asked`; prefix and header are texts."""
        text, turns = self.turns(prefix)
        header = turns.middle
        if answers and not header:
            raise InputError(
                f"{self._server.url}: no answer can be drawn, as the assistant's header is "
                "unknown; give the prefix as a literal {name, text, end}"
            )
        tail, end = ending_of(header)
        # A last space is the next word's.
        bare, bare_header = text.rstrip(" "), header.rstrip(" ")
        self._check_prefix(bare)
        return {
            "prefix": bare,
            "answer_header": bare_header if answers else None,
            "end_text": end,
            "tails": (tail, ending_of(turns.after)[0]),
            "leads": (text[len(bare) :], header[len(bare_header) :]),
        }

    def draw(self, *, progress: Progress | None = None, **options: Any) -> pl.DataFrame:
        """See `Sampler.draw`.

        Tokens are null where the server does not tell them, and log-likelihoods where it gives
        none. A server that leaves the end token out of its log-probabilities (llama-cpp-python's)
        leaves it out of the log-likelihood too.

        Raises:
            InputError: the server refuses, adds something to the prefix, or does not come back
                within its tries.
        """
        request: Request[str] = Request(**options)
        self._check_prefix(request.prefix)
        size, last = self._per_request, request.first + request.samples

        def group(number: int) -> list[tuple[int, Turn, Turn | None]]:
            turns = self._ask(request, request.prefix, size, str(number), request.end_text)
            made = []
            for index, turn in enumerate(turns, number * size):
                if not request.first <= index < last:
                    continue
                answer = None
                if request.answer_header is not None and turn.finish == "stop":
                    prompt = request.prefix + turn.text.removesuffix(request.tails[0])
                    prompt += request.answer_header
                    (answer,) = self._ask(request, prompt, 1, f"{index}/answer")
                made.append((index, turn, answer))
            return made

        rows: list[tuple[int, Turn, Turn | None]] = []
        drawn = 0
        for made in self._server.in_parallel(group, range(request.first // size, -(-last // size))):
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

        return table(
            [index for index, _, _ in rows],
            [said(question, 0) for _, question, _ in rows],
            [said(answer, 1) for _, _, answer in rows],
        )

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
        """log p(token | what stands before it) of texts.

        Args:
            texts: context, text and what ends it, tokenised together each.

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
            body = {"prompt": whole, "max_tokens": 1, "temperature": 1.0, "prompt_logprobs": 0}
            choices = self._server.complete(body) if whole else [{}]
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

    def _prompt(self, text: str) -> list[int] | str:
        return self._server.tokens(text) or text

    def _check_prefix(self, prefix: str) -> None:
        """See how the server takes a prefix, and that it adds nothing to it.

        Raises:
            InputError: it adds a template or a beginning-of-sequence token.
        """
        if prefix in self._checked:
            return
        prompt = self._prompt(prefix)
        body = {"prompt": prompt, "max_tokens": 8, "temperature": 1.0, "n": 2, "seed": 1}
        status, found = self._server.ask("POST", "/completions", self._server.dialect | body)
        if status != 200:
            raise self._server.refusal(status, found)
        given = (found.get("usage") or {}).get("prompt_tokens")
        if isinstance(prompt, list) and given not in (None, len(prompt)):
            raise InputError(
                f"{self._server.url}: puts {given} tokens in front of the model where the prefix "
                f"has {len(prompt)}: it adds a chat template or a beginning-of-sequence token; "
                f"{USE_ANOTHER}"
            )
        texts = [choice.get("text") for choice in found.get("choices") or []]
        # Some servers leave out `n`, or give it the same seed n times.
        if len(texts) != 2 or texts[0] == texts[1]:
            self._per_request = 1
        self._checked.add(prefix)

    def _ask(
        self, request: Request[str], prompt: str, n: int, name: str, end_text: str | None = None
    ) -> list[Turn]:
        """`n` turns after a prompt: questions with their `end_text`, or answers without one."""
        limit = request.max_answer_tokens if end_text is None else request.max_tokens
        body: dict[str, Any] = {"temperature": request.temperature, "top_p": request.top_p}
        body |= self._server.dialect
        cut = {"top_k": request.top_k, "min_p": request.min_p}
        body |= {key: value for key, value in cut.items() if value}
        if end_text:
            body["stop"] = [end_text]
            # Special tokens are in no text, so one that ends the question is named by its id.
            if self._server.owner in ("vllm", "sglang") and Words().special(end_text):
                body["stop_token_ids"] = (self._server.tokens(end_text) or [])[-1:]
        # Signed 32 bits hold the seed in every server.
        seed = named_seed(request.seed, name) % 2**31
        body |= {"prompt": self._prompt(prompt), "n": n, "max_tokens": limit, "seed": seed}
        choices = self._server.complete(body | {"logprobs": 1})
        if len(choices) != n:
            raise InputError(
                f"{self._server.url}: gave {len(choices)} of {n} completions; {USE_ANOTHER}"
            )
        return [self._turn(choice) for choice in choices]

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
