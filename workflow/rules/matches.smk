"""Matches: the nearest rows of every generated text, by embedding and by string, and scores."""


def searched(wildcards):
    """Vectors of generations and corpus by field, and the index of each group and field."""
    study = study_of(wildcards)
    corpus, trees = (study.corpus, study.embedder), study.index.trees
    fields = layout.fields_of(study, wildcards.model)
    return {
        "generations": {
            field: layout.generation_vectors(wildcards.study, wildcards.model, field)
            for field in fields
        },
        "corpus": {field: layout.corpus_vectors(*corpus, field) for field in fields},
        "indexes": {
            (group, field): (
                layout.corpus_index(*corpus, trees, group, field)
                if study.index.kind == "annoy"
                else None
            )
            for group in PARAMS.corpora[study.corpus].groups
            for field in fields
        },
    }


def searched_files(wildcards):
    """Every file of `searched`, with the .json beside it that says what it was made from."""
    files = [file for kind in searched(wildcards).values() for file in kind.values()]
    return [path for file in files if file for path in (file, layout.about(file))]


rule match:
    input:
        generations=shard_files,
        corpus=corpus_of,
        files=searched_files,
        code=code("match"),
    output:
        matches="data/matches/{study}/{model}.parquet",
        audit="data/matches/{study}/{model}.json",
    log:
        "logs/match/{study}/{model}.log",
    benchmark:
        "logs/benchmarks/match/{study}/{model}.tsv"
    priority: 1
    resources:
        gpu=lambda wildcards: int(study_of(wildcards).index.kind == "exact" and GPU),
    params:
        searched=searched,
        index=lambda wildcards: Given(study_of(wildcards).index),
        seed=PARAMS.seed,
    script:
        "../scripts/match.py"


rule score:
    input:
        generations=shard_files,
        matches=lambda wildcards: [
            layout.matches_file(wildcards.study, model)
            for model in study_of(wildcards).sampled_models
        ],
        code=code("score"),
    output:
        "results/{study}/scores.parquet",
    log:
        "logs/score/{study}.log",
    params:
        shards=shards_of,
        fields=lambda wildcards: {
            model: layout.fields_of(study_of(wildcards), model)
            for model in study_of(wildcards).sampled_models
        },
    script:
        "../scripts/score.py"
