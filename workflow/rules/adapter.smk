"""A real model with known truth: its own conversations, and the adapter that half of them train.

As for the controlled study's models, the package's modules are no inputs and dates do not count:
only other settings draw or train again, or `snakemake --forcerun train_adapter`. Another training
gives another adapter, whose SHA-256 belongs into params.yaml.
"""

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
RECORDS = {
    "conversations": {
        "seed": PARAMS.seed,
        "adapter": PARAMS.adapter.model_dump(mode="json", include=DRAWN),
    },
    "adapter": {
        "seed": PARAMS.train.seed,
        "bf16": PARAMS.train.bf16,
        "adapter": PARAMS.adapter.model_dump(mode="json"),
    },
}


localrules:
    conversations_corpus,


def adapted_model(name):
    """The base model, as an input of what is made from it.

    None where both are to be kept: fetched anew, even an ancient input would make them again.
    """

    def given(wildcards):
        path = layout.model_file(PARAMS, PARAMS.adapter.base)
        kept = recorded(record_file(name), RECORDS[name], "train_adapter", name)
        return [] if kept and not Path(path).exists() else ancient(path)

    return given


rule conversations:
    input:
        model=adapted_model("conversations"),
    output:
        corpus=layout.CONVERSATIONS,
        settings=record_file("conversations"),
    log:
        "logs/conversations.log",
    params:
        record=RECORDS["conversations"],
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
        model=adapted_model("adapter"),
    output:
        adapter=layout.ADAPTER,
        curves=layout.trained_file("adapter", "-curves.parquet"),
        settings=record_file("adapter"),
    log:
        "logs/train_adapter.log",
    benchmark:
        "logs/benchmarks/train_adapter.tsv"
    threads: 8
    params:
        record=RECORDS["adapter"],
    script:
        "../scripts/train_adapter.py"
