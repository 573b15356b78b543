"""The schema of params.yaml: every setting that changes a result, checked before any job starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self, cast

import yaml
from pydantic import Field, PositiveFloat, model_validator

from alignment_extraction.corpora.source import CorpusSource
from alignment_extraction.files import InputError, without_credentials
from alignment_extraction.models.sources import PinnedSource
from alignment_extraction.settings.adapter import AdapterSettings
from alignment_extraction.settings.base import Name, Names, Settings, checked
from alignment_extraction.settings.controlled import ControlledSettings, TrainingSettings
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.vocabulary import SEARCHED_ROLES

Quantisation = Literal["F16", "Q8_0", "Q4_K_M"]


class ModelSettings(Settings):
    """A GGUF model that exists somewhere or that this workflow trains, or one that is served."""

    source: PinnedSource | None = Field(None, description="where the GGUF file comes from")
    trained: str | None = Field(None, description="a stage of the workflow's own training")
    quantisation: Quantisation | None = None
    """of a trained model's GGUF, by default F16; what a found one is computed in, if not its own"""
    base: str | None = Field(None, description="the model in `models` that it was trained from")
    adapter: PinnedSource | None = Field(None, description="LoRA of `base`: a GGUF or PEFT folder")
    endpoint: str | None = None
    """server of OpenAI-compatible completions, up to `/v1`; its key is in ENDPOINT_API_KEY"""
    model: str | None = Field(None, description="with `endpoint`: the server's name of the model")
    trained_on: tuple[str, ...] | None = None
    """sources that it was trained on; by default all that have members"""
    parameters: PositiveFloat | None = Field(None, description="number of weights, for `plan`")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(map(bool, (self.source, self.trained, self.adapter, self.endpoint))) != 1:
            raise ValueError(
                "give one of `source` (with its sha256), `trained`, `adapter` and `endpoint`"
            )
        if bool(self.endpoint) != bool(self.model):
            raise ValueError("`endpoint` and `model`, the server's name of it, go together")
        if self.endpoint and without_credentials(self.endpoint) != self.endpoint:
            raise ValueError(
                "`endpoint` has a password or a query; put the key into the environment variable "
                "ENDPOINT_API_KEY"
            )
        if self.adapter and self.base is None:
            raise ValueError("`adapter` needs `base`, the model in `models` that it belongs to")
        if self.quantisation and not (self.trained or self.source):
            raise ValueError(
                "`quantisation` needs `trained` or `source`; an adapter has its base's"
            )
        return self

    @property
    def served(self) -> tuple[str, str] | None:
        """Address and name of a model that a server has."""
        return (self.endpoint, self.model) if self.endpoint and self.model else None

    @property
    def sha256(self) -> str | None:
        """What its GGUF must be; None where that is not known beforehand."""
        source = None if self.quantisation else self.source
        return source.sha256 if source and not source.split else None


class EmbedderSettings(Settings):
    """A sentence-transformers model."""

    source: PinnedSource = Field(description="where the model's folder comes from")
    batch_size: int = Field(64, ge=1, description="texts encoded at once")
    max_tokens: int = Field(256, ge=1, description="a longer text is cut here, in tokens")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """what it computes in; auto is float16 on a GPU, float32 elsewhere"""
    parameters: PositiveFloat | None = Field(None, description="number of weights, for `plan`")


