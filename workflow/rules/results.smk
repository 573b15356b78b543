"""Results: scores, rates at thresholds, figures, the report, the MLflow record."""


def all_shards(wildcards):
    study = PARAMS.studies[wildcards.study]
    return [shard for cell in study.cells() for shard in shards(wildcards.study, cell)]


def study_settings(wildcards):
    return settings(PARAMS.studies[wildcards.study].model_dump(mode="json"))


rule score:
    input:
        matches=lambda wildcards: [
            entry[kind]
            for entry in cell_files(wildcards.study)
            for kind in ("matches", "audit")
        ],
        generations=all_shards,
        corpus=lambda wildcards: corpus_file(wildcards.study),
        code=code("results"),
    output:
        scores="results/{study}/scores.parquet",
        audit="results/{study}/search.json",
    log:
        "logs/score/{study}.log",
    benchmark:
        "logs/benchmarks/score/{study}.tsv"
    params:
        cells=lambda wildcards: settings(cell_files(wildcards.study)),
    shell:
        "alignment-extraction score --cells <(echo {params.cells:q}) --corpus {input.corpus}"
        " --output {output.scores} --audit-output {output.audit} 2> >(tee {log} >&2)"


rule evaluate:
    input:
        scores="results/{study}/scores.parquet",
        audit="results/{study}/search.json",
        generations=all_shards,
        likelihood=lambda wildcards: likelihood_files(wildcards.study),
        corpus=lambda wildcards: corpus_file(wildcards.study),
        statistics=lambda wildcards: corpus_files(
            PARAMS.studies[wildcards.study].corpus
        )[2],
        code=code("results"),
    output:
        tables=[f"results/{{study}}/{table}.parquet" for table in TABLES],
        metrics="results/{study}/metrics.json",
    log:
        "logs/evaluate/{study}.log",
    benchmark:
        "logs/benchmarks/evaluate/{study}.tsv"
    params:
        cells=lambda wildcards: settings(cell_files(wildcards.study)),
        thresholds=lambda wildcards: settings(
            PARAMS.studies[wildcards.study].thresholds.model_dump()
        ),
    shell:
        "alignment-extraction evaluate --scores {input.scores} --audit {input.audit}"
        " --cells <(echo {params.cells:q}) --thresholds <(echo {params.thresholds:q})"
        " --corpus {input.corpus} --statistics {input.statistics}"
        " --output-folder results/{wildcards.study} 2> >(tee {log} >&2)"
