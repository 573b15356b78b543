"""A real model with known truth: its own conversations, and the adapter that half of them train.

As for the controlled study's models, the package's modules are no inputs and dates do not count:
only other settings draw or train again, or `snakemake --forcerun train_adapter`. Another training
gives another adapter, whose SHA-256 belongs into params.yaml.
"""

from alignment_extraction.settings.adapter import StageSettings

# No setting of the training draws the conversations again.
TRAINING_ONLY = {*StageSettings.model_fields, "base", "rank", "alpha"}
RECORDS = {
    "conversations": {
        "seed": PARAMS.seed,
        "adapter": PARAMS.adapter.model_dump(mode="json", exclude=TRAINING_ONLY),
    },
    "adapter": {
        "seed": PARAMS.train.seed,
        "bf16": PARAMS.train.bf16,
        "adapter": PARAMS.adapter.model_dump(mode="json"),
    },
}


def adapted_model(name):
    """The base model, as an input of what is made from it; see `settled`.

    None where it is not there and what was made is kept: fetched anew, even an ancient input would
    make that again.
    """
    about = record_file(name), RECORDS[name], "train_adapter", name

    def model(wildcards):
        path = layout.model_file(PARAMS, PARAMS.adapter.base)
        return path if Path(path).exists() or not recorded(*about) else []

    return settled(model, *about)


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
    threads: 8
    params:
        record=RECORDS["adapter"],
    script:
        "../scripts/train_adapter.py"
