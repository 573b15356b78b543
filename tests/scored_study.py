"""A small study with invented generations and matches, so that every case of scoring occurs."""

import numpy as np
import polars as pl
from rapidfuzz.distance import Indel, Levenshtein

from alignment_extraction.corpora.corpus import SCHEMA
from alignment_extraction.corpora.texts import corpus_texts, groups_of, texts_of, unique_texts
from alignment_extraction.search.matching import MATCH_SCHEMA
from alignment_extraction.settings.studies import Cell

PARTS = ("question", "answer")
CELLS = (Cell("sft", "user", 0), Cell("sft", "user", 1), Cell("base", "user", 0))
ROLES = {"member": "member", "fresh-instance": "held-out", "held-out-template": "held-out"}
LETTERS = "abcdefghij"


def make_corpus() -> pl.DataFrame:
    """Two sources, one in three splits; members repeated 1 or 4 times; some lack an answer."""
    rng = np.random.default_rng(0)
    rows = []
    for source, split in [*(("sft", split) for split in ROLES), ("other", None)]:
        for i in range(12):
            question = "".join(rng.choice(list(LETTERS), 30))
            answer = None if i % 5 == 4 else "".join(rng.choice(list(LETTERS), 20))
            rows.append(
                {
                    "id": f"{source}/{split}/{i}",
                    "source": source,
                    "role": ROLES[split] if split else "unknown",
                    "split": split,
                    "template": f"template {i % 3}",
                    "repetitions": 4 if split == "member" and i % 2 else 1,
                    "question": question,
                    "answer": answer,
                    "messages": [],
                    "text": question,
                    "metadata": None,
                }
            )
    return pl.DataFrame(rows, schema=SCHEMA)


def make_generations(corpus: pl.DataFrame, cell: Cell, samples: int = 60) -> pl.DataFrame:
    """Corpus texts with a share of their letters changed; some verbatim, empty or missing."""
    rng = np.random.default_rng([cell.seed, len(cell.model)])

    def blur(text: str) -> str:
        share = rng.choice([0, 0.05, 0.1, 0.3, 1]) if cell.model == "sft" else 1
        return "".join(c if rng.random() > share else rng.choice(list(LETTERS)) for c in text)

    rows = []
    for index in range(samples):
        row = corpus.row(int(rng.integers(0, corpus.height)), named=True)
        question = "" if index % 11 == 10 else blur(row["question"])
        answer = blur(row["answer"]) if row["answer"] and index % 7 else None
        rows.append({"index": index, "question": question, "answer": answer})
    return pl.DataFrame(
        rows, schema={"index": pl.Int64, "question": pl.String, "answer": pl.String}
    )


def make_matches(generations: pl.DataFrame, corpus: pl.DataFrame) -> pl.DataFrame:
    """What matching would find, the cosine being the share of equal letters in their places."""
    rows = []
    for part in PARTS:
        _, have = corpus_texts(corpus, part)
        items = corpus[have].select(
            "id", group=groups_of(corpus)[have], text=texts_of(corpus, part)[have]
        )
        for text in unique_texts(generations, part):
            for (group,), own in items.group_by("group", maintain_order=True):
                rows.append(_match(text, part, str(group), own))
    return pl.DataFrame(rows, schema=MATCH_SCHEMA)


def _match(text: str, part: str, group: str, items: pl.DataFrame) -> dict[str, object]:
    texts, ids = items["text"].to_list(), items["id"].to_list()
    cosines = [
        sum(a == b for a, b in zip(text, other, strict=False)) / max(len(text), len(other))
        for other in texts
    ]
    nearest = int(np.argmax(cosines))
    row: dict[str, object] = {
        "text": text,
        "part": part,
        "group": group,
        "match_id": ids[nearest],
        "cosine": cosines[nearest],
    }
    for metric, peer in (("levenshtein", Levenshtein), ("indel", Indel)):
        similarities = [peer.normalized_similarity(text, other) for other in texts]
        best = int(np.argmax(similarities))
        row[metric] = similarities[nearest]
        reached = similarities[best] >= 0.5
        row[f"{metric}_best"] = similarities[best] if reached else None
        row[f"{metric}_best_id"] = ids[best] if reached else None
    return row
