"""Curation: from what a model wrote to conversations that one would train on, with counts.

The steps, in this order; each looks only at what the earlier ones left:

1. `truncated`: question or answer reached its limit of tokens instead of an end token.
2. `empty`: question or answer is missing or blank.
3. `ill-formed`: a broken character, a control character, or a mark of the chat template in a text.
4. `repeated`: a text says the same over and over: fewer than half of its word 4-grams are distinct
   (after the repetition rules of Rae et al. 2021, arXiv 2112.11446, table A1).
5. `exact-duplicate`: question and answer were there before, but for case and white space.
6. `near-duplicate`: the word 5-grams of question and answer have a Jaccard similarity to those of
   an earlier generation that reaches a threshold (Lee et al. 2022, arXiv 2107.06499).
"""

from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from alignment_extraction.training.problems import ANSWER_MARK

COLUMNS = ("index", "question", "answer", "question_finish", "answer_finish")  # of generations
COUNTS = pl.Schema(
    {"step": pl.String(), **dict.fromkeys(("before", "dropped", "left"), pl.Int64())}
)
"""One row for each step of a curation, in order."""

# A carriage return before a line feed is a line break; alone it is a control character.
_BROKEN = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd]|\r(?:[^\n]|$)|<\|[a-z_]+\|>"
_TEXTS = ("question", "answer")
_ROUNDING = 1e-9


@dataclass
class Curated:
    """Rows that steps are applied to one after another, and what each step dropped."""

    rows: pl.DataFrame
    counts: pl.DataFrame = field(default_factory=COUNTS.to_frame)

    def keep(self, step: str, where: pl.Expr | pl.Series) -> None:
        """Go on with the rows where `where` is true; the step is named after what it drops."""
        self.select(step, self.rows.filter(where))

    def select(self, step: str, rows: pl.DataFrame) -> None:
        """Go on with `rows`, a selection of those that are there."""
        before, left = self.rows.height, rows.height
        counted = pl.DataFrame([[step, before, before - left, left]], schema=COUNTS, orient="row")
        self.rows, self.counts = rows, pl.concat([self.counts, counted])


def word_runs(texts: pl.Series, length: int) -> pl.Series:
    """The runs of `length` words of each text, in lower case, joined by spaces, as List(String).

    A text of fewer words has one run, all of it; one without words has none.
    """
    words = [pl.element().shift(-i).fill_null("") for i in range(length)]
    runs = pl.concat_str(words, separator=" ").str.strip_chars_end()
    lists = texts.str.to_lowercase().str.extract_all(r"\S+").alias("runs").to_frame()
    whole = pl.max_horizontal(pl.col("runs").list.len().cast(pl.Int64) - length + 1, 1)
    return lists.select(pl.col("runs").list.eval(runs).list.head(whole)).to_series()


def _varied(texts: pl.Series) -> pl.Series:
    runs = word_runs(texts, 4)
    return runs.list.n_unique() / runs.list.len() >= 0.5


def near_duplicates(sets: pl.Series, similarity: float) -> pl.Series:
    """Whether each set of tokens, List(String), has an earlier one of such a Jaccard similarity.

    No pair is missed: two sets of at most a tokens whose Jaccard similarity is at least t share one
    of the a - ta + 1 rarest tokens of either (prefix filtering: Chaudhuri et al. 2006; Bayardo et
    al. 2007), so only sets that share a rare token are compared.
    """
    rarest_first = pl.struct(pl.len().over("token"), "token").rank("dense")
    tokens = (
        pl.select(row=pl.int_range(len(sets)), token=sets)
        .explode("token")
        .drop_nulls()
        .unique()
        .select("row", token=rarest_first, size=pl.len().over("row"))
        .sort("row", "token")
        .lazy()
    )
    kept = pl.col("size") - (similarity * pl.col("size") - _ROUNDING).ceil() + 1
    rare = tokens.filter(pl.int_range(pl.len()).over("row") < kept)
    candidates = rare.join(rare, "token").filter(pl.col("row") < pl.col("row_right"))
    union = pl.col("size") + pl.col("size_right") - pl.col("shared")
    later = (
        candidates.select("row", "row_right")
        .unique()
        .join(tokens, "row")
        .join(tokens, left_on=["row_right", "token"], right_on=["row", "token"])
        .group_by("row", "row_right")
        .agg(pl.col("size", "size_right").first(), shared=pl.len())
        .filter(pl.col("shared") >= similarity * union - _ROUNDING)
        .select(pl.col("row_right").unique().implode())
        .collect(engine="streaming")
    )
    return pl.select(pl.int_range(len(sets)).is_in(later.to_series())).to_series()


def plain(column: str) -> pl.Expr:
    """The texts of a column in lower case with single spaces: what counts as the same text."""
    return pl.col(column).str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def final_answer(column: str) -> pl.Expr:
    """What follows the last "####" of a text, up to the line's end; null without any."""
    answer = pl.col(column).str.extract(rf"(?s).*{ANSWER_MARK}\s*([^\n]*)").str.strip_chars()
    return pl.when(answer != "").then(answer)


def curate(generations: pl.DataFrame, near_duplicate: float) -> Curated:
    """Keep the generations that one would train on (see the module for the steps).

    They have `COLUMNS`; `near_duplicate` is the Jaccard similarity in (0, 1] at which the later
    of two is dropped.
    """
    curated = Curated(generations)
    # Without an answer there is no finish of one: that is a matter of the next step.
    finished = pl.all_horizontal(pl.col(f"{text}_finish") == "stop" for text in _TEXTS)
    curated.keep("truncated", finished.fill_null(True))
    curated.keep("empty", pl.all_horizontal(pl.col(_TEXTS).str.strip_chars() != ""))
    curated.keep("ill-formed", ~pl.any_horizontal(pl.col(_TEXTS).str.contains(_BROKEN)))
    rows = curated.rows
    curated.keep("repeated", _varied(rows["question"]) & _varied(rows["answer"]))
    curated.keep("exact-duplicate", pl.struct(*map(plain, _TEXTS)).is_first_distinct())
    both = curated.rows.select(pl.concat_str(_TEXTS, separator="\n")).to_series()
    curated.keep("near-duplicate", ~near_duplicates(word_runs(both, 5), near_duplicate))
    return curated


def trl_columns(rows: pl.DataFrame, family: Literal["sft", "rl"]) -> pl.DataFrame:
    """Questions and answers as TRL's trainers read them.

    For `trl sft` the column messages (both turns); for `trl grpo` prompt (the user's turn) and
    solution (the final answer, or all of the answer where none is marked).
    """
    asked = pl.struct(role=pl.lit("user"), content="question")
    answered = pl.struct(role=pl.lit("assistant"), content="answer")
    if family == "sft":
        return rows.select(messages=pl.concat_list(asked, answered))
    solution = final_answer("answer").fill_null(pl.col("answer"))
    return rows.select(prompt=pl.concat_list(asked), solution=solution)
