"""The controlled study's data and models: corpus, tokenizer, base, SFT, RL, quantised.

Training takes long, and only other settings change what comes out. So the package's modules are not
among the inputs of these rules, and where the settings are those of the model that is there, the
inputs are `ancient`: no edited module and no date of a file trains again. Changed settings, of the
data too, do: each rule has all settings that its model comes from as a parameter, and writes them
beside the model. The corpus lies with the models that it made, and is shipped with them.
`snakemake --forcerun train_base` trains the base model and all that comes from it again.
"""

CONTROLLED = either(
    name for name, corpus in PARAMS.corpora.items() if corpus.controlled
)
TRAINED = "data/models/trained"
TRAINING_CORPUS = f"{TRAINED}/corpus.parquet"
TOKENIZER = f"{TRAINED}/tokenizer.json"
QUANTISED = [
    name
    for name, model in PARAMS.models.items()
    if model.trained and model.quantisation != "F16"
]


# Sections of `train` that each training depends on, its predecessors' included.
SECTIONS = {"tokenizer": ["seed", "bf16", "architecture", "base"]}
SECTIONS["base"] = SECTIONS["tokenizer"]
SECTIONS["sft"] = SECTIONS["sft-assistant-loss"] = [*SECTIONS["base"], "sft"]
SECTIONS["rl"] = [*SECTIONS["sft"], "rl"]


def training_settings(name):
    section = PARAMS.train.model_dump(mode="json")
    return {key: section[key] for key in SECTIONS[name]}


def record(name):
    """All settings that a model comes from: those of its data and of its training."""
    return settings(
        {
            "seed": PARAMS.seed,
            "controlled": PARAMS.controlled.model_dump(mode="json"),
            "train": training_settings(name),
        }
    )


def record_file(name):
    return f"{TRAINED}/{name}-settings.json"


def trained_on(name, file):
    """`file` as an input of training `name`: ancient while its model is to be kept.

    That is, while the settings are those that the model was trained with and no training is forced.
    Otherwise it must be a plain input: where a job runs, Snakemake looks neither at the parameters
    of those that depend on it nor whether they are forced, and it does not rerun them through
    `ancient` inputs.
    """

    def flagged(wildcards):
        path = Path(record_file(name))
        current = path.exists() and path.read_text().strip() == record(name)
        forced = any(
            target.startswith("train") for target in workflow.dag_settings.forcerun
        )
        return ancient(file) if current and not forced else file

    return flagged


localrules:
    trained_models,
    controlled_corpus,


rule trained_models:
    input:
        expand(
            "{folder}/{model}{file}",
            folder=TRAINED,
            model=["base", "sft", "sft-assistant-loss", "rl"],
            file=[".gguf", "-curves.parquet", "-settings.json"],
        ),
        TOKENIZER,
        f"{TRAINED}/rl-accuracy.parquet",


rule training_corpus:
    output:
        corpus=TRAINING_CORPUS,
        rejects=f"{TRAINED}/corpus-rejects.parquet",
        statistics=f"{TRAINED}/corpus-statistics.json",
    log:
        "logs/training_corpus.log",
    benchmark:
        "logs/benchmarks/training_corpus.tsv"
    params:
        settings=settings(PARAMS.controlled.model_dump(mode="json")),
        seed=PARAMS.seed,
    shell:
        "echo {params.settings:q} | alignment-extraction controlled-corpus --settings -"
        " --seed {params.seed} --output {output.corpus} --rejects {output.rejects}"
        " --statistics {output.statistics} 2> >(tee {log} >&2)"


rule controlled_corpus:
    input:
        corpus=TRAINING_CORPUS,
    output:
        corpus="data/corpora/{corpus}/corpus.parquet",
        rejects="data/corpora/{corpus}/rejects.parquet",
        statistics="data/corpora/{corpus}/statistics.json",
    log:
        "logs/corpus/{corpus}.log",
    wildcard_constraints:
        corpus=CONTROLLED,
    shell:
        "alignment-extraction post-training-corpus --corpus {input.corpus}"
        " --output {output.corpus} --rejects {output.rejects}"
        " --statistics {output.statistics} 2> >(tee {log} >&2)"


