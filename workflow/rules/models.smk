"""Models and embedders: fetched from elsewhere and checked, adapters merged into their base."""

FETCHED = [name for name, model in PARAMS.models.items() if model.source]
ADAPTED = [name for name, model in PARAMS.models.items() if model.adapter]


rule fetch_model:
    input:
        code=code("fetch"),
    output:
        "data/models/{model}.gguf",
    log:
        "logs/fetch_model/{model}.log",
    wildcard_constraints:
        model=either(FETCHED),
    params:
        source=lambda wildcards: Given(PARAMS.models[wildcards.model].source),
        quantisation=lambda wildcards: PARAMS.models[wildcards.model].quantisation,
    script:
        "../scripts/fetch.py"


rule merge_adapter:
    input:
        base=lambda wildcards: layout.model_file(
            PARAMS, PARAMS.models[wildcards.model].base
        ),
        # One that this workflow trains is there only after its training.
        adapter=lambda wildcards: PARAMS.models[wildcards.model].adapter.path or [],
        code=code("merge_adapter"),
    output:
        "data/models/{model}.gguf",
    log:
        "logs/merge_adapter/{model}.log",
    wildcard_constraints:
        model=either(ADAPTED),
    params:
        adapter=lambda wildcards: Given(PARAMS.models[wildcards.model].adapter),
    script:
        "../scripts/merge_adapter.py"


rule fetch_embedder:
    input:
        code=code("fetch"),
    output:
        directory("data/embedders/{embedder}"),
    log:
        "logs/fetch_embedder/{embedder}.log",
    wildcard_constraints:
        embedder=either(PARAMS.embedders),
    params:
        source=lambda wildcards: Given(PARAMS.embedders[wildcards.embedder].source),
    script:
        "../scripts/fetch.py"
