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
from alignment_extraction.attribution.tables import schema
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

SCHEMA = schema("source level members:i twins:i auc:f low:f high:f verdict needed:i")
"""Columns of `exchangeability`: members and twins are the rows looked at, each text of a side once;
verdict is `told apart` where the interval of the area lies above 0.5 + `MARGIN`, `too few` with the
number of rows needed on either side (and no area) where one has fewer than `FEWEST`, else
`exchangeable`."""


def exchangeability(corpus: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The blind test of every source and level that a corpus allows: columns of `SCHEMA`.

    The study's seed decides which rows are looked at, and the folds.
    """
    rows = []
    for comparison in comparisons(corpus):
        stream = named_seed(seed, f"exchangeability/{comparison.source}/{comparison.level}")
        some = _looked_at(comparison, corpus, np.random.default_rng(stream))
        texts = some["text"].str.slice(0, _CHARACTERS).to_list()
        member = some["member"].to_numpy()
        row: dict[str, Any] = {"source": comparison.source, "level": comparison.level}
        row |= {"members": int(member.sum()), "twins": int((~member).sum())}
        # Rows of one template stand or fall together: five of them are no sample.
        if min(row["members"], row["twins"]) < FEWEST:
            row |= {"verdict": "too few", "needed": FEWEST}
        else:
            area = blind_area(texts, member, some["block"].to_numpy(), stream)
            apart = area.low > 0.5 + MARGIN
            row |= {"auc": area.estimate, "low": area.low, "high": area.high}
            row |= {"verdict": "told apart" if apart else "exchangeable"}
        rows.append(row)
    return pl.DataFrame(rows, schema=SCHEMA).sort("source", "level", maintain_order=True)


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
    sides = [frame.filter(pl.col("member") == member) for member in (True, False)]
    return pl.concat([side[np.sort(stream.permutation(side.height)[:MOST])] for side in sides])


def blind_area(texts: list[str], member: Array, block: Array, seed: int) -> Interval:
    """How well a classifier of character n-grams tells members from twins that it has not seen.

    Logistic regression on hashed n-grams of one to four characters. Rows come in five folds, and
    each fold but the first is told by what was learnt from the folds before it: in ordinary
    cross-validation every row tests what its own label taught, which intervals for independent rows
    do not know (docs/method.md). Rows of one block, and rows of one text, are in the same fold: of
    a pair split between them, the one seen would say that the other is not like it. Scores of
    different folds are of different classifiers and are not compared. The interval takes what each
    row adds to the area (`statistics.placements`) together by block.

    Args:
        texts: shape (rows,).
        member: whether each is a member's, bool, shape (rows,).
        block: number of each one's block, int64, shape (rows,).
        seed: of the folds.
    """
    groups = _components(block, np.unique(np.array(texts, dtype=object), return_inverse=True)[1])
    features = HashingVectorizer(
        analyzer="char_wb", ngram_range=(1, 4), n_features=2**18, alternate_sign=False
    ).transform(texts)
    folds = min(_FOLDS, len(np.unique(groups)))
    if folds < 2:
        return Interval(np.nan, 0.0, 1.0)
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
    found = spread(totals, np.zeros(len(totals), np.int64), np.array([len(totals)]))
    estimate, margin = area / pairs, float(margins(found)[0])
    return Interval(estimate, max(estimate - margin, 0.0), min(estimate + margin, 1.0))


def _components(block: Array, text: Array) -> Array:
    """Numbers of the groups of rows that share a block or a text, directly or through others."""
    blocks, texts = int(block.max()) + 1, int(text.max()) + 1
    edges = coo_array(
        (np.ones(len(block)), (block, blocks + text)), shape=(blocks + texts, blocks + texts)
    )
    labels: Array = connected_components(edges, directed=False)[1]
    return labels[block]