rule train_tokenizer:
    input:
        corpus=trained_on("tokenizer", TRAINING_CORPUS),
    output:
        tokenizer=TOKENIZER,
        settings=record_file("tokenizer"),
    log:
        "logs/train_tokenizer.log",
    benchmark:
        "logs/benchmarks/train_tokenizer.tsv"
    params:
        settings=settings(training_settings("tokenizer")),
        record=record("tokenizer"),
    shell:
        "echo {params.settings:q} | alignment-extraction train-tokenizer --settings -"
        " --corpus {input.corpus} --output {output.tokenizer} 2> >(tee {log} >&2)"
        " && echo {params.record:q} > {output.settings}"


rule train_base:
    input:
        corpus=trained_on("base", TRAINING_CORPUS),
        tokenizer=trained_on("base", TOKENIZER),
    output:
        model=f"{TRAINED}/base.gguf",
        curves=f"{TRAINED}/base-curves.parquet",
        settings=record_file("base"),
    log:
        "logs/train_base.log",
    benchmark:
        "logs/benchmarks/train_base.tsv"
    threads: 8
    params:
        settings=settings(training_settings("base")),
        record=record("base"),
    shell:
        "echo {params.settings:q} | alignment-extraction train-base --settings -"
        " --corpus {input.corpus} --tokenizer {input.tokenizer} --output {output.model}"
        " --checkpoints build/checkpoints/{rule} --curves {output.curves} 2> >(tee {log} >&2)"
        " && echo {params.record:q} > {output.settings}"


rule train_sft:
    input:
        corpus=trained_on("sft", TRAINING_CORPUS),
        tokenizer=trained_on("sft", TOKENIZER),
        base=trained_on("sft", f"{TRAINED}/base.gguf"),
    output:
        model=f"{TRAINED}/sft.gguf",
        curves=f"{TRAINED}/sft-curves.parquet",
        settings=record_file("sft"),
    log:
        "logs/train_sft.log",
    benchmark:
        "logs/benchmarks/train_sft.tsv"
    threads: 8
    params:
        settings=settings(training_settings("sft")),
        record=record("sft"),
        loss_on="all",
    shell:
        "echo {params.settings:q} | alignment-extraction train-sft --settings -"
        " --loss-on {params.loss_on}"
        " --corpus {input.corpus} --tokenizer {input.tokenizer} --base {input.base}"
        " --output {output.model} --checkpoints build/checkpoints/{rule}"
        " --curves {output.curves} 2> >(tee {log} >&2)"
        " && echo {params.record:q} > {output.settings}"


use rule train_sft as train_sft_assistant_loss with:
    input:
        corpus=trained_on("sft-assistant-loss", TRAINING_CORPUS),
        tokenizer=trained_on("sft-assistant-loss", TOKENIZER),
        base=trained_on("sft-assistant-loss", f"{TRAINED}/base.gguf"),
    output:
        model=f"{TRAINED}/sft-assistant-loss.gguf",
        curves=f"{TRAINED}/sft-assistant-loss-curves.parquet",
        settings=record_file("sft-assistant-loss"),
    log:
        "logs/train_sft_assistant_loss.log",
    benchmark:
        "logs/benchmarks/train_sft_assistant_loss.tsv"
    params:
        settings=settings(training_settings("sft-assistant-loss")),
        record=record("sft-assistant-loss"),
        loss_on="assistant",


rule train_rl:
    input:
        corpus=trained_on("rl", TRAINING_CORPUS),
        tokenizer=trained_on("rl", TOKENIZER),
        sft=trained_on("rl", f"{TRAINED}/sft.gguf"),
    output:
        model=f"{TRAINED}/rl.gguf",
        curves=f"{TRAINED}/rl-curves.parquet",
        settings=record_file("rl"),
        accuracies=f"{TRAINED}/rl-accuracy.parquet",
    log:
        "logs/train_rl.log",
    benchmark:
        "logs/benchmarks/train_rl.tsv"
    threads: 8
    params:
        settings=settings(training_settings("rl")),
        record=record("rl"),
    shell:
        "echo {params.settings:q} | alignment-extraction train-rl --settings -"
        " --corpus {input.corpus} --tokenizer {input.tokenizer} --sft {input.sft}"
        " --output {output.model} --checkpoints build/checkpoints/{rule}"
        " --curves {output.curves} --accuracies {output.accuracies} 2> >(tee {log} >&2)"
        " && echo {params.record:q} > {output.settings}"


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
