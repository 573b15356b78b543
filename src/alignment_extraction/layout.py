"""Where every file of a study lies: the one map that rules, verbs and the plan share.

    data/models/{model}.gguf                     data/models/trained/{stage}.gguf
    data/embedders/{embedder}/                   data/corpora/{corpus}/corpus.parquet
    data/generations/{study}/{condition}/{shard}.parquet
    data/embeddings/..., data/indexes/...        vectors and Annoy indexes
    data/matches/{study}/{model}.parquet         data/likelihood/{study}/{model}.parquet
    data/distillation/{study}/                   results/{study}/

Paths are strings relative to the folder that holds params.yaml.
"""

from alignment_extraction.settings.config import Params
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.vocabulary import Condition, Field

TRAINED = "data/models/trained"
TRAINING_CORPUS = f"{TRAINED}/corpus.parquet"
TOKENIZER = f"{TRAINED}/tokenizer.json"
CONVERSATIONS = f"{TRAINED}/conversations.parquet"
ADAPTER = f"{TRAINED}/adapter.gguf"

ATTRIBUTION_TABLES = (
    "attribution",
    "repetitions",
    "kinds",
    "ratios",
    "comparisons",
    "exchangeability",
)
"""Tables that scores and corpus give."""
RISK_TABLES = ("rows", "risk", "calibration", "shift", "tails", "membership")
"""Tables that likelihoods give."""
EDIT_TABLES = ("edits", "variants")
"""Tables of corpora with labelled edits."""
DISTILLATION_TABLES = ("distillation", "distillation_curves", "distillation_counts")
"""Tables of students."""


def trained_file(stage: str, suffix: str = ".gguf") -> str:
    """A file of a training stage: the GGUF, or with another suffix its curves and settings."""
    return f"{TRAINED}/{stage}{suffix}"


def model_file(params: Params, name: str) -> str:
    """The GGUF of a model; a trained one in F16 is used as the training wrote it."""
    model = params.models[name]
    if model.trained and model.quantisation in (None, "F16"):
        return trained_file(model.trained)
    return f"data/models/{name}.gguf"


def model_files(params: Params, name: str) -> list[str]:
    """The GGUF of a model, as a list; none where a server has it."""
    return [] if params.models[name].served else [model_file(params, name)]


def embedder_folder(name: str) -> str:
    """The folder of an embedder."""
    return f"data/embedders/{name}"


def corpus_file(corpus: str) -> str:
    """The rows of a corpus."""
    return corpus_files(corpus)[0]


def corpus_files(corpus: str) -> list[str]:
    """The rows of a corpus, the rows that could not be used, and counts of both."""
    names = ("corpus.parquet", "rejects.parquet", "statistics.json")
    return [f"data/corpora/{corpus}/{name}" for name in names]


def corpus_vectors(corpus: str, embedder: str, field: str) -> str:
    """Embeddings of one field of a corpus."""
    return f"data/embeddings/corpora/{corpus}/{embedder}/{field}.npy"


def corpus_index(corpus: str, embedder: str, trees: int | str, group: str, field: str) -> str:
    """The Annoy index of one field of one group of a corpus."""
    return f"data/indexes/{corpus}/{embedder}/{trees}-trees/{group}.{field}.ann"


def about(path: str) -> str:
    """The JSON beside vectors or an index that says what they were made from."""
    return f"{path.rpartition('.')[0]}.json"


def condition_folder(condition: Condition) -> str:
    """Where a condition's files lie below a study's folder."""
    return f"{condition.model}/{condition.prefix}/seed-{condition.seed}"


def shard_sizes(study: StudySettings, condition: Condition) -> list[tuple[int, int]]:
    """Index of the first generation, and number of generations, of each shard of a condition."""
    sampling = study.sampling_of(condition)
    firsts = range(0, sampling.samples, sampling.shard)
    return [(first, min(sampling.shard, sampling.samples - first)) for first in firsts]


def shards(params: Params, study: str, condition: Condition) -> list[str]:
    """The generations of a condition."""
    folder = f"data/generations/{study}/{condition_folder(condition)}"
    count = len(shard_sizes(params.studies[study], condition))
    return [f"{folder}/{i:05d}.parquet" for i in range(count)]


def model_shards(
    params: Params, study: str, model: str | None = None
) -> dict[Condition, list[str]]:
    """The generations of each condition of a study, or of those of one model."""
    return {
        condition: shards(params, study, condition)
        for condition in params.studies[study].all_conditions()
        if model in (None, condition.model)
    }


def generation_vectors(study: str, model: str, field: str) -> str:
    """Embeddings of the distinct texts that a model wrote in a study."""
    return f"data/embeddings/generations/{study}/{model}/{field}.npy"


def matches_file(study: str, model: str) -> str:
    """The nearest rows of the distinct texts that a model wrote in a study."""
    return f"data/matches/{study}/{model}.parquet"


def likelihood_file(study: str, model: str) -> str:
    """The likelihood of the corpus under one model."""
    return f"data/likelihood/{study}/{model}.parquet"


def base_likelihood_file(study: str, model: str) -> str:
    """The likelihood of the corpus under a model's base, in the model's own chat template."""
    return f"data/likelihood/{study}/base-of/{model}.parquet"


def results_folder(study: str) -> str:
    """The folder of a study's results."""
    return f"results/{study}"


def result(study: str, name: str) -> str:
    """A file of a study's results; a table where the name has no suffix."""
    return f"{results_folder(study)}/{name if '.' in name else f'{name}.parquet'}"


def fields_of(study: StudySettings, model: str) -> tuple[Field, ...]:
    """What is compared of a model's generations: the question alone where none has an answer."""
    answers = any(
        study.sampling_of(condition).answer
        for condition in study.all_conditions()
        if condition.model == model
    )
    return study.fields if answers else ("question",)


def tables(params: Params, study: str) -> list[str]:
    """Names of the tables of a study's results, those of students aside."""
    about = params.studies[study]
    risk = RISK_TABLES if about.likelihood else ()
    edits = EDIT_TABLES if params.corpora[about.corpus].controlled else ()
    return [*ATTRIBUTION_TABLES, *risk, *edits]
