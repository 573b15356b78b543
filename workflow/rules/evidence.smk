"""What stands beside the rates: search audit, controls, contamination, a second embedder.

Only the cells with the most generations are looked at. None of the main chain runs again.
"""


def most_sampled(study):
    return PARAMS.studies[study].most_sampled()


def generation_vectors(study, cell):
    part = PARAMS.studies[study].headline_part
    return f"data/embeddings/generations/{study}/{cell_path(cell)}/{part}.npy"


def corpus_vectors(corpus, embedder, part):
    return f"data/embeddings/corpora/{corpus}/{embedder}/{part}.npy"


def study_vectors(wildcards):
    """Embeddings of a study's corpus, of the part that is looked at."""
    study = PARAMS.studies[wildcards.study]
    return corpus_vectors(study.corpus, study.embedder, study.headline_part)


def control_corpus(study):
    return PARAMS.studies[study].controls.corpus


def second_embedder(study):
    return PARAMS.studies[study].second_embedder


def sample_vectors(study, cell):
    """Embeddings of a sample of a cell's generations by the second embedder."""
    name = second_embedder(study).embedder
    return f"data/embeddings/samples/{study}/{name}/{cell_path(cell)}.npy"


rule search_audit:
    input:
        generations=lambda wildcards: shards(
            wildcards.study, most_sampled(wildcards.study)[0]
        ),
        vectors=lambda wildcards: generation_vectors(
            wildcards.study, most_sampled(wildcards.study)[0]
        ),
        corpus=lambda wildcards: corpus_file(wildcards.study),
        corpus_vectors=study_vectors,
        code=code("search.audit", "search.evidence"),
    output:
        neighbours="results/{study}/search_neighbours.parquet",
        speed="results/{study}/search_speed.parquet",
    log:
        "logs/search_audit/{study}.log",
    benchmark:
        "logs/benchmarks/search_audit/{study}.tsv"
    params:
        part=lambda wildcards: PARAMS.studies[wildcards.study].headline_part,
        options=lambda wildcards: options(
            queries=PARAMS.studies[wildcards.study].search_audit.queries,
            candidates=PARAMS.studies[wildcards.study].index.candidates,
            seed=PARAMS.seed,
        ),
        trees=lambda wildcards: repeated(
            "trees", PARAMS.studies[wildcards.study].search_audit.trees
        ),
        search_k=lambda wildcards: repeated(
            "search-k", PARAMS.studies[wildcards.study].search_audit.search_k
        ),
    shell:
        "alignment-extraction search-audit {input.generations} --vectors {input.vectors}"
        " --corpus {input.corpus} --corpus-vectors {input.corpus_vectors}"
        " --part {params.part} {params.options} {params.trees} {params.search_k}"
        " --output {output.neighbours} --speed-output {output.speed} 2> >(tee {log} >&2)"


rule search_recall:
    input:
        neighbours="results/{study}/search_neighbours.parquet",
        code=code("search.audit"),
    output:
        "results/{study}/search_audit.parquet",
    log:
        "logs/search_recall/{study}.log",
    params:
        options=lambda wildcards: options(
            threshold=PARAMS.studies[wildcards.study].thresholds.embedding
        ),
    shell:
        "alignment-extraction search-recall --neighbours {input.neighbours} {params.options}"
        " --output {output} 2> >(tee {log} >&2)"


rule match_control:
    input:
        generations=lambda wildcards: shards(wildcards.study, cell_of(wildcards)),
        vectors=lambda wildcards: generation_vectors(
            wildcards.study, cell_of(wildcards)
        ),
        corpus=lambda wildcards: corpus_file(wildcards.study),
        control=lambda wildcards: f"data/corpora/{control_corpus(wildcards.study)}/corpus.parquet",
        control_vectors=lambda wildcards: corpus_vectors(
            control_corpus(wildcards.study),
            PARAMS.studies[wildcards.study].embedder,
            PARAMS.studies[wildcards.study].headline_part,
        ),
        code=code("search.evidence"),
    output:
        "results/{study}/control/{model}/{prefix}/seed-{seed}.parquet",
    log:
        "logs/match_control/{study}/{model}/{prefix}/seed-{seed}.log",
    benchmark:
        "logs/benchmarks/match_control/{study}/{model}/{prefix}/seed-{seed}.tsv"
    wildcard_constraints:
        study=either(
            name for name, study in PARAMS.studies.items() if study.controls.corpus
        ),
    threads: 1
    params:
        options=lambda wildcards: options(
            part=PARAMS.studies[wildcards.study].headline_part,
            samples=PARAMS.studies[wildcards.study].controls.samples,
            seed=PARAMS.seed,
        ),
    shell:
        "alignment-extraction match-control {input.generations} --vectors {input.vectors}"
        " --corpus {input.corpus} --control {input.control}"
        " --control-vectors {input.control_vectors} {params.options} --threads {threads}"
        " --output {output} 2> >(tee {log} >&2)"


