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

    Args:
        scores: table `scores`; its rows of role `member` count, for the question alone or with the
            answer (an answer alone may be one word).
        thresholds: `semantic` (least cosine) and `string` (least Levenshtein or Indel similarity);
            a generation that equals a member row is a copy at any threshold.
    """
    reached = (
        (pl.col("cosine") >= thresholds["semantic"])
        | (pl.max_horizontal("levenshtein_best", "indel_best") >= thresholds["string"])
        | pl.col("verbatim")
    )
    own = (pl.col("role") == "member") & pl.col("field").is_in(["question", "both"])
    keys = [pl.col("model", "prefix"), pl.col("seed", "index").cast(pl.Int64)]
    return scores.filter(own & reached).select(keys).unique().sort(_KEY).collect()


def _labelled(curated: Curated, family: Family) -> Curated:
    """Add labels and keys; leave, for RL, questions with a label, each once."""
    curated.rows = curated.rows.with_columns(label=final_answer("answer"), key=plain("question"))
    if family == "rl":
        curated.keep("no-label", pl.col("label").is_not_null())
        curated.keep("repeated-question", pl.col("key").is_first_distinct())
    return curated


def _member_rows(corpus: pl.DataFrame, source: str, family: Family) -> Curated:
    rows = Curated(corpus.filter(source=source, role="member"))
    rows.keep("no-answer", pl.col("answer").is_not_null())
    return _labelled(rows, family)


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
        generations: of each family's model: model, prefix, seed, index (both Int64), question,
            answer, question_finish, answer_finish.
        scores: table `scores` of the study.
        corpus: in the corpus schema, with all sources that members or controls are taken from.
        settings: of the experiment.
        thresholds: of a copy (see `copies`).
        seed: of the draws.

    Returns:
        `data` (family, arm and `COLUMNS`), `counts` (family, data_set, which is an arm or
        `evaluation`, and `curation.COUNTS`) and `questions` (family and those of
        `evaluation_questions`).

    Raises:
        InputError: nothing is left of one of the arms, or there is nothing to evaluate with.
    """
    data, counts, questions = [], [], []
    for family, about in settings.families.items():
        extracted = curate(generations[family], settings.near_duplicate)
        extracted.rows = extracted.rows.with_columns(id=pl.format("{}/{}/seed-{}/{}", *_KEY))
        _labelled(extracted, family)
        without = Curated(extracted.rows, extracted.counts)
        copied = copies(scores.filter(model=about.model, prefix=settings.prefix), thresholds)
        without.select(
            "copy", without.rows.join(copied, on=_KEY, how="anti", maintain_order="left")
        )
        available: dict[str, Curated] = {
            "original": _member_rows(corpus, about.source, family),
            "extracted": extracted,
            "extracted-without-copies": without,
            "other": _member_rows(corpus, about.other, family),
        }
        arms = {arm: available[arm] for arm in settings.arms}
        number, smallest = min((rows.rows.height, arm) for arm, rows in arms.items())
        if not number:
            raise InputError(
                f"distillation.{family}: nothing is left of the arm {smallest!r}; draw more "
                "generations with `sampling.answer: true`, or leave it out of distillation.arms"
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
    """A source's twins that no student can have seen; its held-out rows where it has no twins.

    A question was seen where the texts agree but for case and white space; `trained` are those of
    the students' data.

    Returns:
        Columns benchmark (group of the corpus), id, question, answer, template, metadata, and the
        steps `no-verifier` (no metadata to check an answer by, or no reference answer),
        `repeated-question`, `in-member-rows` (of any source) and `in-student-data`.

    Raises:
        InputError: there are no such rows.
    """
    rows = corpus.filter(source=source)
    role = "twin" if "twin" in rows["role"] else "held-out"
    asked = Curated(rows.filter(role=role).with_columns(key=plain("question")))
    asked.keep("no-verifier", pl.all_horizontal(pl.col("metadata", "answer").is_not_null()))
    asked.keep("repeated-question", pl.col("key").is_first_distinct())
    members = corpus.filter(role="member")["question"]
    for step, texts in (("in-member-rows", members), ("in-student-data", trained)):
        seen = texts.to_frame("question").select(plain("question").unique().implode()).to_series()
        asked.keep(step, ~pl.col("key").is_in(seen))
    if asked.rows.is_empty():
        raise InputError(
            f"distillation: source {source!r} has no twin or held-out rows with a verifier that no "
            "student has seen; give the corpus more of them"
        )
    benchmark = pl.lit(f"{source}.{role}").alias("benchmark")
    asked.rows = asked.rows.select(benchmark, "id", "question", "answer", "template", "metadata")
    return asked
