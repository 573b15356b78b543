"""Corpora: one Parquet schema, embedded and indexed."""

CORPUS = dict(zip(("corpus", "rejects", "statistics"), layout.corpus_files("{corpus}")))


def corpus_sources(wildcards):
    return PARAMS.corpora[wildcards.corpus].sources


rule corpus:
    input:
        files=lambda wildcards: [
            file
            for source in corpus_sources(wildcards)
            for file in source.local_files()
        ],
        code=code("corpus"),
    output:
        **CORPUS,
    log:
        "logs/corpus/{corpus}.log",
    wildcard_constraints:
        corpus=either(name for name, corpus in PARAMS.corpora.items() if corpus.sources),
    params:
        sources=corpus_sources,
    script:
        "../scripts/corpus.py"


def known_rows(wildcards):
    """The rows of a corpus whose models this workflow trains."""
    controlled = PARAMS.corpora[wildcards.corpus].controlled
    return layout.TRAINING_CORPUS if controlled else layout.CONVERSATIONS


rule known_corpus:
    input:
        corpus=known_rows,
    output:
        **CORPUS,
    log:
        "logs/corpus/{corpus}.log",
    wildcard_constraints:
        corpus=either(
            name
            for name, corpus in PARAMS.corpora.items()
            if corpus.controlled or corpus.conversations
        ),
    params:
        searched=lambda wildcards: PARAMS.corpora[wildcards.corpus].member_sources,
    script:
        "../scripts/known_corpus.py"


rule embed_corpus:
    input:
        rows="data/corpora/{corpus}/corpus.parquet",
        embedder="data/embedders/{embedder}",
        code=code("embed"),
    output:
        vectors="data/embeddings/corpora/{corpus}/{embedder}/{field}.npy",
        about="data/embeddings/corpora/{corpus}/{embedder}/{field}.json",
    log:
        "logs/embed_corpus/{corpus}/{embedder}/{field}.log",
    benchmark:
        "logs/benchmarks/embed_corpus/{corpus}/{embedder}/{field}.tsv"
    priority: 1
    # So few rows as a controlled study's need no second core, which would be waited for.
    threads: lambda wildcards: 1 if PARAMS.corpora[wildcards.corpus].controlled else 2
    resources:
        gpu=GPU,
    params:
        settings=lambda wildcards: Given(PARAMS.embedders[embedder_of(wildcards)]),
        gpu=bool(GPU),
    script:
        "../scripts/embed.py"


rule index:
    input:
        corpus="data/corpora/{corpus}/corpus.parquet",
        vectors="data/embeddings/corpora/{corpus}/{embedder}/{field}.npy",
        about="data/embeddings/corpora/{corpus}/{embedder}/{field}.json",
        code=code("index"),
    output:
        index="data/indexes/{corpus}/{embedder}/{trees}-trees/{group}.{field}.ann",
        about="data/indexes/{corpus}/{embedder}/{trees}-trees/{group}.{field}.json",
    log:
        "logs/index/{corpus}/{embedder}/{trees}-trees/{group}.{field}.log",
    params:
        seed=PARAMS.seed,
    script:
        "../scripts/index.py"
