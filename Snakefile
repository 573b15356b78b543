from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/corpora.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/generations.smk"
include: "workflow/rules/matches.smk"
include: "workflow/rules/likelihood.smk"
include: "workflow/rules/evidence.smk"
include: "workflow/rules/distillation.smk"
include: "workflow/rules/results.smk"


localrules:
    all,
    datasets,
    models,
    generations,
    results,


rule all:
    default_target: True
    input:
        [study_results(study) for study in PARAMS.run],
        [f"results/{study}/tracked.json" for study in PARAMS.run],


rule datasets:
    input:
        [corpus_files(PARAMS.studies[study].corpus) for study in PARAMS.run],


rule models:
    input:
        [[model_file(name) for name in study_models(study)] for study in PARAMS.run],


rule generations:
    input:
        [
            [shards(study, cell) for cell in PARAMS.studies[study].cells()]
            for study in PARAMS.run
        ],


rule results:
    input:
        [study_results(study) for study in PARAMS.run],
