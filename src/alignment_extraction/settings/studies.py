"""A study: which models are sampled after which prefixes, and what is done with what they write."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from alignment_extraction.settings.base import Name, Names, Settings, Similarity, checked
from alignment_extraction.settings.distillation import DistillationSettings
from alignment_extraction.vocabulary import METRICS, Condition
from alignment_extraction.vocabulary import Field as TextField

PrefixForm = Literal["full", "user", "bos", "none"]


class LiteralPrefix(Settings):
    """A prefix typed by hand instead of derived from the model's chat template."""

    name: Name = Field(description="what the prefix is called in results")
    text: str = Field(min_length=1, description="the prefix, special tokens spelt out")
    end: str = Field("", description="what ends the question; by default as in the chat template")


class SamplingSettings(Settings):
    """How generations are drawn."""

    samples: int = Field(256, ge=1, description="generations for each model, prefix and seed")
    max_tokens: int = Field(256, ge=1, description="limit of the question turn, in tokens")
    answer: bool = Field(False, description="let the model answer its own question")
    max_answer_tokens: int = Field(256, ge=1, description="limit of the answer turn, in tokens")
    temperature: float = Field(1.0, ge=0, description="0 is greedy decoding")
    top_k: int = Field(0, ge=0, description="sample among the k likeliest tokens; 0 is all")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of this probability; 1 is all")
    min_p: float = Field(0.0, ge=0, lt=1, description="least probability relative to the best")
    slots: int = Field(64, ge=1, le=256, description="sequences decoded together")
    shard: int = Field(2000, ge=1, description="generations a file: what an interruption can lose")

    @property
    def plain(self) -> bool:
        """Whether samples follow the model's own distribution, nothing cut off from it."""
        return (self.temperature, self.top_k, self.top_p, self.min_p) == (1, 0, 1, 0)


class ConditionSettings(Settings):
    """Conditions of a study that share their sampling settings."""

    models: Names = Field(description="names in `models`")
    prefixes: Names = Field(description="prefixes of the study")
    name: Name | None = Field(None, description="follows the prefix's in results: `user-t0.7`")
    sampling: dict[str, Any] = Field({}, description="keys of `sampling` with other values")


class IndexSettings(Settings):
    """The search for nearest rows."""

    kind: Literal["annoy", "exact"] = Field("annoy", description="exact compares every row")
    trees: int = Field(50, ge=1, description="trees of an Annoy index")
    search_k: PositiveInt | Literal[-1] = 20_000
    """nodes that Annoy inspects for a query; -1 is trees x candidates"""
    candidates: int = Field(50, ge=1, description="nearest rows of a query that are re-scored")
    strings: Literal["all", "near"] = "all"
    """rows that strings are compared with: all, or the nearest `candidates` and any equal one"""
    audit: int = Field(200, ge=0, description="queries also searched exactly, for the recall")


SWEEP = np.linspace(0.5, 1, 51)
"""The thresholds at which rates are drawn."""


class ThresholdSettings(Settings):
    """From which score on a generation counts as memorised."""

    semantic: Similarity = Field(0.95, description="cosine similarity (the paper's 0.95)")
    string: Similarity = Field(0.9, description="Levenshtein, Indel similarity (the paper's 0.9)")

    def fixed(self, metric: str) -> float:
        """The fixed threshold of a metric; equality is a score of 1."""
        key = METRICS[metric].threshold
        return 1.0 if key is None else float(getattr(self, key))

    def grid(self, metric: str) -> Any:
        """The thresholds of a metric that are swept, float64; none for equality."""
        return SWEEP[: 0 if METRICS[metric].threshold is None else None]


Scored = Literal["questions", "conversations", "all"]


class LikelihoodSettings(Settings):
    """Models under which the corpus's likelihood is taken: row risk, and change by training."""

    models: Names = Field(description="names in `models`; each is compared with its `base`")
    prefix: str | None = Field(None, description="before a question; by default the first")
    sources: tuple[str, ...] = ()
    """corpus sources to score; by default those that a model was trained on, or else all"""
    limit: PositiveInt | None = Field(None, description="random rows of each source and role")
    scored: Scored = "all"
    """questions after the prefix, with answers and Min-K%++, or all, as plain documents too"""


def _rate(value: Any) -> Any:
    """A share from a number or from text such as `1%`."""
    if not isinstance(value, str):
        return value
    number = value.strip()
    try:
        return float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"{value!r} is not a rate; give one like 1% or 0.01") from None


Rate = Annotated[float, BeforeValidator(_rate), Field(ge=0, le=1)]


class GateSettings(Settings):
    """Limits of `alignment-extraction check`; what is not given is not checked."""

    max_rows_at_risk: NonNegativeInt | None = None
    """rows that have a chance of at least 10 % to be written in `samples` samples"""
    max_attributable: Rate | None = None
    """share of generations that are verbatim copies because of training"""
    max_attributable_semantic: Rate | None = None
    """share of generations that are near copies by meaning because of training"""
    samples: int = Field(1_000_000, ge=1, description="samples that rows at risk are counted for")


