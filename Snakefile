include: "workflow/rules/common.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/corpora.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/adapter.smk"
include: "workflow/rules/generations.smk"
include: "workflow/rules/matches.smk"
include: "workflow/rules/likelihood.smk"
include: "workflow/rules/attribution.smk"
include: "workflow/rules/distillation.smk"
include: "workflow/rules/report.smk"


localrules:
    all,
    datasets,
    generations,
    known_corpus,
    distill,
    trained_models,


def of_studies(files):
    """Files of every study that params.yaml names under `run`."""
    return [file for study in PARAMS.run for file in files(study)]


rule all:
    default_target: True
    input:
        of_studies(final_files),


rule datasets:
    input:
        of_studies(lambda study: layout.corpus_files(PARAMS.studies[study].corpus)),


rule generations:
    input:
        of_studies(lambda study: sum(layout.model_shards(PARAMS, study).values(), [])),
