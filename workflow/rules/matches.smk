"""Matches: the nearest corpus items of every generation, by embedding and by string."""


def corpus_files_of(study_name, part):
    """Vectors and indexes of a study's corpus that a search for one part reads."""
    study = PARAMS.studies[study_name]
    trees, exact = study.index.trees, study.index.exact
    corpora = f"{study.corpus}/{study.embedder}"
    return {
        "corpus": f"data/embeddings/corpora/{corpora}/{part}.npy",
        "indexes": {
            # Without an index the search is exact.
            group: (
                None
                if exact
                else f"data/indexes/{corpora}/{trees}-trees/{group}.{part}.ann"
            )
            for group in PARAMS.corpora[study.corpus].groups
        },
    }


def match_files(wildcards):
    """Vectors and indexes that a cell's matching reads, by part, as the verb `match` takes them."""
    cell = cell_of(wildcards)
    return {
        part: {
            "generations": f"data/embeddings/generations/{wildcards.study}/{cell_path(cell)}"
            f"/{part}.npy",
            **corpus_files_of(wildcards.study, part),
        }
        for part in parts(wildcards.study, cell)
    }


def held_out_files(wildcards):
    """Vectors and indexes that the search for held-out rows reads, by part."""
    cells = PARAMS.studies[wildcards.study].cells()
    compared = dict.fromkeys(
        part for cell in cells for part in parts(wildcards.study, cell)
    )
    return {part: corpus_files_of(wildcards.study, part) for part in compared}


def with_descriptions(files):
    """The files of each part and the .json beside each, which says what it was made from."""
    paths = []
    for part in files.values():
        paths += [path for kind, path in part.items() if kind != "indexes"]
        paths += [path for path in part["indexes"].values() if path]
    return [*paths, *[str(Path(path).with_suffix(".json")) for path in paths]]


def search_options(wildcards):
    index = PARAMS.studies[wildcards.study].index
    return options(candidates=index.candidates, search_k=index.search_k)


def match_options(wildcards):
    audit = options(audit=PARAMS.studies[wildcards.study].index.audit, seed=PARAMS.seed)
    return f"{search_options(wildcards)} {audit}"


rule match:
    input:
        generations=lambda wildcards: shards(wildcards.study, cell_of(wildcards)),
        corpus=lambda wildcards: corpus_file(wildcards.study),
        files=lambda wildcards: with_descriptions(match_files(wildcards)),
        code=code("search.matching"),
    output:
        matches="data/matches/{study}/{model}/{prefix}/seed-{seed}.parquet",
        audit="data/matches/{study}/{model}/{prefix}/seed-{seed}.json",
    log:
        "logs/match/{study}/{model}/{prefix}/seed-{seed}.log",
    benchmark:
        "logs/benchmarks/match/{study}/{model}/{prefix}/seed-{seed}.tsv"
    threads: 1
    resources:
        gpu=lambda wildcards: int(PARAMS.studies[wildcards.study].index.exact),
    params:
        files=lambda wildcards: settings({"parts": match_files(wildcards)}),
        options=match_options,
    shell:
        "echo {params.files:q} | alignment-extraction match {input.generations}"
        " --corpus {input.corpus} --settings - {params.options} --threads {threads}"
        " --output {output.matches} --audit-output {output.audit} 2> >(tee {log} >&2)"


rule match_held_out:
    input:
        corpus=lambda wildcards: corpus_file(wildcards.study),
        files=lambda wildcards: with_descriptions(held_out_files(wildcards)),
        code=code("search.matching"),
    output:
        "results/{study}/held_out.parquet",
    log:
        "logs/match_held_out/{study}.log",
    benchmark:
        "logs/benchmarks/match_held_out/{study}.tsv"
    threads: 1
    resources:
        gpu=lambda wildcards: int(PARAMS.studies[wildcards.study].index.exact),
    params:
        files=lambda wildcards: settings({"parts": held_out_files(wildcards)}),
        options=search_options,
    shell:
        "echo {params.files:q} | alignment-extraction match-held-out --corpus {input.corpus}"
        " --settings - {params.options} --threads {threads} --output {output}"
        " 2> >(tee {log} >&2)"
