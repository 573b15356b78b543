"""Can members and twins be told apart by their texts alone? A blind test of the control.

If a classifier that never saw the model tells them apart, they differ in more than having been
trained on, and a difference between them is not attributable to training (blind baselines: Das and
others, arXiv 2406.16201).
"""

from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from alignment_extraction.attribution.intervals import margins, spread
from alignment_extraction.attribution.levels import Comparison, comparisons
from alignment_extraction.attribution.tables import SCHEMAS
from alignment_extraction.statistics import Array, Interval, named_seed, placements

FEWEST = 100
"""Rows on either side below which there is no verdict: with a standard error of the area above
0.046, texts that plainly differ would pass."""

MARGIN = 0.02
"""How far above 0.5 the interval must lie: 0.52 can come of 2 % of one side's rows being unlike the
other's, and the interval does not know that other rows would have trained other classifiers."""

MOST = 2_000
"""Rows of either side that are looked at: they give the area to about 0.02."""

_FOLDS = 5
_CHARACTERS = 2_000


def exchangeability(corpus: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The table `exchangeability`: the blind test of every source and level of a corpus.

    The study's seed decides which rows are looked at, and the folds.
    """
    found: list[tuple[Any, ...]] = []
    for comparison in comparisons(corpus):
        stream = named_seed(seed, f"exchangeability/{comparison.source}/{comparison.level}")
        some = _looked_at(comparison, corpus, np.random.default_rng(stream))
        member = some["member"].to_numpy()
        counts = (int(member.sum()), int((~member).sum()))
        told: tuple[Any, ...] = (None, None, None, "too few", FEWEST)
        # Rows of one template stand or fall together: five of them are no sample.
        if min(counts) >= FEWEST:
            texts = some["text"].str.slice(0, _CHARACTERS).to_list()
            area = blind_area(texts, member, some["block"].to_numpy(), stream)
            told = (*area, "told apart" if area.low > 0.5 + MARGIN else "exchangeable", None)
        found.append((comparison.source, comparison.level, *counts, *told))
    table = pl.DataFrame(found, SCHEMAS["exchangeability"], orient="row")
    return table.sort("source", "level", maintain_order=True)


def _looked_at(
    comparison: Comparison, corpus: pl.DataFrame, stream: np.random.Generator
) -> pl.DataFrame:
    """Columns text (question and answer), member and block, each text once on a side."""
    text = pl.concat_str("question", "answer", separator="\n", ignore_nulls=True)
    frame = (
        pl.DataFrame({"id": comparison.ids, "member": comparison.member, "block": comparison.block})
        .join(corpus.select("id", text=text), on="id", how="left", maintain_order="left")
        .drop_nulls("text")
        .unique(["member", "text"], keep="first", maintain_order=True)
    )
    sides = (frame.filter(member=member) for member in (True, False))
    return pl.concat(side[np.sort(stream.permutation(side.height)[:MOST])] for side in sides)


def blind_area(texts: list[str], member: Array, block: Array, seed: int) -> Interval:
    """How well a classifier of character n-grams tells members from twins that it has not seen.

    Logistic regression on hashed n-grams of one to four characters. Rows come in five folds, and
    each fold but the first is told by what was learnt from the folds before it: in ordinary
    cross-validation every row tests what its own label taught, which intervals for independent rows
    do not know (docs/method.md). Scores of different folds are of different classifiers and are not
    compared. The interval takes what each row adds (`statistics.placements`) together by block.

    Args: of each row its text, whether it is a member's (bool), the number of its block (int64).

    Returns:
        The area, NaN where no fold has both sides.
    """
    # Rows that share a block or a text, directly or through others, stay in one fold: of a pair
    # split between two, the one seen would say that the other is not like it.
    text = np.unique(np.array(texts, dtype=object), return_inverse=True)[1] + block.max() + 1
    edges = coo_array((np.ones(len(block)), (block, text)), shape=2 * (text.max() + 1,))
    groups = connected_components(edges, directed=False)[1][block]
    features = HashingVectorizer(
        analyzer="char_wb", ngram_range=(1, 4), n_features=2**18, alternate_sign=False
    ).transform(texts)
    folds = max(2, min(_FOLDS, len(np.unique(groups))))
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    tests = [test for _, test in split.split(features, member, groups)]
    area, pairs, added = 0.0, 0, np.zeros(len(texts))
    for fold in range(1, folds):
        train, test = np.sort(np.concatenate(tests[:fold])), tests[fold]
        if len(np.unique(member[train])) < 2 or len(np.unique(member[test])) < 2:
            continue
        model = LogisticRegression(C=1.0, solver="liblinear", dual=True, random_state=seed)
        score = model.fit(features[train], member[train]).decision_function(features[test])
        ours, theirs = test[member[test]], test[~member[test]]
        of_fold, *pulls = placements(score[member[test]], score[~member[test]])
        number = len(ours) * len(theirs)
        area, pairs = area + number * of_fold, pairs + number
        added[ours], added[theirs] = number * pulls[0], number * pulls[1]
    if not pairs:
        return Interval(np.nan, 0.0, 1.0)
    tested = np.concatenate(tests[1:])
    _, unit = np.unique(groups[tested], return_inverse=True)
    totals = np.bincount(unit, added[tested] / pairs)[:, None]
    found = spread(totals, np.zeros(len(totals), np.int64), np.arange(len(totals)))
    estimate, margin = area / pairs, float(margins(found)[0])
    return Interval(estimate, max(estimate - margin, 0.0), min(estimate + margin, 1.0))
