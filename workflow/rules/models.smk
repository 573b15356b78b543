"""Models and embedders: fetched from elsewhere and checked."""

FETCHED = [name for name, model in PARAMS.models.items() if model.source]


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
        source=lambda wildcards: PARAMS.models[wildcards.model].source,
    script:
        "../scripts/fetch.py"


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
        source=lambda wildcards: PARAMS.embedders[wildcards.embedder].source,
    script:
        "../scripts/fetch.py"
