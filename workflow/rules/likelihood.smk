"""Likelihood: each corpus row scored under a model before training and one after."""


def likelihood_pair(wildcards):
    return next(
        pair
        for pair in PARAMS.studies[wildcards.study].likelihood
        if (pair.before, pair.after) == (wildcards.before, wildcards.after)
    )


def likelihood_options(wildcards):
    pair = likelihood_pair(wildcards)
    sources = shlex.join(
        word for source in pair.sources for word in ("--source", source)
    )
    others = options(
        limit=pair.limit,
        prefix=pair.prefix,
        gpu_layers=PARAMS.gpu_layers,
        before_sha256=pinned_sha256(pair.before),
        after_sha256=pinned_sha256(pair.after),
    )
    return f"{sources} {others}"


rule likelihood:
    input:
        before=lambda wildcards: model_file(wildcards.before),
        after=lambda wildcards: model_file(wildcards.after),
        corpus=lambda wildcards: corpus_file(wildcards.study),
        code=code("likelihoods.likelihood"),
    output:
        "data/likelihood/{study}/{before}_{after}.parquet",
    log:
        "logs/likelihood/{study}/{before}_{after}.log",
    benchmark:
        "logs/benchmarks/likelihood/{study}/{before}_{after}.tsv"
    threads: 2
    resources:
        gpu=GPU,
    params:
        options=likelihood_options,
    shell:
        "alignment-extraction likelihood --before {input.before} --after {input.after}"
        " --corpus {input.corpus} {params.options} --threads {threads}"
        " --output {output} 2> >(tee {log} >&2)"


rule likelihood_tables:
    input:
        pairs=lambda wildcards: likelihood_files(wildcards.study),
        code=code("extraction.results"),
    output:
        [f"results/{{study}}/{table}.parquet" for table in LIKELIHOOD_TABLES],
    log:
        "logs/likelihood_tables/{study}.log",
    wildcard_constraints:
        study=either(name for name, study in PARAMS.studies.items() if study.likelihood),
    params:
        pairs=lambda wildcards: settings(
            [
                {"before": pair.before, "after": pair.after, "file": file}
                for pair, file in zip(
                    PARAMS.studies[wildcards.study].likelihood,
                    likelihood_files(wildcards.study),
                )
            ]
        ),
        seed=PARAMS.seed,
    shell:
        "echo {params.pairs:q} | alignment-extraction likelihood-tables --pairs -"
        " --output-folder results/{wildcards.study} --seed {params.seed} 2> >(tee {log} >&2)"
