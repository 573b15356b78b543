"""The words that all other modules share, once: conditions, roles, fields, metrics, columns."""

from typing import Literal, NamedTuple

import polars as pl

Field = Literal["question", "answer", "both"]
"""What of a row or generation is compared: a turn, or both joined by a line break."""

Role = Literal["member", "twin", "held-out", "control", "unknown"]
"""What is known of a row's place in its source.

- `member`: in the source's training set;
- `twin`: drawn like a member, and kept out of the training set by a coin;
- `held-out`: kept out without a coin of its own, with its template or by a user;
- `control`: not to be extracted, and not searched;
- `unknown`: may have been trained on.
"""

SEARCHED_ROLES: tuple[Role, ...] = ("member", "twin", "held-out", "unknown")
"""Roles of the rows that generations are held against."""


class Condition(NamedTuple):
    """One model, prefix and seed: what a set of generations is drawn under."""

    model: str
    prefix: str
    seed: int


CONDITION = list(Condition._fields)
"""Columns that tell conditions apart."""


class Metric(NamedTuple):
    """One way to say that a generation is like a row, from a score and a threshold."""

    name: str
    label: str
    """What tables and figures call it."""
    colour: str
    """In every figure (Okabe and Ito's palette, safe for colour-blind readers)."""
    score: str
    id: str
    """Columns of scores.parquet: the best score in a group, at most 1, and the row that has it."""
    kind: Literal["semantic", "string", "verbatim"]
    """The kind of memorisation that it stands for."""

    @property
    def threshold(self) -> Literal["semantic", "string"] | None:
        """The study's threshold for it; None is equality."""
        return None if self.kind == "verbatim" else self.kind


METRICS = {
    metric.name: metric
    for metric in (
        Metric("cosine", "cosine", "#0072B2", "cosine", "match_id", "semantic"),
        Metric(
            *("levenshtein", "Levenshtein", "#D55E00"),
            *("levenshtein_best", "levenshtein_best_id", "string"),
        ),
        Metric("indel", "Indel", "#E69F00", "indel_best", "indel_best_id", "string"),
        Metric("verbatim", "verbatim", "#009E73", "verbatim", "levenshtein_best_id", "verbatim"),
    )
}
"""Every metric by name, in the order in which they are shown."""

ROLE_COLOURS = {"member": "#CC79A7", "twin": "#7F7F7F", "held-out": "#56B4E9"}
"""Of rows in figures: trained on, kept out by a coin, never trained on."""

TOLERANCE = 1e-6
"""Float32 scores of identical texts can fall this far below the threshold they ought to meet."""


def _texts(*names: str) -> dict[str, pl.DataType]:
    return dict.fromkeys(names, pl.String())


CORPUS = pl.Schema(
    {
        **_texts("id", "source", "role", "template", "pair"),
        "repetitions": pl.Int32(),
        **_texts("seed_problem", "edit", "question", "answer"),
        "messages": pl.List(pl.Struct(_texts("role", "content"))),
        **_texts("text", "metadata"),
    }
)
"""Columns of a corpus, one row a conversation.

- `id`: unique in the corpus and the same in every build;
- `source`: the data set that it is from, one experiment of its own;
- `role`: see `Role`;
- `template`: what the row is an instance of, null where there is none;
- `pair`: shared by a member and its twin, null where the row has none;
- `repetitions`: how often an epoch of training shows the row; a twin has its member's number;
- `seed_problem`, `edit`: the problem that it is a version of and how it was edited, or null;
- `question`, `answer`: the first user message and the assistant's reply, which may be null;
- `messages`: all turns of the conversation; none for raw text;
- `text`: question, line break, answer; the question alone where there is no answer;
- `metadata`: whatever else the row had, as JSON, or null.
"""

_SIMILARITIES = {
    "match_id": pl.String(),
    "cosine": pl.Float32(),
    "levenshtein": pl.Float32(),
    "indel": pl.Float32(),
    "levenshtein_best_id": pl.String(),
    "levenshtein_best": pl.Float32(),
    "indel_best_id": pl.String(),
    "indel_best": pl.Float32(),
}

MATCHES = pl.Schema({**_texts("text", "field", "group"), **_SIMILARITIES})
"""One row for each distinct generated text x field x group of the corpus: the nearest row by cosine
with both string similarities to it, and each string metric's own best row (null below 0.5)."""

SCORES = pl.Schema(
    {
        **_texts("model", "prefix"),
        "seed": pl.Int64(),
        "index": pl.Int64(),
        **_texts("field", "source", "role"),
        **_SIMILARITIES,
        "verbatim": pl.Boolean(),
        "characters": pl.Int64(),
    }
)
"""One row for each generation x field x group searched: the columns of `MATCHES`, whether the text
equals a row of the group, and its length."""


def group_name(source: str, role: str) -> str:
    """What a group of a corpus, the rows of one source and role, is called."""
    return f"{source}.{role}"


def group_expression() -> pl.Expr:
    """The group of each row of a corpus, as the column `group`."""
    return pl.concat_str("source", pl.lit("."), "role").alias("group")