class CorpusSettings(Settings):
    """A post-training data set: files in one schema, or data that the workflow draws."""

    sources: tuple[CorpusSource, ...] = Field((), description="files, hub data sets")
    controlled: tuple[Literal["sft", "rl", "rl-wide"], ...] = ()
    """searched sources of the section `controlled`"""
    conversations: bool = Field(False, description="use the conversations of the section `adapter`")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if bool(self.sources) + bool(self.controlled) + self.conversations != 1:
            raise ValueError("give one of `sources`, `controlled` and `conversations: true`")
        names = [*(source.group for source in self.sources), *self.controlled]
        if len(set(names)) < len(names):
            raise ValueError("two sources have one name and role")
        return self

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that are searched: the rows of one source and role."""
        given = [source.group for source in self.sources if source.role in SEARCHED_ROLES]
        for name in (*self.controlled, *["conversations"] * self.conversations):
            roles = ("member", "twin", "held-out") if name == "sft" else ("member", "twin")
            given += [f"{name}.{role}" for role in roles]
        return tuple(given)

    @property
    def member_sources(self) -> tuple[str, ...]:
        """Sources that have members: what a model can have been trained on."""
        return tuple(g.removesuffix(".member") for g in self.groups if g.endswith(".member"))


class Params(Settings):
    """The whole of params.yaml."""

    run: Names = Field(description="studies that `snakemake` builds")
    seed: int = Field(0, ge=0, description="seed of everything but sampling and training")
    gpu_layers: int = Field(0, ge=-1, description="layers put on a GPU; 0 is none, -1 is all")
    models: dict[Name, ModelSettings]
    embedders: dict[Name, EmbedderSettings]
    corpora: dict[Name, CorpusSettings]
    studies: dict[Name, StudySettings]
    controlled: ControlledSettings = ControlledSettings()
    train: TrainingSettings = TrainingSettings()
    adapter: AdapterSettings = AdapterSettings()

    @property
    def sources(self) -> list[str]:
        """Names of all sources of all corpora that are searched."""
        return sorted({g.rpartition(".")[0] for c in self.corpora.values() for g in c.groups})

    def _references(self) -> Iterator[tuple[str, str, str]]:
        """Every name of an entry of a section: the key that gives it, the name, the section."""
        yield from ((f"run.{i}", name, "studies") for i, name in enumerate(self.run))
        if any(corpus.conversations for corpus in self.corpora.values()):
            yield "adapter.base", self.adapter.base, "models"
        for name, model in self.models.items():
            if model.base is not None:
                yield f"models.{name}.base", model.base, "models"
            yield from ((f"models.{name}.trained_on", s, "sources") for s in model.trained_on or ())
        for name, study in self.studies.items():
            at = f"studies.{name}"
            yield f"{at}.corpus", study.corpus, "corpora"
            yield f"{at}.embedder", study.embedder, "embedders"
            yield from ((f"{at}.models.{i}", name, "models") for i, name in enumerate(study.models))
            if about := study.likelihood:
                for section in ("models", "sources"):
                    for i, name in enumerate(getattr(about, section)):
                        yield f"{at}.likelihood.{section}.{i}", name, section

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key, name, section in self._references():
            if name not in (known := getattr(self, section)):
                raise ValueError(f"{key}: {name!r} is not in `{section}` ({', '.join(known)})")
        for name, model in self.models.items():
            if model.adapter and model.base and self.models[model.base].served:
                raise ValueError(f"models.{name}.base: {model.base!r} is served, not a file")
        for name, study in self.studies.items():
            for condition in study.all_conditions():
                asked, form = condition.model, study.prefix_of(condition)
                if self.models[asked].served and isinstance(form, str):
                    raise ValueError(
                        f"studies.{name}: {asked!r} is served, so its prefix {form!r} has to be a "
                        "literal {name, text, end} (docs/models.md has those of many models)"
                    )
            for i, scored in enumerate(study.likelihood.models if study.likelihood else ()):
                base = self.models[scored].base or scored
                if bool(self.models[scored].served) != bool(self.models[base].served):
                    both = f"studies.{name}.likelihood.models.{i}: {scored!r} and its base {base!r}"
                    raise ValueError(f"{both} must both be files, or both served")
            searched = self.corpora[study.corpus].controlled
            for family, own in study.distillation.families.items() if study.distillation else ():
                if own.source not in searched:
                    key = f"studies.{name}.distillation.{family}.source"
                    raise ValueError(f"{key}: {own.source!r} is no searched source of the corpus")
        return self

    def trained_on(self, study: str) -> dict[str, tuple[str, ...]]:
        """The sources of a study's corpus that each of its models was trained on."""
        about = self.studies[study]
        sources = self.corpora[about.corpus].member_sources
        given = {model: self.models[model].trained_on for model in about.used_models}
        return {
            model: sources if named is None else tuple(s for s in sources if s in named)
            for model, named in given.items()
        }


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, which PyYAML would silently overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise InputError(
                    f"{key.start_mark.name}, line {key.start_mark.line + 1}: {key.value!r} is "
                    "given twice; remove one"
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def validate(values: Any, origin: str = "params.yaml") -> Params:
    """Check the values of a params.yaml; an `InputError` names `origin` and the first wrong key."""
    return cast(Params, checked(Params, values, origin))


def read(path: Path) -> Any:
    """The values of a params.yaml, unchecked.

    Raises:
        InputError: unreadable, not YAML, or a key twice.
    """
    try:
        with path.open("rb") as file:  # its name stands in the messages
            return yaml.load(file, Loader=_UniqueKeyLoader)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None


def load(path: Path) -> Params:
    """Read and check a params.yaml; raises as `read` and `validate` do."""
    return validate(read(path), str(path))


def study(path: Path, name: str) -> StudySettings:
    """One study of a params.yaml; raises as `load`, or an `InputError` where there is none such."""
    studies = load(path).studies
    if name not in studies:
        raise InputError(f"{name!r}: no such study in {path} (there are {', '.join(studies)})")
    return studies[name]
