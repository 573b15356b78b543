"""The schema of params.yaml: every setting that changes a result, checked before any job starts."""

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from alignment_extraction.corpora.source import CorpusSource
from alignment_extraction.files import InputError, without_credentials
from alignment_extraction.models.sources import PinnedSource
from alignment_extraction.settings.adapter import AdapterSettings
from alignment_extraction.settings.base import Name, Settings, checked
from alignment_extraction.settings.controlled import ControlledSettings, TrainingSettings
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.vocabulary import SEARCHED_ROLES, Condition, group_name

Quantisation = Literal["F16", "Q8_0", "Q4_K_M"]


class ModelSettings(Settings):
    """A GGUF model that exists somewhere or that this workflow trains, or one that is served."""

    source: PinnedSource | None = Field(None, description="where the GGUF file comes from")
    trained: str | None = Field(
        None, description="a stage of the controlled study's training, which this workflow runs"
    )
    quantisation: Quantisation | None = Field(
        None,
        description="of a trained model's GGUF, F16 by default; of a found one, the form that "
        "llama.cpp turns it into, which may be faster to compute in; by default it stays as it is",
    )
    base: str | None = Field(
        None, description="the model in `models` that it was trained from: what it is held against"
    )
    adapter: PinnedSource | None = Field(
        None,
        description="a LoRA adapter of `base`, into which it is merged: a GGUF, or a PEFT folder",
    )
    endpoint: str | None = Field(
        None,
        description="address, up to `/v1`, of a server of OpenAI-compatible completions that has "
        "the model; its key is read from the environment variable ENDPOINT_API_KEY",
    )
    model: str | None = Field(None, description="with `endpoint`: the server's name of the model")
    trained_on: tuple[str, ...] | None = Field(
        None, description="sources that it was trained on; by default all that have members"
    )
    parameters: float | None = Field(
        None, gt=0, description="weights of it, for `plan`, where the file is not there yet"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = (self.source, self.trained, self.adapter, self.endpoint)
        if sum(origin is not None for origin in origins) != 1:
            raise ValueError(
                "give one of `source` (with its sha256), `trained`, `adapter` and `endpoint`"
            )
        if (self.endpoint is None) != (self.model is None):
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
                "`quantisation` goes with `trained` or `source`; an adapter's model "
                "has that of its `base`"
            )
        return self

    @property
    def served(self) -> tuple[str, str] | None:
        """Address and name of a model that a server has."""
        return (self.endpoint, self.model) if self.endpoint and self.model else None

    @property
    def sha256(self) -> str | None:
        """What its GGUF must be; None where that is not known beforehand."""
        source = self.source
        as_it_is = source and not source.split and not self.quantisation
        return source.sha256 if source and as_it_is else None


class EmbedderSettings(Settings):
    """A sentence-transformers model."""

    source: PinnedSource = Field(description="where the model's folder comes from")
    batch_size: int = Field(64, ge=1, description="texts encoded at once")
    max_tokens: int = Field(256, ge=1, description="a longer text is cut here, in tokens")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="numbers that it computes in; auto is float16 on a GPU, float32 elsewhere",
    )
    parameters: float | None = Field(
        None, gt=0, description="weights of it, for `plan`, where it is not there yet"
    )


