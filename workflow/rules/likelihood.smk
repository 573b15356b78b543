"""Likelihood: every row of the corpus scored under a model, and under its base."""


def scored_sources(wildcards):
    """The sources whose rows are scored under a model, and under its base; none is all."""
    given = study_of(wildcards).likelihood.sources
    return given or PARAMS.trained_on(wildcards.study)[wildcards.model]


rule likelihood:
    input:
        model=lambda wildcards: layout.model_files(PARAMS, wildcards.model),
        corpus=lambda wildcards: layout.corpus_file(study_of(wildcards).corpus),
        code=code("likelihood"),
    output:
        "data/likelihood/{study}/{model}.parquet",
    log:
        "logs/likelihood/{study}/{model}.log",
    benchmark:
        "logs/benchmarks/likelihood/{study}/{model}.tsv"
    threads: 2
    resources:
        gpu=GPU,
    params:
        sources=scored_sources,
        limit=lambda wildcards: study_of(wildcards).likelihood.limit,
        risk_only=lambda wildcards: study_of(wildcards).likelihood.risk_only,
        prefix=lambda wildcards: Given(study_of(wildcards).likelihood_prefix),
        gpu_layers=PARAMS.gpu_layers,
        sha256=lambda wildcards: PARAMS.models[wildcards.model].sha256,
        served=lambda wildcards: PARAMS.models[wildcards.model].served,
        template_of=None,
    script:
        "../scripts/likelihood.py"


use rule likelihood as likelihood_of_base with:
    input:
        model=lambda wildcards: layout.model_files(
            PARAMS, PARAMS.models[wildcards.model].base
        ),
        # Whose chat template the rows are put into: a base model may have none.
        template_of=lambda wildcards: layout.model_files(PARAMS, wildcards.model),
        corpus=lambda wildcards: layout.corpus_file(study_of(wildcards).corpus),
        code=code("likelihood"),
    output:
        "data/likelihood/{study}/base-of/{model}.parquet",
    log:
        "logs/likelihood/{study}/base-of/{model}.log",
    benchmark:
        "logs/benchmarks/likelihood/{study}/base-of/{model}.tsv"
    params:
        sources=scored_sources,
        limit=lambda wildcards: study_of(wildcards).likelihood.limit,
        risk_only=lambda wildcards: study_of(wildcards).likelihood.risk_only,
        prefix=lambda wildcards: Given(study_of(wildcards).likelihood_prefix),
        gpu_layers=PARAMS.gpu_layers,
        sha256=lambda wildcards: PARAMS.models[
            PARAMS.models[wildcards.model].base
        ].sha256,
        served=lambda wildcards: PARAMS.models[
            PARAMS.models[wildcards.model].base
        ].served,
        template_of=lambda wildcards: PARAMS.models[wildcards.model].served,
