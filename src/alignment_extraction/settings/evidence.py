"""Settings of the analyses that stand beside the rates: controls and audits."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from alignment_extraction.corpora.source import CorpusSource
from alignment_extraction.settings.base import Settings, Similarity


def _not_zero(search_k: int) -> int:
    if search_k == 0:
        raise ValueError("0 nodes find nothing; give a number of nodes, or -1")
    return search_k


SearchK = Annotated[int, Field(ge=-1), AfterValidator(_not_zero)]
"""Nodes of an Annoy index that are inspected for a query; -1 is trees x candidates."""


class ControlSettings(Settings):
    """What extraction rates are held against, beside held-out rows."""

    models: tuple[str, ...] = Field(
        (), description="models of the study that never saw the corpus, or not yet"
    )
    corpus: str | None = Field(
        None, description="an unrelated one in `corpora`: generations are also searched in it"
    )
    samples: int = Field(
        2000, ge=1, description="generations of each cell searched in `corpus`, at random"
    )


class SecondEmbedderSettings(Settings):
    """A second embedding model for the cells with the most generations."""

    embedder: str = Field(description="a name in `embedders`")
    samples: int = Field(2000, ge=1, description="generations of each cell, at random")


class ContaminationSettings(Settings):
    """Public texts whose copies in the corpus are tagged, such as benchmarks or pretraining."""

    sources: tuple[CorpusSource, ...] = Field((), description="files, hub data sets, generators")
    groups: tuple[str, ...] = Field((), description="groups of the study's own corpus")
    ngram: int = Field(13, ge=1, description="length of the runs of words that are looked up")
    overlap: float = Field(
        0.5, gt=0, le=1, description="share of a row's words in such runs from which it is tagged"
    )
    cosine: Similarity = Field(0.95, description="similarity from which a row is tagged")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.sources and not self.groups:
            raise ValueError("give `sources` or `groups`")
        return self


class SearchAuditSettings(Settings):
    """Annoy against exact search, by number of trees and search_k."""

    queries: int = Field(500, ge=0, description="generations searched, at random; 0 is no audit")
    trees: tuple[PositiveInt, ...] = Field(
        (10, 50, 100), min_length=1, description="numbers of trees"
    )
    search_k: tuple[SearchK, ...] = Field(
        (-1, 1000, 5000, 20_000), min_length=1, description="nodes inspected for a query"
    )
