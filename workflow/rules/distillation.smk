"""Distillation: students trained on extracted and on original data, and their examination.

As in training.smk, settings alone decide what trains again, not edited modules nor dates: the data
sets have every setting that they and the students come from as a parameter, and it is written
beside them. A student's weights are temporary: its curves and its examination are what is kept, in
data/distillation/{study}/students. `snakemake --notemp distill` keeps the weights too, and
`snakemake --forcerun distillation_data distill` makes everything again.
"""

from alignment_extraction.settings.distillation import FAMILIES, STARTS

DISTILLED = [name for name in PARAMS.studies if PARAMS.studies[name].distillation]
DISTILLATION = "data/distillation/{study}"
# The others are of the training and the examination.
CURATED_BY = {
    "sft": {"model"},
    "rl": {"model"},
    "prefix": True,
    "near_duplicate": True,
    "false_positive_rate": True,
    "threshold": True,
}
STUDENT = f"{DISTILLATION}/students/{{family}}-{{arm}}-seed-{{student_seed}}"


wildcard_constraints:
    family="|".join(FAMILIES),
    arm="|".join(
        sorted({arm for arms in FAMILIES.values() for arm in arms} - {"start"})
    ),
    student_seed=r"\d+",


def distillation_settings(wildcards):
    return PARAMS.studies[wildcards.study].distillation.model_dump(mode="json")


def curation_settings(study):
    """The settings of the experiment that its data sets come from."""
    about = PARAMS.studies[study].distillation
    return about.model_dump(mode="json", include=CURATED_BY)


def distilled_shards(study):
    """Shards of the generations that students learn from, by kind of training and seed."""
    about = PARAMS.studies[study].distillation
    return {
        family: {
            str(seed): shards(study, schema.Cell(model, about.prefix, seed))
            for seed in PARAMS.studies[study].seeds
        }
        for family, model in about.models.items()
    }


def distillation_record(study):
    """All settings that a study's data sets, and the models that students start from, come from."""
    about = PARAMS.studies[study]
    names = set(about.distillation.models.values())
    cells = [
        schema.Cell(name, about.distillation.prefix, seed)
        for name in sorted(names)
        for seed in about.seeds
    ]
    return settings(
        {
            "seed": PARAMS.seed,
            "controlled": PARAMS.controlled.model_dump(mode="json"),
            "train": PARAMS.train.model_dump(mode="json"),
            "distillation": curation_settings(study),
            "prefix": about.prefix_text(about.distillation.prefix),
            "models": {
                name: PARAMS.models[name].model_dump(mode="json") for name in names
            },
            "sampling": {
                cell_path(cell): about.cell_sampling(cell).model_dump()
                for cell in cells
            },
            "embedder": PARAMS.embedders[about.embedder].model_dump(mode="json"),
            "index": about.index.model_dump(mode="json"),
        }
    )


def distilled_from(files):
    """Inputs of the distillation: ancient while its settings are those of the data that is there.

    See `trained_on` in training.smk for why they must not be so otherwise.

    Args:
        files: gives the files, or a file, of a job's wildcards.
    """

    def flagged(wildcards):
        path = Path(f"data/distillation/{wildcards.study}/settings.json")
        record = distillation_record(wildcards.study)
        current = path.exists() and path.read_text().strip() == record
        forced = any(
            target.startswith(("train", "distill"))
            for target in workflow.dag_settings.forcerun
        )
        found = files(wildcards)
        return ancient(found) if current and not forced else found

    return flagged


def student_files(study):
    """The files of every student of a study, as `distillation-tables` takes them."""
    folder = f"data/distillation/{study}/students"
    trained = [
        {
            "family": family,
            "arm": arm,
            "seed": seed,
            "evaluation": f"{folder}/{family}-{arm}-seed-{seed}-evaluation.parquet",
            "curves": f"{folder}/{family}-{arm}-seed-{seed}-curves.parquet",
        }
        for family, arms in FAMILIES.items()
        for arm in arms[1:]
        for seed in PARAMS.studies[study].distillation.seeds
    ]
    untrained = [
        {
            "family": family,
            "arm": "start",
            "seed": 0,
            "evaluation": f"{folder}/{family}-start-evaluation.parquet",
            "curves": None,
        }
        for family in FAMILIES
    ]
    return untrained + trained


