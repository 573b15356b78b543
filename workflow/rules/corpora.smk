"""Corpora: one Parquet schema, embedded and indexed."""


rule corpus:
    input:
        code=code("corpus"),
    output:
        corpus="data/corpora/{corpus}/corpus.parquet",
        rejects="data/corpora/{corpus}/rejects.parquet",
        statistics="data/corpora/{corpus}/statistics.json",
    params:
        sources=lambda wildcards: settings(
            [
                source.model_dump(exclude_none=True)
                for source in PARAMS.corpora[wildcards.corpus].sources
            ]
        ),
        seed=PARAMS.seed,
    log:
        "logs/corpus/{corpus}.log",
    benchmark:
        "logs/benchmarks/corpus/{corpus}.tsv"
    shell:
        "echo {params.sources:q} | alignment-extraction corpus --settings - --seed {params.seed}"
        " --output {output.corpus} --rejects {output.rejects} --statistics {output.statistics}"
        " 2> >(tee {log} >&2)"


rule embed_corpus:
    input:
        corpus="data/corpora/{corpus}/corpus.parquet",
        embedder="data/embedders/{embedder}",
        code=code("embedding", "matching"),
    output:
        vectors="data/embeddings/corpora/{corpus}/{embedder}/{part}.npy",
        about="data/embeddings/corpora/{corpus}/{embedder}/{part}.json",
    params:
        options=lambda wildcards: embedder_options(wildcards.embedder),
    log:
        "logs/embed_corpus/{corpus}/{embedder}/{part}.log",
    benchmark:
        "logs/benchmarks/embed_corpus/{corpus}/{embedder}/{part}.tsv"
    threads: 2
    shell:
        "OMP_NUM_THREADS={threads} alignment-extraction embed-corpus --corpus {input.corpus}"
        " --embedder {input.embedder} --part {wildcards.part} {params.options}"
        " --output {output.vectors} 2> >(tee {log} >&2)"


rule index:
    input:
        corpus="data/corpora/{corpus}/corpus.parquet",
        vectors="data/embeddings/corpora/{corpus}/{embedder}/{part}.npy",
        about="data/embeddings/corpora/{corpus}/{embedder}/{part}.json",
        code=code("index", "matching"),
    output:
        index="data/indexes/{corpus}/{embedder}/{trees}-trees/{group}.{part}.ann",
        about="data/indexes/{corpus}/{embedder}/{trees}-trees/{group}.{part}.json",
    params:
        seed=PARAMS.seed,
    log:
        "logs/index/{corpus}/{embedder}/{trees}-trees/{group}.{part}.log",
    benchmark:
        "logs/benchmarks/index/{corpus}/{embedder}/{trees}-trees/{group}.{part}.tsv"
    shell:
        "alignment-extraction index --corpus {input.corpus} --vectors {input.vectors}"
        " --group {wildcards.group} --part {wildcards.part} --trees {wildcards.trees}"
        " --seed {params.seed} --output {output.index} 2> >(tee {log} >&2)"