def control_matches(study, cell):
    return f"results/{study}/control/{cell_path(cell)}.parquet"


def control_settings(wildcards):
    study = PARAMS.studies[wildcards.study]
    corpus = study.controls.corpus
    return settings(
        {
            "cells": [
                {
                    **cell._asdict(),
                    "matches": (
                        control_matches(wildcards.study, cell) if corpus else None
                    ),
                }
                for cell in most_sampled(wildcards.study)
            ],
            "part": study.headline_part,
            "models": study.controls.models,
            "prefixes": study.prefix_names,
            "corpus": corpus,
            "thresholds": study.thresholds.model_dump(),
        }
    )


rule controls:
    input:
        scores="results/{study}/scores.parquet",
        calibration="results/{study}/calibration.parquet",
        matches=lambda wildcards: [
            control_matches(wildcards.study, cell)
            for cell in most_sampled(wildcards.study)
            if control_corpus(wildcards.study)
        ],
        code=code("extraction.controls"),
    output:
        "results/{study}/controls.parquet",
    log:
        "logs/controls/{study}.log",
    params:
        settings=control_settings,
    shell:
        "echo {params.settings:q} | alignment-extraction controls --scores {input.scores}"
        " --calibration {input.calibration} --settings -"
        " --output {output} 2> >(tee {log} >&2)"


def contamination_of(wildcards):
    return PARAMS.studies[wildcards.study].contamination


def public_embedder(wildcards):
    """The embedder that public files need; groups of the corpus have their vectors."""
    if not contamination_of(wildcards).sources:
        return []
    return f"data/embedders/{PARAMS.studies[wildcards.study].embedder}"


CONTAMINATED = either(
    name for name, study in PARAMS.studies.items() if study.contamination
)


rule contamination:
    input:
        corpus=lambda wildcards: corpus_file(wildcards.study),
        vectors=study_vectors,
        files=lambda wildcards: [
            file
            for source in contamination_of(wildcards).sources
            for file in source.local_files()
        ],
        embedder=public_embedder,
        code=code("corpora.contamination"),
    output:
        "results/{study}/contamination.parquet",
    log:
        "logs/contamination/{study}.log",
    benchmark:
        "logs/benchmarks/contamination/{study}.tsv"
    wildcard_constraints:
        study=CONTAMINATED,
    resources:
        gpu=GPU,
    params:
        settings=lambda wildcards: settings(
            contamination_of(wildcards).model_dump(mode="json", exclude_none=True)
        ),
        options=lambda wildcards, input: options(
            part=PARAMS.studies[wildcards.study].headline_part,
            embedder=input.embedder or None,
            seed=PARAMS.seed,
        )
        + " "
        + embedder_options(PARAMS.studies[wildcards.study].embedder),
    shell:
        "echo {params.settings:q} | alignment-extraction contamination --corpus {input.corpus}"
        " --corpus-vectors {input.vectors} --settings - {params.options}"
        " --output {output} 2> >(tee {log} >&2)"


rule contamination_rates:
    input:
        scores="results/{study}/scores.parquet",
        contamination="results/{study}/contamination.parquet",
        code=code("extraction.contamination"),
    output:
        "results/{study}/contamination_rates.parquet",
    log:
        "logs/contamination_rates/{study}.log",
    params:
        thresholds=lambda wildcards: settings(
            PARAMS.studies[wildcards.study].thresholds.model_dump()
        ),
    shell:
        "echo {params.thresholds:q} | alignment-extraction contamination-rates"
        " --scores {input.scores} --contamination {input.contamination} --thresholds -"
        " --output {output} 2> >(tee {log} >&2)"


SECOND = either(name for name, study in PARAMS.studies.items() if study.second_embedder)


