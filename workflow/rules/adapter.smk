"""A real model with known truth: its own conversations, and the adapter that half of them train.

As for the controlled study's models, the package's modules are no inputs and dates do not count:
only other settings draw or train again, or `snakemake --forcerun train_adapter`. Another training
gives another adapter, whose SHA-256 belongs into params.yaml.
"""

from alignment_extraction.settings.adapter import AdapterSettings

CONVERSATIONS = either(
    name for name, corpus in PARAMS.corpora.items() if corpus.conversations
)
# What the conversations depend on; no setting of the training draws them again.
DRAWN = {
    "samples",
    "min_question_tokens",
    "max_question_tokens",
    "max_answer_tokens",
    "repetitions",
}


localrules:
    conversations_corpus,


def adapted_model(wildcards):
    return ancient(layout.model_file(PARAMS, PARAMS.adapter.base))


rule conversations:
    input:
        model=adapted_model,
    output:
        corpus=layout.CONVERSATIONS,
    log:
        "logs/conversations.log",
    params:
        settings=Given(AdapterSettings(**PARAMS.adapter.model_dump(include=DRAWN))),
        seed=PARAMS.seed,
    script:
        "../scripts/conversations.py"


rule conversations_corpus:
    input:
        corpus=layout.CONVERSATIONS,
    output:
        corpus="data/corpora/{corpus}/corpus.parquet",
        rejects="data/corpora/{corpus}/rejects.parquet",
        statistics="data/corpora/{corpus}/statistics.json",
    log:
        "logs/corpus/{corpus}.log",
    wildcard_constraints:
        corpus=CONVERSATIONS,
    script:
        "../scripts/conversations_corpus.py"


rule train_adapter:
    input:
        corpus=ancient(layout.CONVERSATIONS),
        model=adapted_model,
    output:
        adapter=layout.ADAPTER,
        curves=layout.trained_file("adapter", "-curves.parquet"),
    log:
        "logs/train_adapter.log",
    benchmark:
        "logs/benchmarks/train_adapter.tsv"
    threads: 8
    params:
        settings=Given(PARAMS.adapter),
        training=Given((PARAMS.train.seed, PARAMS.train.bf16)),
    script:
        "../scripts/train_adapter.py"
