"""The controlled study's data and models: corpus, tokenizer, base, SFT, RL, quantised.

Training takes half an hour, and the models are shipped. So the inputs of the rules that train are
`ancient`, and the package's modules are not among them: an edited module or a corpus that was made
again does not train again. A changed setting does: each of these rules has, as parameters, the
settings of the data and of every stage before it.
"""

CONTROLLED = either(
    name for name, corpus in PARAMS.corpora.items() if corpus.controlled
)
CONTROLLED_CORPUS = "data/corpora/controlled/corpus.parquet"
TRAINED = "data/models/trained"
TOKENIZER = f"{TRAINED}/tokenizer.json"
QUANTISED = [
    name
    for name, model in PARAMS.models.items()
    if model.trained and model.quantisation != "F16"
]


def training_settings(*stages):
    """The settings of `stages` and of what comes before them all."""
    section = PARAMS.train.model_dump(mode="json")
    keys = ["seed", "bf16", "architecture", "base", *stages]
    return settings({key: section[key] for key in keys})


def data_settings():
    """What the corpus is made with, which is a parameter of all that is trained on it."""
    return settings(
        {"seed": PARAMS.seed, "controlled": PARAMS.controlled.model_dump(mode="json")}
    )


localrules:
    trained_models,


rule trained_models:
    input:
        expand(
            "{folder}/{model}{file}",
            folder=TRAINED,
            model=["base", "sft", "sft-assistant-loss", "rl"],
            file=[".gguf", "-curves.parquet"],
        ),
        TOKENIZER,
        f"{TRAINED}/rl-accuracy.parquet",


rule controlled_corpus:
    input:
        code=code("controlled"),
    output:
        corpus="data/corpora/{corpus}/corpus.parquet",
        rejects="data/corpora/{corpus}/rejects.parquet",
        statistics="data/corpora/{corpus}/statistics.json",
    log:
        "logs/controlled_corpus/{corpus}.log",
    benchmark:
        "logs/benchmarks/controlled_corpus/{corpus}.tsv"
    wildcard_constraints:
        corpus=CONTROLLED,
    params:
        settings=settings(PARAMS.controlled.model_dump(mode="json")),
        seed=PARAMS.seed,
    shell:
        "echo {params.settings:q} | alignment-extraction controlled-corpus --settings -"
        " --seed {params.seed} --output {output.corpus} --rejects {output.rejects}"
        " --statistics {output.statistics} 2> >(tee {log} >&2)"


rule train_tokenizer:
    input:
        corpus=ancient(CONTROLLED_CORPUS),
    output:
        TOKENIZER,
    log:
        "logs/train_tokenizer.log",
    benchmark:
        "logs/benchmarks/train_tokenizer.tsv"
    params:
        settings=training_settings(),
        data=data_settings(),
    shell:
        "echo {params.settings:q} | alignment-extraction train-tokenizer --settings -"
        " --corpus {input.corpus} --output {output} 2> >(tee {log} >&2)"


rule train_base:
    input:
        corpus=ancient(CONTROLLED_CORPUS),
        tokenizer=ancient(TOKENIZER),
    output:
        model=f"{TRAINED}/base.gguf",
        curves=f"{TRAINED}/base-curves.parquet",
    log:
        "logs/train_base.log",
    benchmark:
        "logs/benchmarks/train_base.tsv"
    threads: workflow.cores or 8
    params:
        settings=training_settings(),
        data=data_settings(),
    shell:
        "echo {params.settings:q} | alignment-extraction train-base --settings -"
        " --corpus {input.corpus} --tokenizer {input.tokenizer} --output {output.model}"
        " --checkpoints build/checkpoints/{rule} --curves {output.curves} 2> >(tee {log} >&2)"


rule train_sft:
    input:
        corpus=ancient(CONTROLLED_CORPUS),
        tokenizer=ancient(TOKENIZER),
        base=ancient(f"{TRAINED}/base.gguf"),
    output:
        model=f"{TRAINED}/sft.gguf",
        curves=f"{TRAINED}/sft-curves.parquet",
    log:
        "logs/train_sft.log",
    benchmark:
        "logs/benchmarks/train_sft.tsv"
    threads: workflow.cores or 8
    params:
        settings=training_settings("sft"),
        data=data_settings(),
        loss_on="all",
    shell:
        "echo {params.settings:q} | alignment-extraction train-sft --settings -"
        " --loss-on {params.loss_on}"
        " --corpus {input.corpus} --tokenizer {input.tokenizer} --base {input.base}"
        " --output {output.model} --checkpoints build/checkpoints/{rule}"
        " --curves {output.curves} 2> >(tee {log} >&2)"


use rule train_sft as train_sft_assistant_loss with:
    output:
        model=f"{TRAINED}/sft-assistant-loss.gguf",
        curves=f"{TRAINED}/sft-assistant-loss-curves.parquet",
    log:
        "logs/train_sft_assistant_loss.log",
    benchmark:
        "logs/benchmarks/train_sft_assistant_loss.tsv"
    params:
        settings=training_settings("sft"),
        data=data_settings(),
        loss_on="assistant",


rule train_rl:
    input:
        corpus=ancient(CONTROLLED_CORPUS),
        tokenizer=ancient(TOKENIZER),
        sft=ancient(f"{TRAINED}/sft.gguf"),
    output:
        model=f"{TRAINED}/rl.gguf",
        curves=f"{TRAINED}/rl-curves.parquet",
        accuracies=f"{TRAINED}/rl-accuracy.parquet",
    log:
        "logs/train_rl.log",
    benchmark:
        "logs/benchmarks/train_rl.tsv"
    threads: workflow.cores or 8
    params:
        settings=training_settings("sft", "rl"),
        data=data_settings(),
    shell:
        "echo {params.settings:q} | alignment-extraction train-rl --settings -"
        " --corpus {input.corpus} --tokenizer {input.tokenizer} --sft {input.sft}"
        " --output {output.model} --checkpoints build/checkpoints/{rule}"
        " --curves {output.curves} --accuracies {output.accuracies} 2> >(tee {log} >&2)"


rule quantise:
    input:
        lambda wildcards: f"{TRAINED}/{PARAMS.models[wildcards.model].trained}.gguf",
    output:
        "data/models/{model}.gguf",
    log:
        "logs/quantise/{model}.log",
    wildcard_constraints:
        model=either(QUANTISED),
    params:
        kind=lambda wildcards: PARAMS.models[wildcards.model].quantisation,
    shell:
        "alignment-extraction quantise --model {input} --kind {params.kind} --output {output}"
        " 2> >(tee {log} >&2)"
