"""Likelihood: every row of the corpus scored under one model."""


rule likelihood:
    input:
        model=lambda wildcards: layout.model_file(PARAMS, wildcards.model),
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
        settings=lambda wildcards: study_of(wildcards).likelihood,
        prefix=lambda wildcards: study_of(wildcards).prefix_named(
            study_of(wildcards).likelihood.prefix
        ),
        gpu_layers=PARAMS.gpu_layers,
        sha256=lambda wildcards: pinned_sha256(wildcards.model),
    script:
        "../scripts/likelihood.py"
