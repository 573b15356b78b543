"""Distillation: students trained on extracted and on original data, and their examination.

As in training.smk, settings and data alone decide what trains again, not edited modules. A
student's weights are temporary: its curves and its examination are what is kept, in
data/distillation/{study}/students. `snakemake --notemp distill` keeps the weights too.
"""

from alignment_extraction.settings.distillation import FAMILIES, STARTS

DISTILLED = [name for name in PARAMS.studies if PARAMS.studies[name].distillation]
DISTILLATION = "data/distillation/{study}"
STUDENT = f"{DISTILLATION}/students/{{family}}-{{arm}}-seed-{{student_seed}}"


wildcard_constraints:
    family="|".join(FAMILIES),
    arm="|".join(sorted({arm for arms in FAMILIES.values() for arm in arms} - {"start"})),
    student_seed=r"\d+",


def distillation_settings(wildcards):
    return PARAMS.studies[wildcards.study].distillation.model_dump(mode="json")


def distilled_shards(study):
    """Shards of the generations that students learn from, by kind of training and seed."""
    about = PARAMS.studies[study].distillation
    models = {"sft": about.sft_model, "rl": about.rl_model}
    return {
        family: {
            str(seed): shards(study, schema.Cell(model, about.prefix, seed))
            for seed in PARAMS.studies[study].seeds
        }
        for family, model in models.items()
    }


def student_files(kind):
    """A file of every student of a study; of those untrained, the examination alone."""

    def files(wildcards):
        about = PARAMS.studies[wildcards.study].distillation
        folder = f"data/distillation/{wildcards.study}/students"
        trained = [
            f"{folder}/{family}-{arm}-seed-{seed}-{kind}.parquet"
            for family, arms in FAMILIES.items()
            for arm in arms[1:]
            for seed in about.seeds
        ]
        untrained = [f"{folder}/{family}-start-{kind}.parquet" for family in FAMILIES]
        return trained + (untrained if kind == "evaluation" else [])

    return files


rule distillation_data:
    input:
        generations=lambda wildcards: [
            shard
            for seeds in distilled_shards(wildcards.study).values()
            for group in seeds.values()
            for shard in group
        ],
        scores="results/{study}/scores.parquet",
        held_out="data/matches/{study}/held-out.parquet",
        corpus=lambda wildcards: corpus_file(wildcards.study),
    output:
        data=[
            f"{DISTILLATION}/{family}-{arm}.parquet"
            for family, arms in FAMILIES.items()
            for arm in arms[1:]
        ],
        tables=[
            f"{DISTILLATION}/{name}.parquet"
            for name in ("curation", "benchmarks", "overlap")
        ],
        card=[f"{DISTILLATION}/card.json", f"{DISTILLATION}/card.md"],
    log:
        "logs/distillation_data/{study}.log",
    wildcard_constraints:
        study=either(DISTILLED),
    params:
        settings=lambda wildcards: settings(
            {
                "distillation": distillation_settings(wildcards),
                "generations": distilled_shards(wildcards.study),
            }
        ),
        seed=PARAMS.seed,
        folder=lambda wildcards, output: str(Path(output.card[0]).parent),
    shell:
        "echo {params.settings:q} | alignment-extraction distillation-data --settings -"
        " --scores {input.scores} --held-out {input.held_out} --corpus {input.corpus}"
        " --seed {params.seed} --output-folder {params.folder} 2> >(tee {log} >&2)"


rule train_student:
    input:
        data=f"{DISTILLATION}/{{family}}-{{arm}}.parquet",
        benchmarks=f"{DISTILLATION}/benchmarks.parquet",
        start=lambda wildcards: f"{TRAINED}/{STARTS[wildcards.family]}.gguf",
        tokenizer=TOKENIZER,
    output:
        model=temp(f"{STUDENT}.gguf"),
        curves=f"{STUDENT}-curves.parquet",
    log:
        "logs/train_student/{study}/{family}-{arm}-seed-{student_seed}.log",
    benchmark:
        "logs/benchmarks/train_student/{study}/{family}-{arm}-seed-{student_seed}.tsv"
    # So small a model gains little from a second core; two students side by side do.
    threads: 1
    params:
        settings=lambda wildcards: settings(
            {
                "distillation": distillation_settings(wildcards),
                "train": training_settings(wildcards.family),
            }
        ),
    shell:
        "echo {params.settings:q} | alignment-extraction train-student --settings -"
        " --family {wildcards.family} --seed {wildcards.student_seed} --data {input.data}"
        " --benchmarks {input.benchmarks} --start {input.start} --tokenizer {input.tokenizer}"
        " --output {output.model} --curves {output.curves}"
        " --checkpoints build/checkpoints/students/{wildcards.study}/{wildcards.family}-{wildcards.arm}-seed-{wildcards.student_seed}"
        " 2> >(tee {log} >&2)"


rule evaluate_student:
    input:
        student=f"{STUDENT}.gguf",
        benchmarks=f"{DISTILLATION}/benchmarks.parquet",
        tokenizer=TOKENIZER,
    output:
        f"{STUDENT}-evaluation.parquet",
    log:
        "logs/evaluate_student/{study}/{family}-{arm}-seed-{student_seed}.log",
    threads: 1
    params:
        max_tokens=lambda wildcards: PARAMS.studies[
            wildcards.study
        ].distillation.max_answer_tokens,
    shell:
        "alignment-extraction evaluate-student --student {input.student}"
        " --benchmarks {input.benchmarks} --tokenizer {input.tokenizer}"
        " --max-tokens {params.max_tokens} --output {output} 2> >(tee {log} >&2)"


use rule evaluate_student as evaluate_start with:
    input:
        student=lambda wildcards: f"{TRAINED}/{STARTS[wildcards.family]}.gguf",
        benchmarks=f"{DISTILLATION}/benchmarks.parquet",
        tokenizer=TOKENIZER,
    output:
        f"{DISTILLATION}/students/{{family}}-start-evaluation.parquet",
    log:
        "logs/evaluate_student/{study}/{family}-start.log",
