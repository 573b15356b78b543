"""A study: which models are sampled after which prefixes, and what is done with what they write."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, NonNegativeInt, model_validator

from alignment_extraction.settings.base import Name, Settings, Similarity
from alignment_extraction.settings.distillation import DistillationSettings
from alignment_extraction.settings.evidence import (
    ContaminationSettings,
    ControlSettings,
    SearchAuditSettings,
    SearchK,
    SecondEmbedderSettings,
)

PrefixForm = Literal["full", "user", "bos", "none"]
Part = Literal["question", "answer", "both"]


class LiteralPrefix(Settings):
    """A prefix typed by hand instead of derived from the model's chat template."""

    name: Name = Field(description="what the prefix is called in results")
    text: str = Field(min_length=1, description="the prefix, special tokens spelt out")
    end: str = Field(
        "",
        description="a text that ends the question; without it, what the chat template has there",
    )


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
    shard: int = Field(2000, ge=1, description="generations a file; what an interruption can lose")


class Cell(NamedTuple):
    """One model x prefix x seed of a study."""

    model: str
    prefix: str
    seed: int


class CellOverride(Settings):
    """Sampling settings that differ for some cells of a study."""

    models: tuple[str, ...] = Field(description="models it applies to")
    prefixes: tuple[str, ...] = Field(description="prefixes it applies to")
    sampling: dict[str, Any] = Field(description="keys of `sampling` with their other values")


class ExtraCells(Settings):
    """Cells beside the grid of models, prefixes and seeds: controls, other temperatures."""

    models: tuple[str, ...] = Field(min_length=1, description="names in `models`")
    prefixes: tuple[str, ...] = Field(min_length=1, description="prefixes of the study")
    name: Name | None = Field(
        None, description="follows the prefix's name in results, as in `user-t0.7`"
    )
    sampling: dict[str, Any] = Field(
        {}, description="keys of the study's `sampling` with their other values"
    )

    def prefix_name(self, prefix: str) -> str:
        """What `prefix` is called in these cells."""
        return f"{prefix}-{self.name}" if self.name else prefix


class IndexSettings(Settings):
    """The Annoy index and what is asked of it."""

    trees: int = Field(50, ge=1, description="trees of the index")
    search_k: SearchK = Field(
        20_000, description="nodes inspected for a query; -1 is trees x candidates"
    )
    candidates: int = Field(50, ge=1, description="neighbours re-scored exactly")
    audit: int = Field(200, ge=0, description="queries also searched exactly, for recall@1")
    exact: bool = Field(
        False, description="exact search without an index, on a GPU where there is one"
    )


class SweepSettings(Settings):
    """The thresholds at which rates are drawn."""

    start: Similarity = Field(0.5, description="first threshold")
    stop: Similarity = Field(1.0, description="last threshold")
    points: int = Field(51, ge=2, le=1001, description="number of thresholds")


class ThresholdSettings(Settings):
    """From which score on a generation counts as memorised."""

    embedding: Similarity = Field(0.95, description="cosine similarity (the paper's 0.95)")
    string: Similarity = Field(
        0.9, description="Levenshtein and Indel similarity (the paper's 0.9)"
    )
    sweep: SweepSettings = SweepSettings()


class LikelihoodSettings(Settings):
    """A comparison of one corpus's likelihood under two models of one vocabulary."""

    before: str = Field(description="model before training")
    after: str = Field(description="model after training")
    sources: tuple[str, ...] = Field((), description="corpus sources to score; none is all")
    limit: int | None = Field(None, ge=1, description="first rows of each source and split")
    prefix: Literal["full", "user"] = Field(
        "full", description="the chat template before a question, as in `prefixes`"
    )


