"""Generations: sampled in shards, each reproducible on its own, and embedded."""


def condition_of(wildcards):
    return Condition(wildcards.model, wildcards.prefix, int(wildcards.seed))


def model_shards(wildcards):
    """Every shard that a model writes in a study."""
    found = layout.model_shards(PARAMS, wildcards.study, wildcards.model)
    return [shard for files in found.values() for shard in files]


def study_shards(wildcards):
    """Every shard of a study."""
    found = layout.model_shards(PARAMS, wildcards.study)
    return [shard for files in found.values() for shard in files]


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
    threads: 1
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


rule embed_generations:
    input:
        generations=model_shards,
        embedder=lambda wildcards: layout.embedder_folder(embedder_of(wildcards)),
        code=code("embed_generations"),
    output:
        vectors="data/embeddings/generations/{study}/{model}/{field}.npy",
        about="data/embeddings/generations/{study}/{model}/{field}.json",
    log:
        "logs/embed_generations/{study}/{model}/{field}.log",
    benchmark:
        "logs/benchmarks/embed_generations/{study}/{model}/{field}.tsv"
    threads: 1
    resources:
        gpu=GPU,
    params:
        settings=lambda wildcards: Given(PARAMS.embedders[embedder_of(wildcards)]),
        gpu=bool(GPU),
    script:
        "../scripts/embed_generations.py"
