"""What every rule uses: the checked parameters, and the files of each part of a study."""

import ast
import functools
import json
import re
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from alignment_extraction.distillation.results import DISTILLATION_TABLES
from alignment_extraction.settings import config as schema
from alignment_extraction.files import InputError
from alignment_extraction.extraction.results import (
    CALIBRATION_TABLES,
    DISCOVERABLE_TABLES,
    LIKELIHOOD_TABLES,
    TABLES,
    table_names,
)
from alignment_extraction.extraction.metrics import EVIDENCE
from alignment_extraction.settings.validation import check_prefixes

# Read here and not by `configfile:`, which overwrites a key that is given twice and names neither
# the file nor the key of a mistake. What --config and --configfile say comes on top.
try:
    values = schema.read(Path("params.yaml"))
    if isinstance(values, dict):
        update_config(values, config)
    PARAMS = schema.validate(values)
except InputError as error:
    raise WorkflowError(str(error)) from None

NAME = r"[a-z0-9][a-z0-9.-]*"
SOURCE = Path("src/alignment_extraction")
# GPUs that a job asks for which can use one. Slurm and Kubernetes show it no other.
GPU = int(PARAMS.gpu_layers != 0)


wildcard_constraints:
    study=NAME,
    model=NAME,
    corpus=NAME,
    embedder=NAME,
    prefix=NAME,
    before=NAME,
    after=NAME,
    part="question|answer|both",
    seed=r"\d+",
    shard=r"\d{5}",


@functools.cache
def imported_modules(path):
    """Names of the package's modules, or of what they give, that a source file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            SOURCE.name
        ):
            names.append(node.module)
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def code(*modules):
    """Source files that the given modules of the package consist of, imports included.

    They are inputs of the rules, so that an edited module reruns the steps that use it. The schema
    is left out: what it gives reaches the rules as parameters.
    """
    found, waiting = set(), [f"{SOURCE.name}.{name}" for name in modules]
    while waiting:
        name = waiting.pop()
        path = SOURCE.parent / f"{name.replace('.', '/')}.py"
        if ".settings." in name or path in found or not path.exists():
            continue
        found.add(path)
        waiting.extend(imported_modules(path))
    return sorted(str(path) for path in found)


def settings(value):
    """Settings as JSON, which the verbs read from standard input."""
    return json.dumps(value, sort_keys=True)


def either(names):
    """A wildcard constraint that admits these names alone."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def options(**values):
    """Command-line options; those without a value are left out."""
    words = []
    for key, value in values.items():
        if value is not None:
            words += [f"--{key.replace('_', '-')}", str(value)]
    return shlex.join(words)


def repeated(option, values):
    """An option given once for each value."""
    return shlex.join(word for value in values for word in (f"--{option}", str(value)))


# Models and corpora -----------------------------------------------------------------------------


def model_file(name):
    """The GGUF of a model; a trained model in F16 is used as the training wrote it."""
    model = PARAMS.models[name]
    if model.trained and model.quantisation == "F16":
        return f"data/models/trained/{model.trained}.gguf"
    return f"data/models/{name}.gguf"


def pinned_sha256(name):
    """What params.yaml says of a model that comes from elsewhere; None of a trained one."""
    source = PARAMS.models[name].source
    return source.sha256 if source else None


# Not again in the processes that Snakemake starts for single jobs.
if workflow.is_main_process:
    try:
        check_prefixes(PARAMS, lambda name: Path(model_file(name)))
    except InputError as error:
        raise WorkflowError(str(error)) from None


def study_models(study):
    """Names of the models that a study samples or scores."""
    about = PARAMS.studies[study]
    pairs = [name for pair in about.likelihood for name in (pair.before, pair.after)]
    return list(dict.fromkeys([*about.sampled_models, *pairs]))


def corpus_file(study):
    return f"data/corpora/{PARAMS.studies[study].corpus}/corpus.parquet"


def corpus_files(corpus):
    folder = f"data/corpora/{corpus}"
    return [
        f"{folder}/corpus.parquet",
        f"{folder}/rejects.parquet",
        f"{folder}/statistics.json",
    ]


def embedder_options(name):
    embedder = PARAMS.embedders[name]
    limits = options(max_tokens=embedder.max_tokens, batch_size=embedder.batch_size)
    return f"{limits} --gpu" if GPU else limits


# The cells of a study: model x prefix x seed -------------------------------------------------------


def cell_of(wildcards):
    return schema.Cell(wildcards.model, wildcards.prefix, int(wildcards.seed))


def cell_path(cell):
    return f"{cell.model}/{cell.prefix}/seed-{cell.seed}"


def shard_sizes(study, cell):
    """First index and number of generations of each shard of a cell."""
    sampling = PARAMS.studies[study].cell_sampling(cell)
    firsts = range(0, sampling.samples, sampling.shard)
    return [(first, min(sampling.shard, sampling.samples - first)) for first in firsts]


def shards(study, cell):
    folder = f"data/generations/{study}/{cell_path(cell)}"
    return [f"{folder}/{i:05d}.parquet" for i in range(len(shard_sizes(study, cell)))]


def parts(study, cell):
    """What of a cell's generations is compared with the corpus."""
    about = PARAMS.studies[study]
    return about.parts if about.cell_sampling(cell).answer else ("question",)


def cell_files(study):
    """The cells of a study with their files, as `score` and `evaluate` take them."""
    return [
        {
            **cell._asdict(),
            "parts": parts(study, cell),
            "generations": shards(study, cell),
            "matches": f"data/matches/{study}/{cell_path(cell)}.parquet",
            "audit": f"data/matches/{study}/{cell_path(cell)}.json",
        }
        for cell in PARAMS.studies[study].cells()
    ]


def likelihood_files(study):
    return [
        f"data/likelihood/{study}/{pair.before}_{pair.after}.parquet"
        for pair in PARAMS.studies[study].likelihood
    ]


def is_distilled(study):
    """Whether a study's results show its students: they are asked for, or were trained before."""
    if not PARAMS.studies[study].distillation:
        return False
    made = (Path(f"results/{study}/{table}.parquet") for table in DISTILLATION_TABLES)
    return "distill" in workflow.dag_settings.targets or all(
        path.exists() for path in made
    )


def result_tables(study):
    """The Parquet files that a study's results consist of, beside scores.parquet."""
    names = table_names(PARAMS.studies[study], distilled=is_distilled(study))
    return [f"results/{study}/{name}.parquet" for name in names]


def study_results(study):
    """What a finished study leaves in results/."""
    return [f"results/{study}/metrics.json", f"results/{study}/report.html"]
