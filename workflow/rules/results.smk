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
        code=code("extraction.results"),
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


rule calibrate:
    input:
        scores="results/{study}/scores.parquet",
        held_out="results/{study}/held_out.parquet",
        corpus=lambda wildcards: corpus_file(wildcards.study),
        code=code("extraction.results"),
    output:
        [f"results/{{study}}/{table}.parquet" for table in CALIBRATION_TABLES],
    log:
        "logs/calibrate/{study}.log",
    benchmark:
        "logs/benchmarks/calibrate/{study}.tsv"
    params:
        thresholds=lambda wildcards: settings(
            PARAMS.studies[wildcards.study].thresholds.model_dump()
        ),
        seed=PARAMS.seed,
    shell:
        "echo {params.thresholds:q} | alignment-extraction calibrate --thresholds -"
        " --scores {input.scores} --held-out {input.held_out} --corpus {input.corpus}"
        " --seed {params.seed} --output-folder results/{wildcards.study}"
        " 2> >(tee {log} >&2)"


rule discoverable:
    input:
        likelihood="results/{study}/likelihood.parquet",
        scores="results/{study}/scores.parquet",
        generations=all_shards,
        corpus=lambda wildcards: corpus_file(wildcards.study),
        code=code("extraction.results"),
    output:
        [f"results/{{study}}/{table}.parquet" for table in DISCOVERABLE_TABLES],
    log:
        "logs/discoverable/{study}.log",
    wildcard_constraints:
        study=either(name for name, study in PARAMS.studies.items() if study.likelihood),
    params:
        cells=lambda wildcards: settings(cell_files(wildcards.study)),
    shell:
        "echo {params.cells:q} | alignment-extraction discoverable --cells -"
        " --likelihood {input.likelihood} --scores {input.scores} --corpus {input.corpus}"
        " --output-folder results/{wildcards.study} 2> >(tee {log} >&2)"


def compared_tables(wildcards):
    """The tables on likelihoods whose numbers join metrics.json; none in a study without."""
    if not PARAMS.studies[wildcards.study].likelihood:
        return []
    names = ("shifts", "membership", "discoverable")
    return [f"results/{wildcards.study}/{name}.parquet" for name in names]


rule evaluate:
    input:
        scores="results/{study}/scores.parquet",
        audit="results/{study}/search.json",
        generations=all_shards,
        calibration=[
            f"results/{{study}}/{table}.parquet" for table in CALIBRATION_TABLES
        ],
        compared=compared_tables,
        evidence=lambda wildcards: [
            f"results/{wildcards.study}/{name}.parquet"
            for name in table_names(PARAMS.studies[wildcards.study], distilled=False)
            if name in EVIDENCE
        ],
        corpus=lambda wildcards: corpus_file(wildcards.study),
        statistics=lambda wildcards: corpus_files(
            PARAMS.studies[wildcards.study].corpus
        )[2],
        code=code("extraction.results"),
    output:
        tables=[f"results/{{study}}/{table}.parquet" for table in TABLES],
        metrics="results/{study}/metrics.json",
        headline="results/{study}/headline.json",
    log:
        "logs/evaluate/{study}.log",
    benchmark:
        "logs/benchmarks/evaluate/{study}.tsv"
    params:
        cells=lambda wildcards: settings(cell_files(wildcards.study)),
        thresholds=lambda wildcards: settings(
            PARAMS.studies[wildcards.study].thresholds.model_dump()
        ),
        options=lambda wildcards, input: options(
            matches=PARAMS.studies[wildcards.study].matches,
            **{Path(file).stem: file for file in input.compared},
        )
        + " "
        + repeated("evidence", input.evidence),
    shell:
        "alignment-extraction evaluate --scores {input.scores} --audit {input.audit}"
        " --cells <(echo {params.cells:q}) --thresholds <(echo {params.thresholds:q})"
        " --corpus {input.corpus} --statistics {input.statistics} {params.options}"
        " --calibration-folder results/{wildcards.study}"
        " --output-folder results/{wildcards.study} 2> >(tee {log} >&2)"


