"""Corpora: one Parquet schema, embedded and indexed."""


def corpus_sources(wildcards):
    return PARAMS.corpora[wildcards.corpus].sources


rule corpus:
    input:
        files=lambda wildcards: [
            file
            for source in corpus_sources(wildcards)
            for file in source.local_files()
        ],
        code=code("corpora.corpus"),
    output:
        corpus="data/corpora/{corpus}/corpus.parquet",
        rejects="data/corpora/{corpus}/rejects.parquet",
        statistics="data/corpora/{corpus}/statistics.json",
    log:
        "logs/corpus/{corpus}.log",
    benchmark:
        "logs/benchmarks/corpus/{corpus}.tsv"
    wildcard_constraints:
        corpus=either(
            name for name, corpus in PARAMS.corpora.items() if not corpus.controlled
        ),
    params:
        sources=lambda wildcards: settings(
            [
                source.model_dump(mode="json", exclude_none=True)
                for source in corpus_sources(wildcards)
            ]
        ),
        seed=PARAMS.seed,
    shell:
        "echo {params.sources:q} | alignment-extraction corpus --settings - --seed {params.seed}"
        " --output {output.corpus} --rejects {output.rejects} --statistics {output.statistics}"
        " 2> >(tee {log} >&2)"


rule embed_corpus:
    input:
        corpus="data/corpora/{corpus}/corpus.parquet",
        embedder="data/embedders/{embedder}",
        code=code("search.embedding", "corpora.texts"),
    output:
        vectors="data/embeddings/corpora/{corpus}/{embedder}/{part}.npy",
        about="data/embeddings/corpora/{corpus}/{embedder}/{part}.json",
    log:
        "logs/embed_corpus/{corpus}/{embedder}/{part}.log",
    benchmark:
        "logs/benchmarks/embed_corpus/{corpus}/{embedder}/{part}.tsv"
    threads: 2
    resources:
        gpu=GPU,
    params:
        options=lambda wildcards: embedder_options(wildcards.embedder),
    shell:
        "alignment-extraction embed-corpus --corpus {input.corpus}"
        " --embedder {input.embedder} --part {wildcards.part} {params.options}"
        " --output {output.vectors} 2> >(tee {log} >&2)"


rule index:
    input:
        corpus="data/corpora/{corpus}/corpus.parquet",
        vectors="data/embeddings/corpora/{corpus}/{embedder}/{part}.npy",
        about="data/embeddings/corpora/{corpus}/{embedder}/{part}.json",
        code=code("search.index", "search.matching"),
    output:
        index="data/indexes/{corpus}/{embedder}/{trees}-trees/{group}.{part}.ann",
        about="data/indexes/{corpus}/{embedder}/{trees}-trees/{group}.{part}.json",
    log:
        "logs/index/{corpus}/{embedder}/{trees}-trees/{group}.{part}.log",
    benchmark:
        "logs/benchmarks/index/{corpus}/{embedder}/{trees}-trees/{group}.{part}.tsv"
    params:
        seed=PARAMS.seed,
    shell:
        "alignment-extraction index --corpus {input.corpus} --vectors {input.vectors}"
        " --group {wildcards.group} --part {wildcards.part} --trees {wildcards.trees}"
        " --seed {params.seed} --output {output.index} 2> >(tee {log} >&2)"
