"""Distillation: students trained on extracted and on original data, and their evaluation.

As in training.smk, settings alone decide what trains again, not edited modules nor dates: the data
sets have every setting that they and the students come from as a parameter, and it is written
beside them. A student's weights are temporary: its curves and its evaluation are what is kept, in
data/distillation/{study}/students. `snakemake --notemp distill` keeps the weights too, and
`snakemake --forcerun distillation_data distill` makes everything again.
"""

DISTILLED = {
    name: study.distillation
    for name, study in PARAMS.studies.items()
    if study.distillation
}
DISTILLATION = "data/distillation/{study}"
STUDENT = f"{DISTILLATION}/students/{{family}}-{{arm}}-seed-{{student_seed}}"


wildcard_constraints:
    family="sft|rl",
    arm="original|extracted|extracted-without-copies|other",
    student_seed=r"\d+",


def distilled_conditions(study):
    """The conditions whose generations students learn from, by family."""
    about = DISTILLED[study]
    return {
        family: [
            schema.Cell(own.model, about.prefix, seed)
            for seed in PARAMS.studies[study].seeds
        ]
        for family, own in about.families.items()
    }


def distilled_shards(study):
    """Their shards: family, condition, files."""
    return [
        {"family": family, **one._asdict(), "files": shards(study, one)}
        for family, conditions in distilled_conditions(study).items()
        for one in conditions
    ]


def data_settings(study):
    """What the data sets come from beside the generations; the students' budgets do not count."""
    about = DISTILLED[study].model_dump(mode="json")
    for family in DISTILLED[study].families:
        for budget in {"steps", "batch_size", "start"} & about[family].keys():
            del about[family][budget]
    del about["seeds"], about["margin"], about["max_answer_tokens"]
    return about


def distillation_record(study):
    """All settings that a study's data sets, and the models that students start from, come from."""
    about = PARAMS.studies[study]
    conditions = sum(distilled_conditions(study).values(), [])
    return {
        "seed": PARAMS.seed,
        "controlled": PARAMS.controlled.model_dump(mode="json"),
        "train": PARAMS.train.model_dump(mode="json"),
        "distillation": data_settings(study),
        "prefix": about.prefix_text(DISTILLED[study].prefix),
        "models": {
            one.model: PARAMS.models[one.model].model_dump(mode="json")
            for one in conditions
        },
        "sampling": {
            cell_path(one): about.cell_sampling(one).model_dump(mode="json")
            for one in conditions
        },
        "embedder": PARAMS.embedders[about.embedder].model_dump(mode="json"),
        "index": about.index.model_dump(mode="json"),
        "thresholds": about.thresholds.model_dump(mode="json", exclude={"sweep"}),
    }


def distilled_from(files):
    """Inputs of the distillation: ancient while its settings are those of the data that is there.

    See `trained_on` in training.smk for why they must not be so otherwise.

    Args:
        files: gives the files, or a file, of a job's wildcards.
    """

    def flagged(wildcards):
        path = Path(f"data/distillation/{wildcards.study}/settings.json")
        record = distillation_record(wildcards.study)
        current = path.exists() and json.loads(path.read_text()) == record
        forced = any(
            target.startswith(("train", "distill"))
            for target in workflow.dag_settings.forcerun
        )
        found = files(wildcards)
        return ancient(found) if current and not forced else found

    return flagged


def start_model(wildcards):
    """The trained model that a family of students starts from."""
    own = DISTILLED[wildcards.study].families[wildcards.family]
    return f"{TRAINED}/{own.start}.gguf"


def student_files(study):
    """Every student of a study: family, arm, seed, and its files."""
    about, folder = DISTILLED[study], f"data/distillation/{study}/students"
    untrained = [
        {"family": family, "arm": "start", "seed": 0, "name": f"{family}-start"}
        for family in about.families
    ]
    trained = [
        {
            "family": family,
            "arm": arm,
            "seed": seed,
            "name": f"{family}-{arm}-seed-{seed}",
        }
        for family in about.families
        for arm in about.arms
        for seed in about.seeds
    ]
    for student in (students := untrained + trained):
        student["evaluation"] = f"{folder}/{student['name']}-evaluation.parquet"
        student["curves"] = f"{folder}/{student['name']}-curves.parquet"
    return students


