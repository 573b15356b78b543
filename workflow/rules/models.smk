"""Models: fetched from elsewhere and checked, or trained here, and quantised."""

FETCHED = [name for name, model in PARAMS.models.items() if model.source]


def source_settings(section, name):
    return settings(getattr(PARAMS, section)[name].source.model_dump(exclude_none=True))


rule fetch_model:
    output:
        "data/models/{model}.gguf",
    log:
        "logs/fetch_model/{model}.log",
    wildcard_constraints:
        model=either(FETCHED),
    params:
        source=lambda wildcards: source_settings("models", wildcards.model),
    shell:
        "echo {params.source:q} | alignment-extraction fetch --settings - --gguf"
        " --output {output} 2> >(tee {log} >&2)"


BARE = [name for name, embedder in PARAMS.embedders.items() if embedder.tokenizer]


rule fetch_embedder:
    output:
        directory("data/embedders/{embedder}"),
    log:
        "logs/fetch_embedder/{embedder}.log",
    wildcard_constraints:
        embedder=either(name for name in PARAMS.embedders if name not in BARE),
    params:
        source=lambda wildcards: source_settings("embedders", wildcards.embedder),
    shell:
        "echo {params.source:q} | alignment-extraction fetch --settings -"
        " --output {output} 2> >(tee {log} >&2)"


rule fetch_onnx_embedder:
    input:
        tokenizer=lambda wildcards: f"data/embedders/{PARAMS.embedders[wildcards.embedder].tokenizer}",
    output:
        directory("data/embedders/{embedder}"),
    log:
        "logs/fetch_embedder/{embedder}.log",
    wildcard_constraints:
        embedder=either(BARE),
    params:
        source=lambda wildcards: source_settings("embedders", wildcards.embedder),
    shell:
        "echo {params.source:q} | alignment-extraction fetch --settings -"
        " --output {output}/model.onnx 2> >(tee {log} >&2)"
        " && cp {input.tokenizer}/tokenizer.json {output}/tokenizer.json"
