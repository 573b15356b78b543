"""Generations from a server with an OpenAI-compatible `/v1/completions`: vLLM, SGLang, llama.cpp.

    server = Server("http://127.0.0.1:8000/v1", "allenai/OLMo-2-1124-7B-Instruct")
    with Model(vocabulary) as tokens, Endpoint(server, vocabulary=tokens) as sampler:
        frame = sampler.draw(prefix, 2000, seed=0, max_tokens=256)

Prompts go out as token ids where the server takes them, else as text with its special tokens
spelt out, and never through a chat template.
"""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.sampling import SCHEMA
from alignment_extraction.engine.scoring import TokenScores
from alignment_extraction.engine.slots import EndText
from alignment_extraction.files import InputError
from alignment_extraction.generations.server import USE_ANOTHER, Server
from alignment_extraction.statistics import named_seed

Prompt = Sequence[int] | str

_PER_REQUEST = 8
"""Samples of one request: they share the prompt, and a lost request loses no more."""


class _Turn(NamedTuple):
    text: str
    tokens: list[int] | None
    finish: str
    log_likelihood: float | None


class _Ending(NamedTuple):
    keys: dict[str, Any]
    """Of the request."""
    text: EndText | None
    """Finds a text that ended the turn among its tokens."""


class Endpoint:
    """A sampler that asks a server; a context manager, which closes it. See `sampler.Sampler`.

    Args:
        server: the server and its model.
        vocabulary: a GGUF of the same vocabulary, which tells token ids, texts and end tokens;
            without one, prefixes and headers are texts.
    """

    def __init__(self, server: Server, *, vocabulary: Model | None = None) -> None:
        self._server, self._vocabulary = server, vocabulary
        self._checked: set[Prompt] = set()
        self._ids = server.takes_ids  # whether prompts go out as ids
        self._per_request = _PER_REQUEST

    def draw(
        self,
        prefix: Prompt,
        samples: int,
        *,
        seed: int,
        first: int = 0,
        max_tokens: int,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        answer_header: Prompt | None = None,
        max_answer_tokens: int = 0,
        end_text: str = "",
        leads: tuple[str, str] = ("", ""),
        tails: tuple[str, str] = ("", ""),
        rest: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> pl.DataFrame:
        """See `Sampler.draw`.

        Token lists are null where neither the server nor `vocabulary` tells them, and
        log-likelihoods where the server gives none. A server that leaves the end token out of its
        log-probabilities (llama-cpp-python's) leaves it out of the log-likelihood too. `rest` is
        not needed: the header follows whole, however the question ended.

        Raises:
            InputError: the server refuses, adds something to the prefix, or does not come back
                within its tries.
        """
        self._check_prefix(prefix)
        common: dict[str, Any] = {"temperature": temperature, "top_p": top_p}
        common |= self._server.dialect
        common |= ({"top_k": top_k} if top_k else {}) | ({"min_p": min_p} if min_p else {})
        question_ending, answer_ending = self._ending(end_text), self._ending("")
        size = self._per_request

        def group(number: int) -> list[tuple[int, _Turn, _Turn | None]]:
            body = {"n": size, "seed": named_seed(seed, str(number)), "max_tokens": max_tokens}
            made = []
            turns = self._ask(prefix, common | body, question_ending)
            for index, turn in enumerate(turns, number * size):
                if not first <= index < first + samples:
                    continue
                answer = None
                if answer_header is not None and turn.finish == "stop":
                    body = {"n": 1, "seed": named_seed(seed, f"{index}/answer")}
                    body |= {"max_tokens": max_answer_tokens}
                    prompt = self._joined(prefix, turn, answer_header)
                    (answer,) = self._ask(prompt, common | body, answer_ending)
                made.append((index, turn, answer))
            return made

        rows: list[tuple[int, _Turn, _Turn | None]] = []
        groups = range(first // size, -(-(first + samples) // size))
        for made in self._server.in_parallel(group, groups):
            rows += made
            if progress is not None:
                drawn = sum(len(t.tokens or ()) for _, *turns in made for t in turns if t)
                progress(len(rows), drawn)
        return _frame(rows, leads, tails)

    def about(self) -> dict[str, str]:
        """See `Sampler.about`: the server, its version and address, and the model's name."""
        return {
            "sampler": "endpoint",
            "server": self._server.owner or "unknown",
            "server_version": self._server.version,
            "endpoint": self._server.url,
            "model": self._server.model,
            "samples_per_request": str(self._per_request),
        }

    def score(self, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> TokenScores:
        """log p(target token | context, earlier target tokens), as `scoring.score` gives it.

        Args:
            texts: (context tokens, target tokens) each; the context holds at least one token.

        Raises:
            InputError: the server does not give `prompt_logprobs` (vLLM does), or see `draw`.
        """

        def one(text: tuple[Sequence[int], Sequence[int]]) -> list[float]:
            tokens = [*text[0], *text[1]]
            body = {"prompt": tokens, "max_tokens": 1, "temperature": 1.0, "prompt_logprobs": 0}
            choices = self._server.complete(body) if self._server.takes_ids else [{}]
            found = choices[0].get("prompt_logprobs")
            if not isinstance(found, list) or len(found) != len(tokens):
                raise InputError(
                    f"{self._server.url}: gives no prompt_logprobs, so it cannot score texts; "
                    "score with the model's GGUF, or serve it with vLLM"
                )
            places = range(len(text[0]), len(tokens))
            return [float(found[i][str(tokens[i])]["logprob"]) for i in places]

        rows = list(self._server.in_parallel(one, texts))
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        return TokenScores(np.array([x for row in rows for x in row], np.float32), offsets)

    # Prompts -----------------------------------------------------------------------------------

    def _check_prefix(self, prefix: Prompt) -> None:
        """See how the server takes a prefix, and that it adds nothing to it.

        Raises:
            InputError: it adds a template or a beginning-of-sequence token.
        """
        prefix = prefix if isinstance(prefix, str) else tuple(prefix)
        if prefix in self._checked:
            return
        body = {**self._server.dialect, "max_tokens": 8, "temperature": 1.0, "n": 2, "seed": 1}
        status, found = self._server.ask(
            "POST", "/completions", {**body, "prompt": self._prompt(prefix)}
        )
        if status in (400, 422) and self._ids and not isinstance(prefix, str):
            self._ids = False
            status, found = self._server.ask(
                "POST", "/completions", {**body, "prompt": self._prompt(prefix)}
            )
        if status != 200:
            raise self._server.refusal(status, found)
        prompt = self._prompt(prefix)
        if not isinstance(prompt, str):
            expected: int | None = len(prompt)
        else:
            # Text is tokenised anew there, so its own tokens count.
            expected = len(self._vocabulary.tokenize(prompt)) if self._vocabulary else None
        given = (found.get("usage") or {}).get("prompt_tokens")
        if None not in (expected, given) and given != expected:
            raise InputError(
                f"{self._server.url}: puts {given} tokens in front of the model where the prefix "
                f"has {expected}: it adds a chat template or a beginning-of-sequence token; "
                f"{USE_ANOTHER}"
            )
        texts = [choice.get("text") for choice in found.get("choices") or []]
        # Some servers leave out `n`, or give it the same seed n times.
        if len(texts) != 2 or texts[0] == texts[1]:
            self._per_request = 1
        self._checked.add(prefix)

    def _prompt(self, tokens: Prompt) -> list[int] | str:
        if isinstance(tokens, str):
            return tokens
        return list(tokens) if self._ids else self._text(tokens)

    def _text(self, tokens: Prompt) -> str:
        """Tokens as text, special ones spelt out."""
        if isinstance(tokens, str):
            return tokens
        if self._vocabulary is None:
            raise InputError(
                f"{self._server.url}: takes no token ids; name a GGUF with its vocabulary, or give "
                "the prefix as a literal {name, text}"
            )
        return "".join(self._vocabulary.piece(token) for token in tokens)

    def _joined(self, prefix: Prompt, question: _Turn, header: Prompt) -> Prompt:
        """The prompt that asks for an answer."""
        parts = (prefix, question.tokens, header)
        if self._ids and not any(part is None or isinstance(part, str) for part in parts):
            return [token for part in parts for token in part or ()]  # type: ignore[misc]
        return self._text(prefix) + question.text + self._text(header)

    # Turns -------------------------------------------------------------------------------------

    def _ending(self, text: str) -> _Ending:
        keys: dict[str, Any] = {"stop": [text.strip()]} if text.strip() else {}
        if self._vocabulary is None:
            return _Ending(keys, None)
        if self._server.owner in ("vllm", "sglang"):
            keys["stop_token_ids"] = sorted(self._vocabulary.eog)
        pieces = self._vocabulary.pieces() if text.strip() else []
        return _Ending(keys, EndText(text, pieces) if pieces else None)

    def _ask(self, prompt: Prompt, body: Mapping[str, Any], ending: _Ending) -> list[_Turn]:
        """The turns after one prompt."""
        choices = self._server.complete(
            {
                **body,
                **ending.keys,
                "prompt": self._prompt(prompt),
                # Signed 32 bits hold it in every server.
                "seed": body["seed"] % 2**31,
                "logprobs": 1,
            }
        )
        if len(choices) != body["n"]:
            raise InputError(
                f"{self._server.url}: gave {len(choices)} of {body['n']} completions; {USE_ANOTHER}"
            )
        return [self._turn(choice, ending.text) for choice in choices]

    def _turn(self, choice: Mapping[str, Any], end: EndText | None) -> _Turn:
        """One completion, as whichever server words it."""
        finish = choice.get("finish_reason")
        if finish not in ("stop", "length"):
            raise InputError(
                f"{self._server.url}: ended a completion by {finish!r}, neither by an end token "
                "nor at the limit; switch off what filters or cuts completions there"
            )
        given = choice.get("logprobs") or {}
        ids: list[Any] = [None]
        values = given.get("token_logprobs") or []
        if (content := given.get("content")) is not None:  # llama-server
            ids = [entry.get("id") for entry in content]
            values = [entry.get("logprob") for entry in content]
        ids = choice.get("token_ids") or ids
        known = [float(value) for value in values if value is not None]
        text, tokens = str(choice.get("text")), None
        if self._vocabulary is not None and None in ids:
            tokens = self._vocabulary.tokenize(text, special=False)
        elif self._vocabulary is not None:
            tokens = [int(token) for token in ids]
            if tokens and tokens[-1] in self._vocabulary.eog:
                tokens.pop()
            found = end.find(tokens) if end else None
            if found is not None:
                tokens = tokens[: found[0]]
            else:
                text = self._vocabulary.detokenize(tokens)
        return _Turn(text, tokens, finish, sum(known) if known else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()


def _frame(
    rows: Sequence[tuple[int, _Turn, _Turn | None]],
    leads: tuple[str, str],
    tails: tuple[str, str],
) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {"index": [index for index, *_ in rows]}
    for place, name in enumerate(("question", "answer")):
        turns: list[Any] = [row[1 + place] for row in rows]
        columns[name] = [
            turn and turn.text.removeprefix(leads[place]).removesuffix(tails[place])
            for turn in turns
        ]
        columns[f"{name}_tokens"] = [turn and turn.tokens for turn in turns]
        columns[f"{name}_finish"] = [turn and turn.finish for turn in turns]
        columns[f"{name}_log_likelihood"] = [turn and turn.log_likelihood for turn in turns]
    return pl.DataFrame(columns, schema=SCHEMA)
