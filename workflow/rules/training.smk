"""The controlled study's data and models: corpus, tokenizer, every stage of training, quantised.

Training takes long, and only other settings change what comes out. So the package's modules are not
among the inputs of these rules, and where the settings are those of the model that is there, the
inputs are `ancient`: no edited module and no date of a file trains again. Changed settings, of the
data too, do: each rule has all settings that its model comes from as a parameter, and writes them
beside the model. The corpus lies with the models that it made, and is shipped with them.
`snakemake --forcerun train -- trained_models` trains every shipped model again.
"""

import json

from alignment_extraction.training.stages import STAGES

CONTROLLED = either(
    name for name, corpus in PARAMS.corpora.items() if corpus.controlled
)
QUANTISED = [
    name
    for name, model in PARAMS.models.items()
    if model.trained and model.quantisation not in (None, "F16")
]
# The stages behind the models of the studies in `run`, and the stages that these start from.
TRAINED_STAGES = {
    PARAMS.models[name].trained
    for study in PARAMS.run
    for name in PARAMS.studies[study].used_models
    if PARAMS.models[name].trained
}
for stage in reversed(STAGES.values()):
    if stage.name in TRAINED_STAGES and stage.starts_from:
        TRAINED_STAGES.add(stage.starts_from)


wildcard_constraints:
    stage=either(STAGES),


def stage_settings(name):
    """The settings that a stage's model, or the tokenizer, comes from."""
    sections = STAGES["base" if name == "tokenizer" else name].sections
    train = PARAMS.train.model_dump(mode="json")
    return {
        "seed": PARAMS.seed,
        "controlled": PARAMS.controlled.model_dump(mode="json"),
        "train": {key: train[key] for key in sections},
    }


def record_file(name):
    return layout.trained_file(name, "-settings.json")


def recorded(path, record, *forced):
    """Whether a file holds `record` and no target that begins with one of `forced` is forced."""
    path = Path(path)
    targets = workflow.dag_settings.forcerun
    return (
        path.exists()
        and json.loads(path.read_text()) == record
        and not any(target.startswith(forced) for target in targets)
    )


def trained_from(file):
    """A file as an input of the training of a stage: ancient while its model is to be kept.

    That is, while the settings are those that the model was trained with and no training is forced.
    Otherwise it must be a plain input: where a job runs, Snakemake looks neither at the parameters
    of those that depend on it nor whether they are forced, and it does not rerun them through
    `ancient` inputs.
    """

    def flagged(wildcards):
        name = getattr(wildcards, "stage", "tokenizer")
        path = file(wildcards) if callable(file) else file
        current = recorded(record_file(name), stage_settings(name), "train")
        return ancient(path) if path and current else path

    return flagged


localrules:
    trained_models,
    controlled_corpus,


rule trained_models:
    input:
        [
            layout.trained_file(stage, suffix)
            for stage in STAGES
            if stage in TRAINED_STAGES
            for suffix in (".gguf", "-curves.parquet", "-settings.json")
        ],


rule training_corpus:
    output:
        corpus=layout.TRAINING_CORPUS,
        statistics=layout.trained_file("corpus-statistics", ".json"),
    log:
        "logs/training_corpus.log",
    params:
        settings=Given(PARAMS.controlled),
        seed=PARAMS.seed,
    script:
        "../scripts/training_corpus.py"


rule controlled_corpus:
    input:
        corpus=layout.TRAINING_CORPUS,
    output:
        corpus="data/corpora/{corpus}/corpus.parquet",
        rejects="data/corpora/{corpus}/rejects.parquet",
        statistics="data/corpora/{corpus}/statistics.json",
    log:
        "logs/corpus/{corpus}.log",
    wildcard_constraints:
        corpus=CONTROLLED,
    script:
        "../scripts/controlled_corpus.py"


rule train_tokenizer:
    input:
        corpus=trained_from(layout.TRAINING_CORPUS),
    output:
        tokenizer=layout.TOKENIZER,
        settings=record_file("tokenizer"),
    log:
        "logs/train_tokenizer.log",
    params:
        record=stage_settings("tokenizer"),
    script:
        "../scripts/train_tokenizer.py"


def starting_model(wildcards):
    start = STAGES[wildcards.stage].starts_from
    return layout.trained_file(start) if start else []


rule train:
    input:
        corpus=trained_from(layout.TRAINING_CORPUS),
        tokenizer=trained_from(layout.TOKENIZER),
        start=trained_from(starting_model),
    output:
        model=layout.trained_file("{stage}"),
        curves=layout.trained_file("{stage}", "-curves.parquet"),
        settings=layout.trained_file("{stage}", "-settings.json"),
    log:
        "logs/train/{stage}.log",
    benchmark:
        "logs/benchmarks/train/{stage}.tsv"
    threads: 8
    params:
        # No other section: a setting of RL trains no base model again.
        record=lambda wildcards: stage_settings(wildcards.stage),
    script:
        "../scripts/train.py"


rule quantise:
    input:
        lambda wildcards: layout.trained_file(PARAMS.models[wildcards.model].trained),
    output:
        "data/models/{model}.gguf",
    log:
        "logs/quantise/{model}.log",
    wildcard_constraints:
        model=either(QUANTISED),
    params:
        kind=lambda wildcards: PARAMS.models[wildcards.model].quantisation,
    script:
        "../scripts/quantise.py"