class StudySettings(Settings):
    """One experiment: models, corpus, prefixes, sampling, embedder, thresholds."""

    title: str = Field(description="heading of the report")
    models: tuple[str, ...] = Field(min_length=1, description="names in `models`")
    corpus: str = Field(description="a name in `corpora`")
    embedder: str = Field(description="a name in `embedders`")
    prefixes: tuple[PrefixForm | LiteralPrefix, ...] = Field(
        min_length=1, description="forms derived from the chat template, or literal ones"
    )
    seeds: tuple[NonNegativeInt, ...] = Field(
        (0,), min_length=1, description="random seeds of sampling"
    )
    parts: tuple[Part, ...] = Field(("question",), description="what is compared with the corpus")
    sampling: SamplingSettings = SamplingSettings()
    overrides: tuple[CellOverride, ...] = ()
    extra_cells: tuple[ExtraCells, ...] = ()
    index: IndexSettings = IndexSettings()
    thresholds: ThresholdSettings = ThresholdSettings()
    likelihood: tuple[LikelihoodSettings, ...] = ()
    controls: ControlSettings = ControlSettings()
    search_audit: SearchAuditSettings = SearchAuditSettings()
    second_embedder: SecondEmbedderSettings | None = None
    contamination: ContaminationSettings | None = None
    matches: int = Field(
        2000, ge=1, le=20_000, description="best matches that the report holds, of all parts"
    )
    distillation: DistillationSettings | None = None

    @property
    def prefix_names(self) -> tuple[str, ...]:
        """Names of the prefixes, in order."""
        return tuple(p if isinstance(p, str) else p.name for p in self.prefixes)

    @property
    def sampled_models(self) -> tuple[str, ...]:
        """Names of all models that are sampled, in the order of the cells."""
        return tuple(dict.fromkeys(cell.model for cell in self.cells()))

    @property
    def headline_part(self) -> Part:
        """The part that is looked at closest: the question, where it is compared."""
        return "question" if "question" in self.parts else self.parts[0]

    @property
    def audits_search(self) -> bool:
        """Whether Annoy is held against exact search: where it is used, and not told otherwise."""
        return self.search_audit.queries > 0 and not self.index.exact

    def template_prefix(self, name: str) -> str:
        """The entry of `prefixes` behind a cell's prefix: `user` of `user-t0.7`."""
        if name in self.prefix_names:
            return name
        return next(
            prefix
            for extra in self.extra_cells
            for prefix in extra.prefixes
            if extra.prefix_name(prefix) == name
        )

    def literal_prefix(self, name: str) -> LiteralPrefix | None:
        """The literal prefix of a cell, or None where it is derived."""
        name = self.template_prefix(name)
        return next((p for p in self.prefixes if not isinstance(p, str) and p.name == name), None)

    def prefix_text(self, name: str) -> str | None:
        """The literal text of a cell's prefix, or None where it is derived."""
        literal = self.literal_prefix(name)
        return literal.text if literal else None

    def cells(self) -> Iterator[Cell]:
        """Every model x prefix x seed, in the order of params.yaml, and then the extra cells."""
        yield from self._grid()
        for cells in self._extra():
            yield from cells

    def _grid(self) -> Iterator[Cell]:
        for model in self.models:
            for prefix in self.prefix_names:
                for seed in self.seeds:
                    yield Cell(model, prefix, seed)

    def _extra(self) -> Iterator[list[Cell]]:
        """The cells of each entry of `extra_cells`."""
        for extra in self.extra_cells:
            yield [
                Cell(model, extra.prefix_name(prefix), seed)
                for model in extra.models
                for prefix in extra.prefixes
                for seed in self.seeds
            ]

    def most_sampled(self) -> list[Cell]:
        """The cells with the most generations, which the costlier analyses look at alone."""
        numbers = {cell: self.cell_sampling(cell).samples for cell in self.cells()}
        return [cell for cell, number in numbers.items() if number == max(numbers.values())]

    def cell_sampling(self, cell: Cell) -> SamplingSettings:
        """Sampling settings of one cell: overrides applied in order, or an extra cell's own."""
        values = self.sampling.model_dump()
        for extra, cells in zip(self.extra_cells, self._extra(), strict=True):
            if cell in cells:
                return SamplingSettings(**(values | extra.sampling))
        for override in self.overrides:
            if cell.model in override.models and cell.prefix in override.prefixes:
                values |= override.sampling
        return SamplingSettings(**values)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = self.prefix_names
        pairs = [f"{pair.before} and {pair.after}" for pair in self.likelihood]
        for key, given in (
            ("prefixes", names),
            ("models", self.models),
            ("seeds", self.seeds),
            ("parts", self.parts),
            ("likelihood", pairs),
        ):
            if twice := [name for i, name in enumerate(given) if name in given[:i]]:
                raise ValueError(f"{key}: {twice[0]!r} is given twice; remove or rename one")
        for i, override in enumerate(self.overrides):
            for key, given, known in (
                ("models", override.models, self.models),
                ("prefixes", override.prefixes, names),
            ):
                for name in given:
                    if name not in known:
                        raise ValueError(f"overrides.{i}.{key}: {name!r} is not in `{key}`")
            for key in override.sampling:
                if key not in SamplingSettings.model_fields:
                    raise ValueError(f"overrides.{i}.sampling.{key}: unknown key")
        for i, extra in enumerate(self.extra_cells):
            for name in extra.prefixes:
                if name not in names:
                    raise ValueError(f"extra_cells.{i}.prefixes: {name!r} is not in `prefixes`")
            for key in extra.sampling:
                if key not in SamplingSettings.model_fields:
                    raise ValueError(f"extra_cells.{i}.sampling.{key}: unknown key")
        seen: set[Cell] = set()
        for cell in self.cells():
            if cell in seen:
                raise ValueError(
                    f"extra_cells: {cell.model} at prefix {cell.prefix} is there already; "
                    "give a `name`"
                )
            seen.add(cell)
        for i, model in enumerate(self.controls.models):
            if model not in self.sampled_models:
                raise ValueError(f"controls.models.{i}: {model!r} is in no cell of the study")
        for part in ("answer", "both"):
            if part in self.parts and not any(self.cell_sampling(c).answer for c in self.cells()):
                raise ValueError(f"parts: `{part}` needs `sampling.answer: true`")
        return self
