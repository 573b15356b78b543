"""Generations: sampled in shards, each reproducible on its own, and embedded."""


def condition_of(wildcards):
    return Condition(wildcards.model, wildcards.prefix, int(wildcards.seed))


def shard_size(wildcards):
    sizes = layout.shard_sizes(study_of(wildcards), condition_of(wildcards))
    return sizes[int(wildcards.shard)]


rule generate:
    input:
        model=lambda wildcards: layout.model_files(PARAMS, wildcards.model),
        code=code("generate"),
    output:
        "data/generations/{study}/{model}/{prefix}/seed-{seed}/{shard}.parquet",
    log:
        "logs/generate/{study}/{model}/{prefix}/seed-{seed}/{shard}.log",
    benchmark:
        "logs/benchmarks/generate/{study}/{model}/{prefix}/seed-{seed}/{shard}.tsv"
    # What scores need goes first: likelihoods fill the gaps.
    priority: 1
    resources:
        gpu=GPU,
    params:
        prefix=lambda wildcards: Given(
            study_of(wildcards).prefix_of(condition_of(wildcards))
        ),
        # How many there are in all is no matter of one shard: more samples draw no shard again.
        sampling=lambda wildcards: Given(
            study_of(wildcards)
            .sampling_of(condition_of(wildcards))
            .model_copy(update={"samples": 1, "shard": 1})
        ),
        size=shard_size,
        gpu_layers=PARAMS.gpu_layers,
        sha256=lambda wildcards: PARAMS.models[wildcards.model].sha256,
        served=lambda wildcards: PARAMS.models[wildcards.model].served,
    script:
        "../scripts/generate.py"


use rule embed_corpus as embed_generations with:
    input:
        generations=shard_files,
        embedder=lambda wildcards: layout.embedder_folder(embedder_of(wildcards)),
        code=code("embed"),
    output:
        vectors="data/embeddings/generations/{study}/{model}/{field}.npy",
        about="data/embeddings/generations/{study}/{model}/{field}.json",
    log:
        "logs/embed_generations/{study}/{model}/{field}.log",
    benchmark:
        "logs/benchmarks/embed_generations/{study}/{model}/{field}.tsv"
    threads: 1