localrules:
    distill,
    students,


rule students:
    input:
        [
            student[kind]
            for name in PARAMS.run
            if name in DISTILLED
            for student in student_files(name)
            for kind in ("evaluation", "curves")
            if student[kind]
        ],


rule distill:
    input:
        [
            [*study_results(name), f"results/{name}/tracked.json"]
            for name in PARAMS.run
            if name in DISTILLED
        ],


rule distillation_data:
    input:
        generations=distilled_from(
            lambda wildcards: [
                shard
                for seeds in distilled_shards(wildcards.study).values()
                for group in seeds.values()
                for shard in group
            ]
        ),
        scores=distilled_from(
            lambda wildcards: f"results/{wildcards.study}/scores.parquet"
        ),
        held_out=distilled_from(
            lambda wildcards: f"results/{wildcards.study}/held_out.parquet"
        ),
        corpus=distilled_from(lambda wildcards: corpus_file(wildcards.study)),
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
        settings=f"{DISTILLATION}/settings.json",
    log:
        "logs/distillation_data/{study}.log",
    wildcard_constraints:
        study=either(DISTILLED),
    params:
        settings=lambda wildcards: settings(
            {
                "distillation": curation_settings(wildcards.study),
                "generations": distilled_shards(wildcards.study),
            }
        ),
        record=lambda wildcards: distillation_record(wildcards.study),
        seed=PARAMS.seed,
        folder=lambda wildcards, output: str(Path(output.settings).parent),
    shell:
        "echo {params.settings:q} | alignment-extraction distillation-data --settings -"
        " --scores {input.scores} --held-out {input.held_out} --corpus {input.corpus}"
        " --seed {params.seed} --output-folder {params.folder} 2> >(tee {log} >&2)"
        " && echo {params.record:q} > {output.settings}"


rule train_student:
    input:
        data=f"{DISTILLATION}/{{family}}-{{arm}}.parquet",
        benchmarks=f"{DISTILLATION}/benchmarks.parquet",
        start=distilled_from(
            lambda wildcards: f"{TRAINED}/{STARTS[wildcards.family]}.gguf"
        ),
        tokenizer=distilled_from(lambda wildcards: TOKENIZER),
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
                "distillation": distillation_settings(wildcards)[wildcards.family],
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
        tokenizer=distilled_from(lambda wildcards: TOKENIZER),
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
        student=distilled_from(
            lambda wildcards: f"{TRAINED}/{STARTS[wildcards.family]}.gguf"
        ),
        benchmarks=f"{DISTILLATION}/benchmarks.parquet",
        tokenizer=distilled_from(lambda wildcards: TOKENIZER),
    output:
        f"{DISTILLATION}/students/{{family}}-start-evaluation.parquet",
    log:
        "logs/evaluate_student/{study}/{family}-start.log",


rule distillation_tables:
    input:
        students=lambda wildcards: [
            student[kind]
            for student in student_files(wildcards.study)
            for kind in ("evaluation", "curves")
            if student[kind]
        ],
        counts=[f"{DISTILLATION}/{name}.parquet" for name in ("curation", "overlap")],
        code=code("distillation.results"),
    output:
        [f"results/{{study}}/{table}.parquet" for table in DISTILLATION_TABLES],
    log:
        "logs/distillation_tables/{study}.log",
    wildcard_constraints:
        study=either(DISTILLED),
    params:
        students=lambda wildcards: settings(student_files(wildcards.study)),
        seed=PARAMS.seed,
    shell:
        "echo {params.students:q} | alignment-extraction distillation-tables --students -"
        " --data-folder data/distillation/{wildcards.study} --seed {params.seed}"
        " --output-folder results/{wildcards.study} 2> >(tee {log} >&2)"
