"""What is asked of a sampler, and the table that it gives."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import polars as pl

from alignment_extraction.files import InputError

_TURN = {"": pl.String(), "_tokens": pl.List(pl.Int32()), "_finish": pl.String()}
_TURN |= {"_log_likelihood": pl.Float64()}
SCHEMA = pl.Schema(
    {"index": pl.Int64()}
    | {turn + name: kind for turn in ("question", "answer") for name, kind in _TURN.items()}
)
"""Samples, in order of index, see docs/files.md: the texts without special tokens; their tokens
without the end token or end text; `stop` or `length`; the log-likelihood in nats of the drawn
tokens (the end's too) under the model's own distribution. The answer's are null without one."""

Prompt = TypeVar("Prompt", Sequence[int], str)


@dataclass(frozen=True)
class Request(Generic[Prompt]):
    """Samples `first` to `first + samples - 1` of what a model writes after `prefix`.

    `InputError` names a number out of range or an empty prefix.

    Attributes:
        prefix: what every sample continues: token ids, or a text for servers.
        samples: at least 1.
        seed: 0 to 2^63 - 1; sample i is a function of the seed and i.
        max_tokens: most tokens of the question, the end token not counted.
        first: index of the first sample.
        temperature, top_k, top_p, min_p: see `Sampler`; the defaults are the model's own
            distribution, temperature 0 is greedy.
        answer_header: what is fed after a question that ended with "stop", instead of its end
            token, before the answer; None for questions alone.
        max_answer_tokens: most tokens of the answer; at least 1 with `answer_header`.
        end_text: a text that ends the question too, "" for none: the assistant's header where no
            end token comes before it, so that the model writes the header itself.
        tails: texts between question and end, and between the answer and its end token, that
            belong to neither.
        rest: how many of the header's last tokens are fed after `end_text`.
        leads: what the tokens before question and answer leave to their first words, such as a
            header's last space; no part of the texts.
    """

    prefix: Prompt
    samples: int
    seed: int
    max_tokens: int
    first: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    answer_header: Prompt | None = None
    max_answer_tokens: int = 0
    end_text: str = ""
    tails: tuple[str, str] = ("", "")
    rest: int = 0
    leads: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        for name, value, least in (
            ("number of samples", self.samples, 1),
            ("index of the first sample", self.first, 0),
            ("max_tokens", self.max_tokens, 1),
            ("max_answer_tokens", self.max_answer_tokens, int(bool(self.answer_header))),
        ):
            if value < least:
                raise InputError(f"{name} must be at least {least}, not {value}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed must be from 0 to 2^63 - 1, not {self.seed}")
        if self.max_answer_tokens and not self.answer_header:
            raise InputError(
                f"max_answer_tokens is {self.max_answer_tokens} but no answer_header is given"
            )
        if not self.prefix:
            raise InputError("the prefix is empty; give at least one token, such as the template's")


class Turn(NamedTuple):
    """A question or an answer of a table."""

    text: str
    tokens: Sequence[int] | None
    finish: str
    log_likelihood: float | None


def table(indices: Iterable[int], *turns: Sequence[Turn | None]) -> pl.DataFrame:
    """Samples in `SCHEMA`, of the questions and the answers of `indices`."""
    columns: list[Sequence[object]] = [list(indices)]
    columns += [[turn and turn[part] for turn in some] for some in turns for part in range(4)]
    return pl.DataFrame(columns, schema=SCHEMA)
