"""Where every file of a study lies: the one map that rules, verbs and the plan share.

Paths are strings relative to the folder that holds params.yaml; docs/files.md says what they hold.
Where one is a pattern, it is called with what fills it, in order.
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
    *("attribution", "repetitions", "kinds", "ratios", "comparisons", "exchangeability"),
)
"""Tables that scores and corpus give."""
RISK_TABLES = ("rows", "risk", "calibration", "shift", "tails", "membership")
"""Tables that likelihoods give."""
EDIT_TABLES = ("edits", "variants")
"""Tables of corpora with labelled edits."""
DISTILLATION_TABLES = tuple(f"distillation{s}" for s in ("", "_curves", "_counts", "_answers"))
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


embedder_folder = "data/embedders/{}".format
"""The folder of an embedder."""


corpus_file = "data/corpora/{}/corpus.parquet".format
"""The rows of a corpus."""


def corpus_files(corpus: str) -> list[str]:
    """The rows of a corpus, the rows that could not be used, and counts of both."""
    names = ("corpus.parquet", "rejects.parquet", "statistics.json")
    return [f"data/corpora/{corpus}/{name}" for name in names]


corpus_vectors = "data/embeddings/corpora/{}/{}/{}.npy".format
"""Embeddings: of a corpus, by an embedder, of a field."""
corpus_index = "data/indexes/{}/{}/{}-trees/{}.{}.ann".format
"""The Annoy index: of a corpus, by an embedder, of so many trees, of a group, of a field."""


def about(path: str) -> str:
    """The JSON beside vectors or an index that says what they were made from."""
    return f"{path.rpartition('.')[0]}.json"


condition_folder = "{0.model}/{0.prefix}/seed-{0.seed}".format
"""Where a condition's files lie below a study's folder."""


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


generation_vectors = "data/embeddings/generations/{}/{}/{}.npy".format
"""Embeddings of the distinct texts: of a study, by a model, of a field."""
matches_file = "data/matches/{}/{}.parquet".format
"""The nearest rows of the distinct texts: of a study, by a model."""
likelihood_file = "data/likelihood/{}/{}.parquet".format
"""The likelihood of the corpus: in a study, under a model."""
base_likelihood_file = "data/likelihood/{}/base-of/{}.parquet".format
"""The likelihood of the corpus under a model's base, in the model's own chat template."""
results_folder = "results/{}".format
"""The folder of a study's results."""


def result(study: str, name: str) -> str:
    """A file of a study's results; a table where the name has no suffix."""
    return f"{results_folder(study)}/{name if '.' in name else f'{name}.parquet'}"


def fields_of(study: StudySettings, model: str) -> tuple[Field, ...]:
    """What is compared of a model's generations: the question alone where none has an answer."""
    answers = any(study.sampling_of(c).answer for c in study.all_conditions() if c.model == model)
    return study.fields if answers else ("question",)


def tables(params: Params, study: str) -> list[str]:
    """Names of the tables of a study's results, those of students aside."""
    about = params.studies[study]
    risk = RISK_TABLES if about.likelihood else ()
    edits = EDIT_TABLES if "sft" in params.corpora[about.corpus].controlled else ()
    return [*ATTRIBUTION_TABLES, *risk, *edits]