class CorpusSettings(Settings):
    """A post-training data set: files or generators in one schema, or the controlled data."""

    sources: tuple[CorpusSource, ...] = Field((), description="files, hub data sets, generators")
    controlled: bool = Field(False, description="use the data of the section `controlled`")
    conversations: bool = Field(False, description="use the conversations of the section `adapter`")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if bool(self.sources) + self.controlled + self.conversations != 1:
            raise ValueError("give one of `sources`, `controlled: true` and `conversations: true`")
        names = [(source.name, source.role) for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError("two sources have one name and role")
        return self

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that are searched: the rows of one source and role."""
        if self.controlled:
            # Of RL no template is held out.
            return ("sft.member", "sft.twin", "sft.held-out", "rl.member", "rl.twin")
        if self.conversations:
            return ("conversations.member", "conversations.twin")
        return tuple(
            group_name(source.name, source.role)
            for source in self.sources
            if source.role in SEARCHED_ROLES
        )

    @property
    def member_sources(self) -> tuple[str, ...]:
        """Sources that have members: what a model can have been trained on."""
        if self.controlled:
            return ("sft", "rl")
        if self.conversations:
            return ("conversations",)
        return tuple(source.name for source in self.sources if source.role == "member")


class Params(Settings):
    """The whole of params.yaml."""

    run: tuple[str, ...] = Field(min_length=1, description="studies that `snakemake` builds")
    seed: int = Field(0, ge=0, description="seed of everything but sampling and training")
    gpu_layers: int = Field(0, ge=-1, description="layers put on a GPU; 0 is none, -1 is all")
    models: dict[Name, ModelSettings]
    embedders: dict[Name, EmbedderSettings]
    corpora: dict[Name, CorpusSettings]
    studies: dict[Name, StudySettings]
    controlled: ControlledSettings = Field(
        default_factory=ControlledSettings, description="data of the controlled study"
    )
    train: TrainingSettings = Field(
        default_factory=TrainingSettings, description="training of the controlled study's models"
    )
    adapter: AdapterSettings = Field(
        default_factory=AdapterSettings,
        description="a model's own conversations, and the adapter that half of them train",
    )

    @model_validator(mode="after")
    def _references(self) -> Self:
        def known(key: str, name: str, names: Any, section: str) -> None:
            if name not in names:
                raise ValueError(f"{key}: {name!r} is not in `{section}` ({', '.join(names)})")

        for i, name in enumerate(self.run):
            known(f"run.{i}", name, self.studies, "studies")
        if any(corpus.conversations for corpus in self.corpora.values()):
            known("adapter.base", self.adapter.base, self.models, "models")
        for name, about in self.models.items():
            if about.base is not None:
                known(f"models.{name}.base", about.base, self.models, "models")
                if about.adapter and self.models[about.base].served:
                    raise ValueError(f"models.{name}.base: {about.base!r} is served, not a file")
        for study_name, study in self.studies.items():
            at = f"studies.{study_name}"
            known(f"{at}.corpus", study.corpus, self.corpora, "corpora")
            known(f"{at}.embedder", study.embedder, self.embedders, "embedders")
            for i, model in enumerate(study.models):
                known(f"{at}.models.{i}", model, self.models, "models")
            for i, model in enumerate(study.likelihood.models if study.likelihood else ()):
                known(f"{at}.likelihood.models.{i}", model, self.models, "models")
                base = self.models[model].base or model
                if len({self.models[name].served is None for name in (model, base)}) > 1:
                    raise ValueError(
                        f"{at}.likelihood.models.{i}: {model!r} is compared with its base "
                        f"{base!r}, so both must be files or both served"
                    )
            _check_distillation(at, study, self)
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


def _check_distillation(at: str, study: StudySettings, params: Params) -> None:
    """Raise ValueError where a study's students could not be made from what it has."""
    if study.distillation is None:
        return
    at, about = f"{at}.distillation", study.distillation
    if not params.corpora[study.corpus].controlled:
        raise ValueError(f"{at}: the study's corpus must have `controlled: true`")
    for family, own in about.families.items():
        for seed in study.seeds:
            condition = Condition(own.model, about.prefix, seed)
            if condition not in study.all_conditions():
                raise ValueError(
                    f"{at}.{family}.model: {own.model!r} is not sampled at prefix {about.prefix!r}"
                )
            if not study.sampling_of(condition).answer:
                raise ValueError(
                    f"{at}.{family}.model: {own.model!r} needs `sampling.answer: true`"
                )


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, which PyYAML would silently overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *anchor`
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                mark = key_node.start_mark
                raise InputError(
                    f"{mark.name}, line {mark.line + 1}: {key!r} is given twice; remove one"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def validate(values: Any, origin: str = "params.yaml") -> Params:
    """Check `values` against the schema.

    Raises:
        InputError: one line that names the first offending key.
    """
    params: Params = checked(Params, values, origin)
    return params


def read(path: Path) -> Any:
    """The values of a params.yaml, unchecked.

    Raises:
        InputError: unreadable, not YAML, or a key twice.
    """
    try:
        return yaml.load(path.read_text(), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None


def load(path: Path) -> Params:
    """Read and check a params.yaml.

    Raises:
        InputError: see `read`, or against the schema.
    """
    return validate(read(path), str(path))


def study(path: Path, name: str) -> StudySettings:
    """One study of a params.yaml.

    Raises:
        InputError: see `load`, or there is no such study.
    """
    studies = load(path).studies
    if name not in studies:
        raise InputError(f"{name!r}: no such study in {path} (there are {', '.join(studies)})")
    return studies[name]
