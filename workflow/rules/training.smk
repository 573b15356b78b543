"""The controlled study's data and models: corpus, tokenizer, every stage of training, quantised.

Training takes long, and only other settings change what comes out. So the package's modules are not
among the inputs of these rules, and where the settings are those of the model that is there, the
inputs are `ancient`: no edited module and no date of a file trains again. Changed settings, of the
data too, do: each rule has all settings that its model comes from as a parameter, and writes them
beside the model. The corpus lies with the models that it made, and is shipped with them.
`snakemake --forcerun train -- trained_models` trains every shipped model again.
"""

from alignment_extraction.training.stages import STAGES

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
    given = {"seed": True, "controlled": True, "train": set(sections)}
    return PARAMS.model_dump(mode="json", include=given)


def record_file(name):
    return layout.trained_file(name, "-settings.json")


def trained_from(files, name="{stage}"):
    """Inputs of the training of a stage, or of the tokenizer; see `settled`."""

    def settings(wildcards):
        return stage_settings(wildcards.get("stage", name))

    return settled(files, record_file(name), settings, "train")


rule trained_models:
    input:
        expand(
            layout.trained_file("{stage}", "{suffix}"),
            stage=sorted(TRAINED_STAGES),
            suffix=(".gguf", "-curves.parquet", "-settings.json"),
        ),


rule training_corpus:
    output:
        layout.TRAINING_CORPUS,
    log:
        "logs/training_corpus.log",
    params:
        settings=Given(PARAMS.controlled),
        seed=PARAMS.seed,
    script:
        "../scripts/training_corpus.py"


rule train_tokenizer:
    input:
        corpus=trained_from(layout.TRAINING_CORPUS, "tokenizer"),
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
