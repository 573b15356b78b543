"""The report: numbers, page and cards of a study, and its record in MLflow."""


def result_tables(wildcards):
    """The tables that a study's results consist of; those of students where they were made."""
    names = layout.tables(PARAMS, wildcards.study)
    if distilled(wildcards.study):
        names = [*names, *layout.DISTILLATION_TABLES]
    return [layout.result(wildcards.study, name) for name in names]


def stage_curves(wildcards):
    """Curves of the training behind a study's models; none for models from elsewhere."""
    names = {PARAMS.models[name].trained for name in study_of(wildcards).used_models}
    return [
        layout.trained_file(stage, "-curves.parquet")
        for stage in STAGES
        if stage in names
    ]


rule report:
    input:
        tables=result_tables,
        scores="results/{study}/scores.parquet",
        audits=lambda wildcards: [
            layout.about(layout.matches_file(wildcards.study, model))
            for model in study_of(wildcards).sampled_models
        ],
        statistics=lambda wildcards: layout.corpus_files(study_of(wildcards).corpus)[2],
        generations=shard_files,
        templates=sorted(map(str, SOURCE.glob("report/[tv]*/*"))),
        code=code("report"),
    output:
        page=report(
            "results/{study}/report.html",
            caption="../report/report.rst",
            category="{study}",
        ),
        headline="results/{study}/headline.json",
        metrics="results/{study}/metrics.json",
        card="results/{study}/model_card.md",
        card_values="results/{study}/model_card.yaml",
        provenance="results/{study}/provenance.json",
    log:
        "logs/report/{study}.log",
    params:
        study=lambda wildcards: Given(study_of(wildcards)),
        shards=lambda wildcards: {
            condition: files[0] for condition, files in shards_of(wildcards).items()
        },
    script:
        "../scripts/report.py"


rule track:
    input:
        tables=result_tables,
        metrics="results/{study}/metrics.json",
        report="results/{study}/report.html",
        corpus=corpus_of,
        generations=shard_files,
        curves=stage_curves,
        code=code("track"),
    output:
        "results/{study}/tracked.json",
    log:
        "logs/track/{study}.log",
    params:
        study=lambda wildcards: Given(study_of(wildcards)),
        shards=shards_of,
    script:
        "../scripts/track.py"