def all_student_files(study):
    """The files of all students of a study; what is not trained has no curves."""
    return [
        student[kind]
        for student in student_files(study)
        for kind in ("evaluation", "curves")
        if (student["arm"], kind) != ("start", "curves")
    ]


localrules:
    distill,
    students,


rule students:
    input:
        [all_student_files(name) for name in PARAMS.run if name in DISTILLED],


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
                file
                for one in distilled_shards(wildcards.study)
                for file in one["files"]
            ]
        ),
        scores=distilled_from(
            lambda wildcards: f"results/{wildcards.study}/scores.parquet"
        ),
        # With the raw text of the base model, which the study's own corpus lacks.
        corpus=distilled_from(lambda wildcards: TRAINING_CORPUS),
    output:
        data=f"{DISTILLATION}/data.parquet",
        counts=f"{DISTILLATION}/counts.parquet",
        questions=f"{DISTILLATION}/questions.parquet",
        card=f"{DISTILLATION}/card.md",
        settings=f"{DISTILLATION}/settings.json",
    log:
        "logs/distillation_data/{study}.log",
    wildcard_constraints:
        study=either(DISTILLED),
    params:
        settings=lambda wildcards: data_settings(wildcards.study),
        thresholds=lambda wildcards: PARAMS.studies[
            wildcards.study
        ].thresholds.model_dump(mode="json", exclude={"sweep"}),
        generations=lambda wildcards: distilled_shards(wildcards.study),
        record=lambda wildcards: distillation_record(wildcards.study),
        seed=PARAMS.seed,
    script:
        "../scripts/distillation_data.py"


rule train_student:
    input:
        data=f"{DISTILLATION}/data.parquet",
        questions=f"{DISTILLATION}/questions.parquet",
        start=distilled_from(start_model),
        tokenizer=distilled_from(lambda wildcards: TOKENIZER),
    output:
        model=temp(f"{STUDENT}.gguf"),
        curves=f"{STUDENT}-curves.parquet",
        evaluation=f"{STUDENT}-evaluation.parquet",
    log:
        "logs/train_student/{study}/{family}-{arm}-seed-{student_seed}.log",
    benchmark:
        "logs/benchmarks/train_student/{study}/{family}-{arm}-seed-{student_seed}.tsv"
    # So small a model gains little from a second core; two students side by side do.
    threads: 1
    params:
        budget=lambda wildcards: DISTILLED[wildcards.study]
        .families[wildcards.family]
        .model_dump(mode="json"),
        train=lambda wildcards: PARAMS.train.model_dump(mode="json"),
        max_tokens=lambda wildcards: DISTILLED[wildcards.study].max_answer_tokens,
        checkpoints="build/checkpoints/students/{study}/{family}-{arm}-seed-{student_seed}",
    script:
        "../scripts/train_student.py"


rule evaluate_start:
    input:
        student=distilled_from(start_model),
        questions=f"{DISTILLATION}/questions.parquet",
        tokenizer=distilled_from(lambda wildcards: TOKENIZER),
    output:
        f"{DISTILLATION}/students/{{family}}-start-evaluation.parquet",
    log:
        "logs/evaluate_start/{study}/{family}.log",
    threads: 1
    params:
        max_tokens=lambda wildcards: DISTILLED[wildcards.study].max_answer_tokens,
    script:
        "../scripts/evaluate_student.py"


rule distillation_tables:
    input:
        students=lambda wildcards: all_student_files(wildcards.study),
        counts=f"{DISTILLATION}/counts.parquet",
        code=code("distillation.results"),
    output:
        [f"results/{{study}}/{table}.parquet" for table in DISTILLATION_TABLES],
    log:
        "logs/distillation_tables/{study}.log",
    wildcard_constraints:
        study=either(DISTILLED),
    params:
        students=lambda wildcards: student_files(wildcards.study),
        margin=lambda wildcards: DISTILLED[wildcards.study].margin,
        seed=PARAMS.seed,
    script:
        "../scripts/distillation_tables.py"
