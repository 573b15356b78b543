"""Distillation: students trained on extracted and on original data, and their evaluation.

As in training.smk, settings alone decide what trains again, not edited modules nor dates: the data
sets have every setting that they and the students come from as a parameter, and it is written
beside them. A student's weights are temporary: its curves and its evaluation are what is kept, in
data/distillation/{study}/students. `snakemake --notemp distill` keeps the weights too, and
`snakemake --forcerun distillation_data distill` makes everything again.
"""

DISTILLED = {n: s.distillation for n, s in PARAMS.studies.items() if s.distillation}
DISTILLATION = "data/distillation/{study}"
STUDENT = f"{DISTILLATION}/students/{{family}}-{{arm}}-seed-{{student_seed}}"


wildcard_constraints:
    family="sft|rl",
    arm="start|original|extracted|extracted-without-copies|other",
    student_seed=r"\d+",


def distilled_shards(wildcards):
    """The shards that students learn from, by family and condition."""
    about = DISTILLED[wildcards.study]
    return {
        family: {
            condition: layout.shards(PARAMS, wildcards.study, condition)
            for seed in study_of(wildcards).seeds
            for condition in [Condition(own.model, own.prefix, seed)]
        }
        for family, own in about.families.items()
    }


def distilled_files(wildcards):
    """The same as one list."""
    shards = distilled_shards(wildcards).values()
    return [file for own in shards for files in own.values() for file in files]


def distillation_record(wildcards):
    """All settings that a study's data sets, and the models that students start from, come from.

    What the students themselves are trained and evaluated with does not count.
    """
    about, budget = study_of(wildcards), {"steps", "batch_size", "start", "seeds"}
    conditions = [c for own in distilled_shards(wildcards).values() for c in own]
    made = dict.fromkeys(("seed", "controlled", "train"), True)
    made |= {"models": {c.model for c in conditions}, "embedders": {about.embedder}}
    unused = dict.fromkeys(("margin", "max_answer_tokens"), True)
    return PARAMS.model_dump(mode="json", include=made) | {
        "distillation": about.distillation.model_dump(
            mode="json", exclude=unused | {"sft": budget, "rl": budget}
        ),
        "sampling": {
            layout.condition_folder(c): about.sampling_of(c).model_dump(mode="json")
            for c in conditions
        },
        "index": about.index.model_dump(mode="json"),
        "thresholds": about.thresholds.model_dump(mode="json"),
    }


def distilled_from(files):
    """Inputs of the distillation; see `settled`."""
    path = f"{DISTILLATION}/settings.json"
    return settled(files, path, distillation_record, "train", "distill")


def family_of(wildcards):
    """The settings of a family of students; what other seeds there are changes none."""
    own = DISTILLED[wildcards.study].families[wildcards.family]
    return own.model_copy(update={"seeds": ()})


def starting_student(wildcards):
    """The model that a family's students start from."""
    return layout.trained_file(family_of(wildcards).start)


def student(wildcards):
    """The model that is evaluated: a student, or the untrained one that students start from."""
    if wildcards.arm == "start":
        return distilled_from(starting_student)(wildcards)
    return f"{STUDENT}.gguf".format(**dict(wildcards.items()))


def of_students(kind, untrained=False):
    """A table of all students of a study, and of the untrained model of each family."""

    def tables(wildcards):
        about, file = DISTILLED[wildcards.study], f"{STUDENT}-{kind}.parquet"
        found = []
        for family, own in about.families.items():
            same = {"study": wildcards.study, "family": family}
            found += expand(file, **same, arm=own.arms, student_seed=own.seeds)
            found += expand(file, **same, arm="start", student_seed=0) * untrained
        return found

    return tables


def distilled(study):
    """Whether a study's results show its students: they are asked for, or were trained before."""
    made = (Path(layout.result(study, name)) for name in layout.DISTILLATION_TABLES)
    asked = "distill" in workflow.dag_settings.targets
    return study in DISTILLED and (asked or all(path.exists() for path in made))


rule distill:
    input:
        [file for name in PARAMS.run if name in DISTILLED for file in final_files(name)],


rule distillation_data:
    input:
        generations=distilled_from(distilled_files),
        scores=distilled_from(
            lambda wildcards: layout.result(wildcards.study, "scores")
        ),
        # With the raw text of the base model, which the study's own corpus lacks.
        corpus=distilled_from(layout.TRAINING_CORPUS),
    output:
        data=f"{DISTILLATION}/data.parquet",
        counts=f"{DISTILLATION}/counts.parquet",
        questions=f"{DISTILLATION}/questions.parquet",
        settings=f"{DISTILLATION}/settings.json",
    log:
        "logs/distillation_data/{study}.log",
    wildcard_constraints:
        study=either(DISTILLED),
    params:
        shards=distilled_shards,
        record=distillation_record,
    script:
        "../scripts/distillation_data.py"


rule train_student:
    input:
        data=f"{DISTILLATION}/data.parquet",
        start=distilled_from(starting_student),
        tokenizer=distilled_from(layout.TOKENIZER),
    output:
        model=temp(f"{STUDENT}.gguf"),
        curves=f"{STUDENT}-curves.parquet",
    log:
        "logs/train_student/{study}/{family}-{arm}-seed-{student_seed}.log",
    # So small a model gains little from a second core; two students side by side do.
    threads: 1
    params:
        budget=lambda wildcards: Given(family_of(wildcards)),
        train=Given(PARAMS.train),
        checkpoints="build/checkpoints/students/{study}/{family}-{arm}-seed-{student_seed}",
    script:
        "../scripts/train_student.py"


rule evaluate_student:
    input:
        student=student,
        questions=f"{DISTILLATION}/questions.parquet",
        tokenizer=distilled_from(layout.TOKENIZER),
    output:
        f"{STUDENT}-evaluation.parquet",
    log:
        "logs/evaluate_student/{study}/{family}-{arm}-seed-{student_seed}.log",
    params:
        max_tokens=lambda wildcards: DISTILLED[wildcards.study].max_answer_tokens,
    script:
        "../scripts/evaluate_student.py"


rule distillation_tables:
    input:
        evaluations=of_students("evaluation", untrained=True),
        curves=of_students("curves"),
        counts=f"{DISTILLATION}/counts.parquet",
        code=code("distillation_tables"),
    output:
        [f"results/{{study}}/{table}.parquet" for table in layout.DISTILLATION_TABLES],
    log:
        "logs/distillation_tables/{study}.log",
    wildcard_constraints:
        study=either(DISTILLED),
    params:
        margin=lambda wildcards: DISTILLED[wildcards.study].margin,
        seed=PARAMS.seed,
    script:
        "../scripts/distillation_tables.py"
