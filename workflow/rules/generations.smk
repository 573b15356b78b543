"""Generations: sampled in shards, each reproducible on its own, and embedded."""


def generation_options(wildcards):
    study = PARAMS.studies[wildcards.study]
    cell = cell_of(wildcards)
    sampling = study.cell_sampling(cell)
    literal = study.literal_prefix(cell.prefix)
    first, samples = shard_sizes(wildcards.study, cell)[int(wildcards.shard)]
    return options(
        prefix=study.template_prefix(cell.prefix),
        prefix_text=study.prefix_text(cell.prefix),
        end_text=(literal and literal.end) or None,
        seed=cell.seed,
        first=first,
        samples=samples,
        max_tokens=sampling.max_tokens,
        max_answer_tokens=sampling.max_answer_tokens if sampling.answer else None,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        slots=sampling.slots,
        gpu_layers=PARAMS.gpu_layers,
        model_sha256=pinned_sha256(cell.model),
    )


rule generate:
    input:
        model=lambda wildcards: model_file(wildcards.model),
        code=code("generations.generation"),
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
        options=generation_options,
    shell:
        "alignment-extraction generate --model {input.model} {params.options}"
        " --threads {threads} --output {output} 2> >(tee {log} >&2)"


rule embed_generations:
    input:
        generations=lambda wildcards: shards(wildcards.study, cell_of(wildcards)),
        embedder=lambda wildcards: f"data/embedders/{PARAMS.studies[wildcards.study].embedder}",
        code=code("search.embedding"),
    output:
        vectors="data/embeddings/generations/{study}/{model}/{prefix}/seed-{seed}/{part}.npy",
        about="data/embeddings/generations/{study}/{model}/{prefix}/seed-{seed}/{part}.json",
    log:
        "logs/embed_generations/{study}/{model}/{prefix}/seed-{seed}/{part}.log",
    benchmark:
        "logs/benchmarks/embed_generations/{study}/{model}/{prefix}/seed-{seed}/{part}.tsv"
    threads: 1
    resources:
        gpu=GPU,
    params:
        options=lambda wildcards: embedder_options(
            PARAMS.studies[wildcards.study].embedder
        ),
    shell:
        "alignment-extraction embed-generations {input.generations}"
        " --embedder {input.embedder} --part {wildcards.part} {params.options}"
        " --output {output.vectors} 2> >(tee {log} >&2)"
