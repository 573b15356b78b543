"""Likelihood: every row of the corpus scored under a model, and under its base."""


def scored(wildcards):
    """The model that rows are scored under."""
    model = PARAMS.models[wildcards.model]
    return model.base if wildcards.base else wildcards.model


def scored_sources(wildcards):
    """The sources whose rows are scored under a model, and under its base; none is all."""
    given = study_of(wildcards).likelihood.sources
    return given or PARAMS.trained_on(wildcards.study)[wildcards.model]


rule likelihood:
    input:
        model=lambda wildcards: layout.model_files(PARAMS, scored(wildcards)),
        # Whose chat template the rows are put into: a base model may have none.
        template_of=lambda wildcards: (
            layout.model_files(PARAMS, wildcards.model) if wildcards.base else []
        ),
        corpus=corpus_of,
        code=code("likelihood"),
    output:
        "data/likelihood/{study}/{base}{model}.parquet",
    log:
        "logs/likelihood/{study}/{base}{model}.log",
    benchmark:
        "logs/benchmarks/likelihood/{study}/{base}{model}.tsv"
    wildcard_constraints:
        base="(base-of/)?",
    # Two threads wait for each other a third of the time in models as small as those trained here.
    threads: lambda wildcards: 1 if PARAMS.models[scored(wildcards)].trained else 2
    resources:
        gpu=GPU,
    params:
        sources=scored_sources,
        limit=lambda wildcards: study_of(wildcards).likelihood.limit,
        scored=lambda wildcards: study_of(wildcards).likelihood.scored,
        prefix=lambda wildcards: Given(study_of(wildcards).likelihood_prefix),
        gpu_layers=PARAMS.gpu_layers,
        sha256=lambda wildcards: PARAMS.models[scored(wildcards)].sha256,
        served=lambda wildcards: PARAMS.models[scored(wildcards)].served,
        template_of=lambda wildcards: (
            PARAMS.models[wildcards.model].served if wildcards.base else None
        ),
    script:
        "../scripts/likelihood.py"
