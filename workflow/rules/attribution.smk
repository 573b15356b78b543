"""Attribution: what training caused, and which rows are at risk."""


def likelihoods(wildcards):
    """The likelihood table of each scored model of a study, by name; none where none is scored."""
    settings = study_of(wildcards).likelihood
    return {
        model: layout.likelihood_file(wildcards.study, model)
        for model in (settings.models if settings else ())
    }


def bases(wildcards):
    """The base of each scored model that params.yaml names one of, and its table."""
    return {
        model: (
            PARAMS.models[model].base,
            layout.base_likelihood_file(wildcards.study, model),
        )
        for model in likelihoods(wildcards)
        if PARAMS.models[model].base
    }


def base_files(wildcards):
    return [file for _, file in bases(wildcards).values()]


rule attribution:
    input:
        bases=base_files,
        scores="results/{study}/scores.parquet",
        generations=shard_files,
        corpus=corpus_of,
        code=code("attribution"),
    output:
        **{
            name: f"results/{{study}}/{name}.parquet"
            for name in layout.ATTRIBUTION_TABLES
        },
    log:
        "logs/attribution/{study}.log",
    benchmark:
        "logs/benchmarks/attribution/{study}.tsv"
    params:
        shards=shards_of,
        trained=lambda wildcards: PARAMS.trained_on(wildcards.study),
        # Models that were trained on the same sources from the same base: quantisations, say.
        families=lambda wildcards: {
            model: "/".join([PARAMS.models[model].base or model, *sources])
            for model, sources in PARAMS.trained_on(wildcards.study).items()
        },
        bases=bases,
        thresholds=thresholds_of,
        seed=PARAMS.seed,
    script:
        "../scripts/attribution.py"


rule risk:
    input:
        likelihoods=lambda wildcards: likelihoods(wildcards).values(),
        bases=base_files,
        scores="results/{study}/scores.parquet",
        generations=shard_files,
        corpus=corpus_of,
        code=code("risk"),
    output:
        **{name: f"results/{{study}}/{name}.parquet" for name in layout.RISK_TABLES},
        csv="results/{study}/rows.csv",
    log:
        "logs/risk/{study}.log",
    benchmark:
        "logs/benchmarks/risk/{study}.tsv"
    wildcard_constraints:
        study=either(name for name, study in PARAMS.studies.items() if study.likelihood),
    params:
        thresholds=thresholds_of,
        shards=shards_of,
        trained=lambda wildcards: PARAMS.trained_on(wildcards.study),
        likelihoods=likelihoods,
        bases=bases,
        seed=PARAMS.seed,
    script:
        "../scripts/risk.py"


EDITED = either(
    name
    for name, study in PARAMS.studies.items()
    if "sft" in PARAMS.corpora[study.corpus].controlled
)


rule edits:
    input:
        corpus=corpus_of,
        vectors=lambda wildcards: layout.corpus_vectors(
            study_of(wildcards).corpus, embedder_of(wildcards), "question"
        ),
        code=code("edits"),
    output:
        "results/{study}/edits.parquet",
    log:
        "logs/edits/{study}.log",
    wildcard_constraints:
        study=EDITED,
    params:
        embedder=embedder_of,
    script:
        "../scripts/edits.py"


# A rule of its own: a changed threshold embeds nothing again.
rule variants:
    input:
        corpus=corpus_of,
        scores="results/{study}/scores.parquet",
        code=code("variants"),
    output:
        "results/{study}/variants.parquet",
    log:
        "logs/variants/{study}.log",
    wildcard_constraints:
        study=EDITED,
    params:
        thresholds=thresholds_of,
    script:
        "../scripts/variants.py"