def training_files(kind):
    """Curves or accuracies of the training behind a study's models; none for found models."""

    def files(wildcards):
        trained = {
            PARAMS.models[name].trained for name in study_models(wildcards.study)
        } - {None}
        stages = sorted(trained, key=["base", "sft", "sft-assistant-loss", "rl"].index)
        if kind == "accuracy":
            return [f"{TRAINED}/rl-accuracy.parquet"] if "rl" in stages else []
        return [f"{TRAINED}/{stage}-curves.parquet" for stage in stages]

    return files


rule figures:
    input:
        tables=lambda wildcards: result_tables(wildcards.study),
        scores="results/{study}/scores.parquet",
        curves=training_files("curves"),
        code=code("figures.drawing"),
    output:
        # Which figures there are depends on the study. A folder as output would lose its date in
        # a clone, and with it the proof that it is up to date; this file has its contents' hashes.
        "results/{study}/figures.json",
    log:
        "logs/figures/{study}.log",
    params:
        settings=study_settings,
        curves=lambda wildcards, input: repeated("curves", input.curves),
    shell:
        "echo {params.settings:q} | alignment-extraction figures --settings -"
        " --folder results/{wildcards.study} --output-folder results/{wildcards.study}/figures"
        " --output {output} {params.curves}"
        " 2> >(tee {log} >&2)"


def first_shards(study):
    """A shard of each model that a study samples. It names the model's hash, and unlike the model
    it is among the files that DVC brings.
    """
    cells = PARAMS.studies[study].cells()
    return {cell.model: shards(study, cell)[0] for cell in cells}


rule report:
    input:
        tables=lambda wildcards: result_tables(wildcards.study),
        metrics="results/{study}/metrics.json",
        figures="results/{study}/figures.json",
        accuracy=training_files("accuracy"),
        generations=lambda wildcards: list(first_shards(wildcards.study).values()),
        templates=[str(path) for path in sorted(SOURCE.glob("report/templates/*"))],
        code=code("report.page", "provenance"),
    output:
        report(
            "results/{study}/report.html",
            caption="../report/report.rst",
            category="{study}",
        ),
    log:
        "logs/report/{study}.log",
    params:
        settings=study_settings,
        options=lambda wildcards, input: options(
            accuracy=input.accuracy[0] if input.accuracy else None
        ),
        generations=lambda wildcards: repeated(
            "generations",
            [f"{name}={file}" for name, file in first_shards(wildcards.study).items()],
        ),
    shell:
        "echo {params.settings:q} | alignment-extraction report --settings -"
        " --name {wildcards.study} --folder results/{wildcards.study}"
        " --figure-folder results/{wildcards.study}/figures {params.options} {params.generations} --output {output}"
        " 2> >(tee {log} >&2)"


def named_shards(study):
    """Every shard of a study by the name of its cell and its number."""
    return {
        f"{cell_path(cell)}/{Path(file).stem}": file
        for cell in PARAMS.studies[study].cells()
        for file in shards(study, cell)
    }


rule track:
    input:
        tables=lambda wildcards: result_tables(wildcards.study),
        scores="results/{study}/scores.parquet",
        metrics="results/{study}/metrics.json",
        figures="results/{study}/figures.json",
        report="results/{study}/report.html",
        corpus=lambda wildcards: corpus_file(wildcards.study),
        generations=lambda wildcards: list(named_shards(wildcards.study).values()),
        curves=training_files("curves"),
        code=code("tracking.record"),
    output:
        "results/{study}/tracked.json",
    log:
        "logs/track/{study}.log",
    params:
        settings=study_settings,
        data=lambda wildcards, input: repeated(
            "data",
            [
                f"corpus={input.corpus}",
                *(
                    f"{name}={file}"
                    for name, file in named_shards(wildcards.study).items()
                ),
            ],
        ),
        curves=lambda wildcards, input: repeated("curves", input.curves),
    shell:
        "echo {params.settings:q} | alignment-extraction track --settings -"
        " --name {wildcards.study} --folder results/{wildcards.study} {params.data}"
        " {params.curves} --output {output} 2> >(tee {log} >&2)"
