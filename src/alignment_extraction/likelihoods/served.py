"""Log-likelihood of a corpus's questions and answers under a model that a server has."""

import zlib
from contextlib import ExitStack

import polars as pl

from alignment_extraction.generations.endpoint import Endpoint
from alignment_extraction.generations.prefix import ending_of
from alignment_extraction.generations.server import Server
from alignment_extraction.likelihoods.likelihood import KEYS, SCHEMA, statistics
from alignment_extraction.settings.studies import LiteralPrefix, PrefixForm


def served_likelihood(
    model: tuple[str, str],
    corpus: pl.DataFrame,
    *,
    prefix: PrefixForm | LiteralPrefix,
    template_of: tuple[str, str] | None = None,
    risk_only: bool = False,
) -> pl.DataFrame:
    """Score every question and answer of `corpus` inside the conversation.

    Context, text and what ends it are tokenised together by the server; of Min-K%++ there is no
    value, as servers do not tell how the probabilities of other tokens are spread.

    Args:
        model: address and name of the model.
        corpus: columns id, question, answer (null or empty where a row has none).
        prefix: before a question.
        template_of: address and name of a model whose chat template is used instead.
        risk_only: questions alone.

    Returns:
        One row for each text, in `likelihood.SCHEMA`.

    Raises:
        InputError: the server gives no `prompt_logprobs` or refuses, or the prefix is unknown.
    """
    with ExitStack() as stack:
        endpoint = stack.enter_context(Endpoint(Server(*model)))
        speaker = stack.enter_context(Endpoint(Server(*template_of))) if template_of else endpoint
        before, around = speaker.turns(prefix)
        tail, end = ending_of(around.middle)
        keys: list[tuple[object, ...]] = []
        texts: list[tuple[str, str, str]] = []
        for name, question, answer in corpus.select("id", "question", "answer").iter_rows():
            told = [("question", before, question or "", tail + end)]
            if answer and not risk_only:
                asked = before + (question or "") + around.middle
                told.append(("answer", asked, answer, ""))
            for target, context, text, behind in told:
                texts.append((context, text, behind))
                keys.append((name, target, True, before, 0, len(zlib.compress(text.encode()))))
        scores, lengths, ends = endpoint.score(texts)
    found = statistics(scores, lengths.clip(0), ends)
    found[:, lengths < 0] = float("nan")
    table = pl.DataFrame(keys, schema=KEYS, orient="row").with_columns(tokens=lengths.clip(0))
    numbers = dict(zip(SCHEMA.names()[6:], found, strict=True))
    return table.with_columns(pl.DataFrame(numbers, nan_to_null=True)).cast(SCHEMA)
