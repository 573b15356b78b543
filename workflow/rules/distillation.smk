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


def distilled_shards(study):
    """The shards that students learn from, by family and condition."""
    about = DISTILLED[study]
    conditions = {
        family: [
            Condition(own.model, about.prefix, seed)
            for seed in PARAMS.studies[study].seeds
        ]
        for family, own in about.families.items()
    }
    return {
        family: {c: layout.shards(PARAMS, study, c) for c in of_family}
        for family, of_family in conditions.items()
    }


def distilled_files(study):
    """The same as one list."""
    groups = [of_family.values() for of_family in distilled_shards(study).values()]
    return [file for group in groups for files in group for file in files]


def distillation_record(study):
    """All settings that a study's data sets, and the models that students start from, come from.

    What the students themselves are trained and evaluated with does not count.
    """
    about = PARAMS.studies[study]
    data = DISTILLED[study].model_dump(
        mode="json", exclude={"seeds", "margin", "max_answer_tokens"}
    )
    for family in DISTILLED[study].families:
        for budget in {"steps", "batch_size", "start"} & data[family].keys():
            del data[family][budget]
    conditions = [c for own in distilled_shards(study).values() for c in own]
    return {
        "seed": PARAMS.seed,
        "controlled": PARAMS.controlled.model_dump(mode="json"),
        "train": PARAMS.train.model_dump(mode="json"),
        "distillation": data,
        "models": {
            c.model: PARAMS.models[c.model].model_dump(mode="json") for c in conditions
        },
        "sampling": {
            layout.condition_folder(c): about.sampling_of(c).model_dump(mode="json")
            for c in conditions
        },
        "embedder": PARAMS.embedders[about.embedder].model_dump(mode="json"),
        "index": about.index.model_dump(mode="json"),
        "thresholds": about.thresholds.model_dump(mode="json", exclude={"sweep"}),
    }


def distilled_from(files):
    """Inputs of the distillation: ancient while its settings are those of the data that is there.

    See `trained_from` in training.smk for why they must not be so otherwise.

    Args:
        files: gives the files, or a file, of a job's wildcards.
    """

    def flagged(wildcards):
        path = f"data/distillation/{wildcards.study}/settings.json"
        record = distillation_record(wildcards.study)
        found = files(wildcards)
        return ancient(found) if recorded(path, record, "train", "distill") else found

    return flagged


def starting_student(wildcards):
    """The model that a family's students start from."""
    return layout.trained_file(
        DISTILLED[wildcards.study].families[wildcards.family].start
    )


def students(study):
    """Every student of a study: family, arm, seed, and the name of its files."""
    about, folder = DISTILLED[study], f"data/distillation/{study}/students"
    untrained = [(f, "start", 0, f"{folder}/{f}-start") for f in about.families]
    return untrained + [
        (family, arm, seed, f"{folder}/{family}-{arm}-seed-{seed}")
        for family in about.families
        for arm in about.arms
        for seed in about.seeds
    ]


def student_files(study):
    """What is kept of all students of a study."""
    evaluations = [f"{name}-evaluation.parquet" for *_, name in students(study)]
    trained = [name for _, arm, _, name in students(study) if arm != "start"]
    return evaluations + [f"{name}-curves.parquet" for name in trained]


def distilled(study):
    """Whether a study's results show its students: they are asked for, or were trained before."""
    made = (Path(layout.result(study, name)) for name in layout.DISTILLATION_TABLES)
    asked = "distill" in workflow.dag_settings.targets
    return study in DISTILLED and (asked or all(path.exists() for path in made))


localrules:
    distill,
    students,


rule students:
    input:
        [student_files(name) for name in PARAMS.run if name in DISTILLED],


rule distill:
    input:
        [
            layout.result(name, file)
            for name in PARAMS.run
            if name in DISTILLED
            for file in ("report.html", "tracked.json")
        ],


rule distillation_data:
    input:
        generations=distilled_from(lambda wildcards: distilled_files(wildcards.study)),
        scores=distilled_from(
            lambda wildcards: f"results/{wildcards.study}/scores.parquet"
        ),
        # With the raw text of the base model, which the study's own corpus lacks.
        corpus=distilled_from(lambda wildcards: layout.TRAINING_CORPUS),
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
        settings=lambda wildcards: distillation_record(wildcards.study)["distillation"],
        thresholds=lambda wildcards: study_of(wildcards).thresholds.model_dump(
            exclude={"sweep"}
        ),
        shards=lambda wildcards: distilled_shards(wildcards.study),
        record=lambda wildcards: distillation_record(wildcards.study),
        seed=PARAMS.seed,
    script:
        "../scripts/distillation_data.py"


rule train_student:
    input:
        data=f"{DISTILLATION}/data.parquet",
        questions=f"{DISTILLATION}/questions.parquet",
        start=distilled_from(starting_student),
        tokenizer=distilled_from(lambda wildcards: layout.TOKENIZER),
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
        budget=lambda wildcards: Given(
            DISTILLED[wildcards.study].families[wildcards.family]
        ),
        train=Given(PARAMS.train),
        max_tokens=lambda wildcards: DISTILLED[wildcards.study].max_answer_tokens,
        checkpoints="build/checkpoints/students/{study}/{family}-{arm}-seed-{student_seed}",
    script:
        "../scripts/train_student.py"


rule evaluate_start:
    input:
        student=distilled_from(starting_student),
        questions=f"{DISTILLATION}/questions.parquet",
        tokenizer=distilled_from(lambda wildcards: layout.TOKENIZER),
    output:
        f"{DISTILLATION}/students/{{family}}-start-evaluation.parquet",
    log:
        "logs/evaluate_start/{study}/{family}.log",
    threads: 1
    params:
        max_tokens=lambda wildcards: DISTILLED[wildcards.study].max_answer_tokens,
    script:
        "../scripts/evaluate_start.py"


rule distillation_tables:
    input:
        students=lambda wildcards: student_files(wildcards.study),
        counts=f"{DISTILLATION}/counts.parquet",
        code=code("distillation_tables"),
    output:
        [f"results/{{study}}/{table}.parquet" for table in layout.DISTILLATION_TABLES],
    log:
        "logs/distillation_tables/{study}.log",
    wildcard_constraints:
        study=either(DISTILLED),
    params:
        students=lambda wildcards: students(wildcards.study),
        margin=lambda wildcards: DISTILLED[wildcards.study].margin,
        seed=PARAMS.seed,
    script:
        "../scripts/distillation_tables.py"
