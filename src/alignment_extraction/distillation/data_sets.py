"""The data sets that students are trained on, and the questions that they are evaluated with.

docs/distillation.md describes the arms. Each has every row once, all arms of one family equally
many (the smallest decides, the others are drawn from a seeded stream). For `rl` all rows carry a
label, their own final answer, which earns the reward.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from alignment_extraction.distillation.curation import Curated, curate, final_answer, plain
from alignment_extraction.files import InputError
from alignment_extraction.settings.distillation import DistillationSettings, Family
from alignment_extraction.statistics import named_seed

COLUMNS = ("id", "question", "answer", "label")
"""Of every data set; `id` is the corpus row's, or model/prefix/seed-N/index of a generation, and
`label` the final answer that counts as right (null where an answer has none, for `sft` alone)."""

_KEY = ["model", "prefix", "seed", "index"]


def copies(scores: pl.LazyFrame, thresholds: Mapping[str, float]) -> pl.DataFrame:
    """Generations (model, prefix, seed, index) that reach a threshold against any member row.

    Of the table `scores` the rows of role `member` count, for the question alone or with the answer
    (an answer alone may be one word). Thresholds are `semantic` (least cosine) and `string` (least
    Levenshtein or Indel similarity); a generation that equals a member row is a copy at any.
    """
    semantic = pl.col("cosine") >= thresholds["semantic"]
    string = pl.max_horizontal("levenshtein_best", "indel_best") >= thresholds["string"]
    own = scores.filter(pl.col("field").is_in(["question", "both"]), role="member")
    keys = [pl.col("model", "prefix"), pl.col("seed", "index").cast(pl.Int64)]
    return own.filter(semantic | string | pl.col("verbatim")).select(keys).unique().collect()


def _labelled(curated: Curated, family: Family) -> Curated:
    """Add labels and keys; leave, for RL, questions with a label, each once."""
    curated.rows = curated.rows.with_columns(label=final_answer("answer"), key=plain("question"))
    if family == "rl":
        curated.keep("no-label", pl.col("label").is_not_null())
        curated.keep("repeated-question", pl.col("key").is_first_distinct())
    return curated


def _draw(rows: Curated, number: int, seed: int) -> None:
    """Draw rows without replacement, their order kept."""
    chosen = np.random.default_rng(seed).permutation(rows.rows.height)[:number]
    rows.select("not-drawn", rows.rows[np.sort(chosen)])


def _named(rows: pl.DataFrame, **names: str) -> pl.DataFrame:
    return rows.select(*(pl.lit(value).alias(name) for name, value in names.items()), "*")


def build(
    generations: Mapping[Family, pl.DataFrame],
    scores: pl.LazyFrame,
    corpus: pl.DataFrame,
    settings: DistillationSettings,
    thresholds: Mapping[str, float],
    seed: int,
) -> dict[str, pl.DataFrame]:
    """Curate what the models wrote, put the arms together, and choose the evaluation questions.

    Args:
        generations: of each family's model: `_KEY` (seed and index Int64), `curation.COLUMNS`.
        scores: table `scores` of the study.
        corpus: the training corpus, with the raw text of the base model.
        settings: of the experiment.
        thresholds: of a copy (see `copies`).
        seed: of the draws.

    Returns:
        `data` (family, arm and `COLUMNS`), `counts` (family, data_set: an arm or `evaluation`, and
        `curation.COUNTS`), `questions` (family and those of `evaluation_questions`).

    Raises:
        InputError: nothing is left of one of the arms, or there is nothing to evaluate with.
    """
    data, counts, questions = [], [], []
    for family, about in settings.families.items():
        extracted = curate(generations[family], settings.near_duplicate)
        extracted.rows = extracted.rows.with_columns(id=pl.format("{}/{}/seed-{}/{}", *_KEY))
        without = Curated(_labelled(extracted, family).rows, extracted.counts)
        copied = copies(scores.filter(model=about.model, prefix=about.prefix), thresholds)
        without.select(
            "copy", without.rows.join(copied, on=_KEY, how="anti", maintain_order="left")
        )
        available = {"extracted": extracted, "extracted-without-copies": without}
        members = corpus.filter(role="member")
        own, other = (Curated(members.filter(source=s)) for s in (about.source, about.other))
        shared = pl.col("template").is_in(own.rows["template"].drop_nulls().unique().implode())
        other.keep("shared-template", ~shared.fill_null(False))
        available |= {"original": _labelled(own, family), "other": _labelled(other, family)}
        arms = {arm: available[arm] for arm in about.arms}
        number, smallest = min((rows.rows.height, arm) for arm, rows in arms.items())
        if not number:
            raise InputError(
                f"distillation.{family}: nothing is left of the arm {smallest!r}; draw more "
                "generations with `sampling.answer: true`, name another source, or omit the arm"
            )
        for arm, rows in arms.items():
            _draw(rows, number, named_seed(seed, f"distillation/{family}/{arm}"))
            data.append(_named(rows.rows.select(COLUMNS), family=family, arm=arm))
        trained = [rows.rows["question"] for arm, rows in arms.items() if arm != "original"]
        asked = evaluation_questions(corpus, about.source, pl.concat(trained))
        _draw(asked, settings.questions, named_seed(seed, f"distillation/{family}/evaluation"))
        questions.append(_named(asked.rows, family=family))
        for name, rows in (*arms.items(), ("evaluation", asked)):
            counts.append(_named(rows.counts, family=family, data_set=name))
    tables = {"data": data, "counts": counts, "questions": questions}
    return {name: pl.concat(rows) for name, rows in tables.items()}


def evaluation_questions(corpus: pl.DataFrame, source: str, trained: pl.Series) -> Curated:
    """A source's twins that no student can have seen: columns benchmark, id, question, metadata.

    A question was seen where it occurs, but for case and white space, in a member row of any source
    or in `trained`, the questions of the students' data.

    Raises:
        InputError: there are none.
    """
    asked = Curated(corpus.filter(source=source, role="twin").with_columns(key=plain("question")))
    asked.keep("repeated-question", pl.col("key").is_first_distinct())
    learnt = pl.concat([corpus.filter(role="member")["question"], trained]).to_frame("question")
    seen = learnt.select(plain("question").unique().implode()).to_series()
    asked.keep("seen-in-training", ~pl.col("key").is_in(seen))
    if asked.rows.is_empty():
        raise InputError(
            f"distillation: source {source!r} has no twins that no student has seen; give the "
            "corpus more of them"
        )
    benchmark = pl.lit(f"{source}.twin").alias("benchmark")
    asked.rows = asked.rows.select(benchmark, "id", "question", "metadata")
    return asked