rule embed_sample:
    input:
        generations=lambda wildcards: shards(wildcards.study, cell_of(wildcards)),
        embedder="data/embedders/{embedder}",
        code=code("search.embedding", "search.evidence"),
    output:
        vectors="data/embeddings/samples/{study}/{embedder}/{model}/{prefix}/seed-{seed}.npy",
        about="data/embeddings/samples/{study}/{embedder}/{model}/{prefix}/seed-{seed}.json",
    log:
        "logs/embed_sample/{study}/{embedder}/{model}/{prefix}/seed-{seed}.log",
    benchmark:
        "logs/benchmarks/embed_sample/{study}/{embedder}/{model}/{prefix}/seed-{seed}.tsv"
    wildcard_constraints:
        study=SECOND,
    threads: 1
    resources:
        gpu=GPU,
    params:
        options=lambda wildcards: options(
            part=PARAMS.studies[wildcards.study].headline_part,
            samples=second_embedder(wildcards.study).samples,
            seed=PARAMS.seed,
        )
        + " "
        + embedder_options(wildcards.embedder),
    shell:
        "alignment-extraction embed-sample {input.generations} --embedder {input.embedder}"
        " {params.options} --output {output.vectors} 2> >(tee {log} >&2)"


def second_settings(wildcards):
    study = PARAMS.studies[wildcards.study]
    return settings(
        {
            "cells": [
                {
                    **cell._asdict(),
                    "generations": shards(wildcards.study, cell),
                    "vectors": sample_vectors(wildcards.study, cell),
                }
                for cell in most_sampled(wildcards.study)
            ],
            "part": study.headline_part,
            "samples": study.second_embedder.samples,
        }
    )


rule second_scores:
    input:
        corpus=lambda wildcards: corpus_file(wildcards.study),
        corpus_vectors=lambda wildcards: corpus_vectors(
            PARAMS.studies[wildcards.study].corpus,
            second_embedder(wildcards.study).embedder,
            PARAMS.studies[wildcards.study].headline_part,
        ),
        generations=lambda wildcards: [
            shard
            for cell in most_sampled(wildcards.study)
            for shard in shards(wildcards.study, cell)
        ],
        vectors=lambda wildcards: [
            sample_vectors(wildcards.study, cell)
            for cell in most_sampled(wildcards.study)
        ],
        code=code("search.evidence"),
    output:
        scores="results/{study}/second_scores.parquet",
        held_out="results/{study}/second_held_out.parquet",
    log:
        "logs/second_scores/{study}.log",
    benchmark:
        "logs/benchmarks/second_scores/{study}.tsv"
    wildcard_constraints:
        study=SECOND,
    params:
        settings=second_settings,
        seed=PARAMS.seed,
    shell:
        "echo {params.settings:q} | alignment-extraction second-scores --corpus {input.corpus}"
        " --corpus-vectors {input.corpus_vectors} --settings - --seed {params.seed}"
        " --output {output.scores} --held-out-output {output.held_out} 2> >(tee {log} >&2)"


rule second_embedder:
    input:
        scores="results/{study}/scores.parquet",
        held_out="results/{study}/held_out.parquet",
        corpus=lambda wildcards: corpus_file(wildcards.study),
        second="results/{study}/second_scores.parquet",
        second_held_out="results/{study}/second_held_out.parquet",
        code=code("extraction.embedders", "search.evidence"),
    output:
        "results/{study}/embedders.parquet",
        "results/{study}/embedder_agreement.parquet",
    log:
        "logs/second_embedder/{study}.log",
    benchmark:
        "logs/benchmarks/second_embedder/{study}.tsv"
    wildcard_constraints:
        study=SECOND,
    params:
        thresholds=lambda wildcards: settings(
            PARAMS.studies[wildcards.study].thresholds.model_dump()
        ),
        options=lambda wildcards: options(
            part=PARAMS.studies[wildcards.study].headline_part, seed=PARAMS.seed
        ),
        names=lambda wildcards: repeated(
            "names",
            [
                PARAMS.studies[wildcards.study].embedder,
                second_embedder(wildcards.study).embedder,
            ],
        ),
    shell:
        "echo {params.thresholds:q} | alignment-extraction second-embedder"
        " --scores {input.scores} --held-out {input.held_out} --corpus {input.corpus}"
        " --second {input.second} --second-held-out {input.second_held_out} --thresholds -"
        " {params.names} {params.options} --output-folder results/{wildcards.study}"
        " 2> >(tee {log} >&2)"