class StudySettings(Settings):
    """One experiment: models, corpus, prefixes, sampling, embedder, thresholds."""

    title: str = Field(description="heading of the report")
    models: Names = Field(description="names in `models`")
    corpus: str = Field(description="a name in `corpora`")
    embedder: str = Field(description="a name in `embedders`")
    prefixes: tuple[PrefixForm | LiteralPrefix, ...] = Field(
        min_length=1, description="forms derived from the chat template, or literal ones"
    )
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1, description="of sampling")
    fields: tuple[TextField, ...] = Field(("question",), min_length=1)
    """what is compared with the corpus"""
    sampling: SamplingSettings = SamplingSettings()
    conditions: tuple[ConditionSettings, ...] = ()
    """which models at which prefixes; without it, every model at every prefix"""
    index: IndexSettings = IndexSettings()
    thresholds: ThresholdSettings = ThresholdSettings()
    likelihood: LikelihoodSettings | None = None
    gate: GateSettings | None = None
    distillation: DistillationSettings | None = None

    @property
    def prefix_names(self) -> tuple[str, ...]:
        """Names of the prefixes, in order."""
        return tuple(p if isinstance(p, str) else p.name for p in self.prefixes)

    @property
    def sampled_models(self) -> tuple[str, ...]:
        """Names of the models that are sampled, in the order of the conditions."""
        return tuple(dict.fromkeys(condition.model for condition in self.all_conditions()))

    @property
    def used_models(self) -> tuple[str, ...]:
        """Names of the models that are sampled or scored."""
        scored = self.likelihood.models if self.likelihood else ()
        return tuple(dict.fromkeys((*self.sampled_models, *scored)))

    def _entries(self) -> Iterator[tuple[Condition, str, ConditionSettings]]:
        """Each condition, the prefix that it is called after, and the entry that it is from."""
        grid = ConditionSettings(models=self.models, prefixes=self.prefix_names)
        for entry in self.conditions or (grid,):
            for model, prefix, seed in product(entry.models, entry.prefixes, self.seeds):
                name = f"{prefix}-{entry.name}" if entry.name else prefix
                yield Condition(model, name, seed), prefix, entry

    def all_conditions(self) -> list[Condition]:
        """Every condition, in the order of params.yaml."""
        return [condition for condition, _, _ in self._entries()]

    def sampling_of(self, condition: Condition) -> SamplingSettings:
        """Sampling settings of one condition."""
        own = next(entry.sampling for c, _, entry in self._entries() if c == condition)
        return SamplingSettings(**(self.sampling.model_dump() | own))

    def prefix_of(self, condition: Condition) -> PrefixForm | LiteralPrefix:
        """The entry of `prefixes` that a condition is sampled after: `user` of `user-t0.7`."""
        return self.prefix_named(next(name for c, name, _ in self._entries() if c == condition))

    @property
    def likelihood_prefix(self) -> PrefixForm | LiteralPrefix:
        """The prefix before a question whose likelihood is taken."""
        given = self.likelihood.prefix if self.likelihood else None
        return self.prefix_named(given or self.prefix_names[0])

    def prefix_named(self, name: str) -> PrefixForm | LiteralPrefix:
        """The entry of `prefixes` of this name."""
        return self.prefixes[self.prefix_names.index(name)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = self.prefix_names
        given: dict[str, Sequence[object]] = {"prefixes": names, "models": self.models}
        for key, values in (given | {"seeds": self.seeds, "fields": self.fields}).items():
            if twice := _repeated(values):
                raise ValueError(f"{key}: {twice[0]!r} is given twice; remove or rename one")
        for i, entry in enumerate(self.conditions):
            for key, named in (("models", entry.models), ("prefixes", entry.prefixes)):
                if unknown := [name for name in named if name not in given[key]]:
                    raise ValueError(f"conditions.{i}.{key}: {unknown[0]!r} is not in `{key}`")
            checked(SamplingSettings, entry.sampling, f"conditions.{i}.sampling")
        conditions = self.all_conditions()
        if again := _repeated(conditions):
            raise ValueError(
                f"conditions: {again[0].model} at prefix {again[0].prefix} is there already; give "
                "a `name`"
            )
        if self.likelihood and self.likelihood.prefix not in (None, *names):
            raise ValueError(f"likelihood.prefix: {self.likelihood.prefix!r} is not in `prefixes`")
        answering = [c for c in conditions if self.sampling_of(c).answer]
        for field in self.fields:
            if field != "question" and not answering:
                raise ValueError(f"fields: `{field}` needs `sampling.answer: true`")
        if about := self.distillation:
            for family, own in about.families.items():
                needed = {Condition(own.model, own.prefix, seed) for seed in self.seeds}
                at = f"distillation.{family}.model: {own.model!r}"
                if not needed <= set(conditions):
                    raise ValueError(f"{at} is not sampled at prefix {own.prefix!r}")
                if not needed <= set(answering):
                    raise ValueError(f"{at} needs `sampling.answer: true`")
        return self


def _repeated(values: Sequence[Any]) -> list[Any]:
    """Values that were there before."""
    return [value for i, value in enumerate(values) if value in values[:i]]
