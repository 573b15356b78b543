"""Models: fetched from elsewhere and checked, or trained here, and quantised."""

FETCHED = [name for name, model in PARAMS.models.items() if model.source]
QUANTISED = [
    name for name, model in PARAMS.models.items() if model.trained and model.quantisation != "F16"
]


def source_settings(section, name):
    return settings(getattr(PARAMS, section)[name].source.model_dump(exclude_none=True))


def either(names):
    """A wildcard constraint that admits these names alone."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


rule fetch_model:
    output:
        "data/models/{model}.gguf",
    wildcard_constraints:
        model=either(FETCHED),
    params:
        source=lambda wildcards: source_settings("models", wildcards.model),
    log:
        "logs/fetch_model/{model}.log",
    shell:
        "echo {params.source:q} | alignment-extraction fetch --settings - --gguf"
        " --output {output} 2> >(tee {log} >&2)"


rule fetch_embedder:
    output:
        directory("data/embedders/{embedder}"),
    params:
        source=lambda wildcards: source_settings("embedders", wildcards.embedder),
    log:
        "logs/fetch_embedder/{embedder}.log",
    shell:
        "echo {params.source:q} | alignment-extraction fetch --settings -"
        " --output {output} 2> >(tee {log} >&2)"
