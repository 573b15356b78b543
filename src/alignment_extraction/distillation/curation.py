"""Curation: from what a model wrote to samples that one would train on, with counts at each step.

The steps, in this order; each looks only at what the earlier ones left:

1. `truncated`: question or answer reached its limit of tokens instead of an end token.
2. `empty`: question or answer is missing or blank.
3. `ill-formed`: a broken character, a control character, or a mark of the chat template in a text.
4. `repeated`: a text says the same over and over: fewer than half of its word 4-grams are distinct
   (after the repetition rules of Rae et al. 2021, arXiv 2112.11446, table A1).
5. `exact-duplicate`: question and answer were there before, but for case and white space.
6. `near-duplicate`: the word 5-grams of question and answer have a Jaccard similarity to
   those of an earlier sample that reaches a threshold (Lee et al. 2022, arXiv 2107.06499,
   section 4.2).

Then, for RL: `other-task` (not the form of any verifiable question) and `no-answer` (no final
answer). Single data sets go on from there: see `data_sets`.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import polars as pl

from alignment_extraction.corpora.clusters import near_duplicates
from alignment_extraction.distillation.questions import recognise, same_answer
from alignment_extraction.training.tasks import final_answer

COUNTS = pl.Schema(
    {"step": pl.String(), "before": pl.Int64(), "dropped": pl.Int64(), "left": pl.Int64()}
)
"""One row a step of a curation, in order."""

_BROKEN = r"[\x00-\x08\x0b-\x1f\x7f\ufffd]|<\|[a-z_]+\|>"
_REPEATED_WORDS, _DUPLICATE_WORDS = 4, 5
_LEAST_DISTINCT = 0.5


class Curated(NamedTuple):
    """Samples to train on."""

    rows: pl.DataFrame
    """The rows left, in order, all their columns."""
    counts: pl.DataFrame
    """Columns `COUNTS`."""


class Curation:
    """Rows that steps are applied to one after another, and what each dropped."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = rows
        self._counts: list[dict[str, Any]] = []

    def drop(self, step: str, where: pl.Expr | pl.Series) -> None:
        """Leave out the rows where `where` is true or null."""
        kept = self.rows.filter(~where)
        before, left = self.rows.height, kept.height
        self._counts.append(
            {"step": step, "before": before, "dropped": before - left, "left": left}
        )
        self.rows = kept

    def result(self, earlier: Curated | None = None) -> Curated:
        """The rows left, and the counts behind those of what it went on from."""
        counts = pl.DataFrame(self._counts, schema=COUNTS)
        return Curated(self.rows, pl.concat([earlier.counts, counts]) if earlier else counts)


def word_runs(texts: pl.Series, length: int) -> pl.Series:
    """The runs of `length` words of each text, in lower case, joined by spaces.

    A text of fewer words has one run: all of it.

    Returns:
        List(String), as long as `texts`.
    """
    words = (
        pl.DataFrame({"text": range(len(texts)), "word": texts.str.to_lowercase()})
        .with_columns(pl.col("word").str.extract_all(r"\S+|^\s*$"))
        .with_columns(number=pl.col("word").list.len())
        .explode("word")
        .with_columns(place=pl.int_range(pl.len()).over("text"))
    )
    later = [pl.col("word").shift(-i).over("text").fill_null("") for i in range(length)]
    return (
        words.with_columns(run=pl.concat_str(later, separator=" ").str.strip_chars_end())
        .filter((pl.col("place") == 0) | (pl.col("place") + length <= pl.col("number")))
        .group_by("text", maintain_order=True)
        .agg("run")["run"]
    )


def _says_the_same(texts: pl.Series) -> pl.Series:
    runs = word_runs(texts, _REPEATED_WORDS)
    return runs.list.n_unique() / runs.list.len() < _LEAST_DISTINCT


def plain(column: str) -> pl.Expr:
    """The texts of a column in lower case with single spaces: what counts as the same text."""
    return pl.col(column).str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def curate(generations: pl.DataFrame, near_duplicate: float) -> Curated:
    """Apply the steps that every data set has (see the module).

    Args:
        generations: columns question, answer, question_finish, answer_finish, and any others.
        near_duplicate: Jaccard similarity from which on the later of two samples is left out;
            chains of such pairs count as one (single linkage).

    Returns:
        The samples, columns as given.
    """
    curation = Curation(generations)
    texts = ("question", "answer")
    finished = pl.all_horizontal(pl.col(f"{text}_finish") == "stop" for text in texts)
    # Without an answer there is no finish of one: that is a matter of the next step.
    curation.drop("truncated", ~finished.fill_null(True))
    filled = pl.all_horizontal(
        (pl.col(text).str.strip_chars() != "").fill_null(False) for text in texts
    )
    curation.drop("empty", ~filled)
    broken = pl.any_horizontal(pl.col(text).str.contains(_BROKEN) for text in texts)
    curation.drop("ill-formed", broken)
    same = _says_the_same(curation.rows["question"]) | _says_the_same(curation.rows["answer"])
    curation.drop("repeated", same)
    curation.drop(
        "exact-duplicate", ~pl.struct(plain("question"), plain("answer")).is_first_distinct()
    )
    pairs = curation.rows.select(pl.concat_str("question", "answer", separator="\n"))
    runs = word_runs(pairs.to_series(), _DUPLICATE_WORDS)
    first = pl.Series(near_duplicates(runs, near_duplicate), dtype=pl.Int64)
    curation.drop("near-duplicate", first != pl.Series(range(len(first)), dtype=pl.Int64))
    return curation.result()


def with_labels(rows: pl.DataFrame) -> pl.DataFrame:
    """Add what the verifier knows of each sample.

    Args:
        rows: columns question and answer.

    Returns:
        The rows with task (see `questions.recognise`; null where unknown), label (the final answer
        of `answer`; null without one) and verdict (whether that is the right answer; null where the
        text does not determine it).
    """
    found = [recognise(question) for question in rows["question"]]
    labels = [final_answer(answer) or None for answer in rows["answer"]]
    verdicts = [
        None if question.answer is None or label is None else same_answer(label, question.answer)
        for question, label in zip(found, labels, strict=True)
    ]
    return rows.with_columns(
        pl.Series("task", [question.task for question in found], pl.String),
        pl.Series("label", labels, pl.String),
        pl.Series("verdict", verdicts, pl.Boolean),
    )


def curate_questions(samples: Curated) -> Curated:
    """Go on to questions for RL with an answer that counts as right.

    Args:
        samples: of `curate`.

    Returns:
        The samples with the columns of `with_labels`.
    """
    curation = Curation(with_labels(samples.rows))
    curation.drop("other-task", pl.col("task").is_null())
    curation.drop("no-answer", pl.col("label").is_null())
    return curation.result(samples)


def without_questions(samples: Curated, questions: Iterable[pl.Series]) -> Curated:
    """Leave out samples whose question is one of some that are to be asked in an examination.

    Args:
        samples: of `curate`.
        questions: texts, named `question`; the same text is one that agrees but for case and white
            space.

    Returns:
        The samples left, with the step `in-examination`.
    """
    curation = Curation(samples.rows)
    taken = pl.concat([pl.Series("question", [], pl.String), *questions]).to_frame()
    keys = taken.select(plain("question"))["question"].unique()
    curation.drop("in-examination", plain("question").is_in(keys.implode()))
    return curation.result(samples)
