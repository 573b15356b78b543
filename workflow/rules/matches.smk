"""Matches: the nearest corpus items of every generation, by embedding and by string."""


def match_files(wildcards):
    """Vectors and indexes that a cell's matching reads, by part, as the verb `match` takes them."""
    study = PARAMS.studies[wildcards.study]
    cell = cell_of(wildcards)
    corpora = f"{study.corpus}/{study.embedder}"
    return {
        part: {
            "generations": f"data/embeddings/generations/{wildcards.study}/{cell_path(cell)}"
            f"/{part}.npy",
            "corpus": f"data/embeddings/corpora/{corpora}/{part}.npy",
            "indexes": {
                group: f"data/indexes/{corpora}/{study.index.trees}-trees/{group}.{part}.ann"
                for group in PARAMS.corpora[study.corpus].groups
            },
        }
        for part in parts(wildcards.study, cell)
    }


def match_inputs(wildcards):
    files = match_files(wildcards).values()
    arrays = [path for part in files for path in (part["generations"], part["corpus"])]
    indexes = [path for part in files for path in part["indexes"].values()]
    both = [*arrays, *indexes]
    return [*both, *[str(Path(path).with_suffix(".json")) for path in both]]


def match_options(wildcards):
    index = PARAMS.studies[wildcards.study].index
    return options(
        candidates=index.candidates,
        search_k=index.search_k,
        audit=index.audit,
        seed=PARAMS.seed,
    )


rule match:
    input:
        generations=lambda wildcards: shards(wildcards.study, cell_of(wildcards)),
        corpus=lambda wildcards: corpus_file(wildcards.study),
        files=match_inputs,
        code=code("matching"),
    output:
        matches="data/matches/{study}/{model}/{prefix}/seed-{seed}.parquet",
        audit="data/matches/{study}/{model}/{prefix}/seed-{seed}.json",
    log:
        "logs/match/{study}/{model}/{prefix}/seed-{seed}.log",
    benchmark:
        "logs/benchmarks/match/{study}/{model}/{prefix}/seed-{seed}.tsv"
    threads: 1
    params:
        files=lambda wildcards: settings({"parts": match_files(wildcards)}),
        options=match_options,
    shell:
        "echo {params.files:q} | alignment-extraction match {input.generations}"
        " --corpus {input.corpus} --settings - {params.options} --threads {threads}"
        " --output {output.matches} --audit-output {output.audit} 2> >(tee {log} >&2)"
