"""Verbs of the distillation experiment: data sets, students, their examination, tables."""

from pathlib import Path
from typing import Annotated

import typer

from alignment_extraction.cli.options import (
    CorpusFile,
    Output,
    SettingsFile,
    Shards,
    parse_settings,
    read_settings,
    read_shards,
)
from alignment_extraction.cli.training import Checkpoints, Curves, TokenizerFile
from alignment_extraction.files import (
    InputError,
    read_parquet,
    write_json,
    write_parquet,
)
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.settings.distillation import (
    DistillationSettings,
    RlStudentSettings,
    SftStudentSettings,
)

app = typer.Typer()

DataFolder = Annotated[Path, typer.Option(help="folder that distillation-data filled")]
StudentFile = Annotated[Path, typer.Option(help="F16 GGUF")]


@app.command("distillation-data")
def distillation_data(
    settings: SettingsFile,
    scores: Annotated[Path, typer.Option(help="from `score`")],
    held_out: Annotated[Path, typer.Option(help="from `match-held-out`")],
    corpus: CorpusFile,
    output_folder: Annotated[Path, typer.Option(help="folder of the data sets")],
    seed: int = 0,
) -> None:
    """Curate generations and write the students' data sets and questions of the examination.

    The settings are {distillation: the study's section, generations: {sft: {SEED: [shards]}, rl:
    likewise}}.
    """
    import polars as pl

    from alignment_extraction.distillation import card, data_sets

    values = read_settings(settings)
    distillation: DistillationSettings = parse_settings(
        DistillationSettings, values["distillation"], "distillation"
    )
    generations = {
        family: pl.concat(
            read_shards([Path(path) for path in shards]).with_columns(seed=pl.lit(int(number)))
            for number, shards in seeds.items()
        )
        for family, seeds in values["generations"].items()
    }
    made = data_sets.build(
        generations,
        read_parquet(scores),
        read_parquet(held_out),
        read_parquet(corpus),
        distillation,
        seed,
    )
    for (family, name), rows in made.data.items():
        write_parquet(rows, output_folder / f"{family}-{name}.parquet")
    write_parquet(made.counts, output_folder / "curation.parquet")
    write_parquet(made.benchmarks, output_folder / "benchmarks.parquet")
    write_parquet(made.overlap, output_folder / "overlap.parquet")
    about = card.describe(made, distillation, values["generations"], seed)
    write_json(about, output_folder / "card.json")
    card.write(about, output_folder / "card.md")


@app.command("train-student")
def train_student(
    settings: SettingsFile,
    family: Annotated[str, typer.Option(help="sft or rl")],
    data: Annotated[Path, typer.Option(help="a data set, from distillation-data")],
    benchmarks: Annotated[Path, typer.Option(help="questions of the examination, likewise")],
    start: Annotated[Path, typer.Option(help="F16 GGUF to start from")],
    tokenizer: TokenizerFile,
    output: Output,
    checkpoints: Checkpoints,
    curves: Curves,
    seed: int = 0,
) -> None:
    """Train one student on one data set.

    The settings are {distillation: the section sft or rl of the study's, train: the section of
    params.yaml}.
    """
    from alignment_extraction.distillation import students

    values = read_settings(settings)
    training: TrainingSettings = parse_settings(TrainingSettings, values["train"], "train")
    kinds = {"sft": SftStudentSettings, "rl": RlStudentSettings}
    if family not in kinds:
        raise InputError(f"--family {family}: expected sft or rl")
    budget = parse_settings(kinds[family], values["distillation"], f"distillation.{family}")
    paths = (output, checkpoints, curves)
    rows = read_parquet(data)
    if family == "sft":
        students.train_sft_student(rows, start, tokenizer, training, budget, seed, *paths)
    else:
        questions = read_parquet(benchmarks)
        students.train_rl_student(rows, questions, start, tokenizer, training, budget, seed, *paths)


@app.command("evaluate-student")
def evaluate_student(
    student: StudentFile,
    tokenizer: TokenizerFile,
    benchmarks: Annotated[Path, typer.Option(help="from distillation-data")],
    output: Output,
    max_tokens: Annotated[int, typer.Option(min=1, help="longest answer")] = 128,
) -> None:
    """Examine a student: right answers by verifier, loss of the reference answers."""
    from alignment_extraction.distillation import evaluation

    rows = evaluation.evaluate(student, tokenizer, read_parquet(benchmarks), max_tokens)
    write_parquet(rows, output)


@app.command("distillation-tables")
def distillation_tables(
    students: Annotated[
        str,
        typer.Option(
            help="list of {family, arm, seed, evaluation: file, curves: file or null}; YAML or "
            "JSON file, or - for standard input"
        ),
    ],
    data_folder: DataFolder,
    output_folder: Annotated[Path, typer.Option(help="folder of the study's results")],
    seed: int = 0,
) -> None:
    """Hold the students against each other: the tables of the experiment."""
    from alignment_extraction.distillation import results

    entries = read_settings(students)
    named = [(results.Student(item["family"], item["arm"], item["seed"]), item) for item in entries]
    examined = {student: read_parquet(Path(item["evaluation"])) for student, item in named}
    curves = {
        student: read_parquet(Path(item["curves"])) for student, item in named if item["curves"]
    }
    counts, overlap = (
        read_parquet(data_folder / f"{name}.parquet") for name in ("curation", "overlap")
    )
    tables = (
        results.results_table(examined, seed),
        results.curve_table(curves),
        results.count_table(counts, overlap),
    )
    for name, table in zip(results.DISTILLATION_TABLES, tables, strict=True):
        write_parquet(table, output_folder / f"{name}.parquet")


@app.command()
def curate(
    generations: Shards,
    output: Output,
    counts: Annotated[Path, typer.Option(help="Parquet with what each step left out")],
    near_duplicate: Annotated[
        float, typer.Option(min=0, max=1, help="Jaccard similarity of word 5-grams")
    ] = 0.8,
    benchmark: Annotated[
        list[Path] | None,
        typer.Option(help="corpus whose questions are left out too; repeatable"),
    ] = None,
) -> None:
    """Make a data set for training out of any model's generations with answers.

    Example: alignment-extraction curate data/generations/mine/*.parquet --output extracted.parquet
    --counts counts.parquet
    """
    from alignment_extraction.distillation import curation

    curated = curation.curate(read_shards(generations), near_duplicate)
    taken = [read_parquet(path)["question"] for path in benchmark or []]
    curated = curation.without_questions(curated, taken)
    write_parquet(curated.counts, counts)
    write_parquet(curation.with_labels(curated.rows), output)


@app.command("distill-full-scale")
def distill_full_scale(
    recipe: Annotated[Path, typer.Argument(help="such as workflow/distillation/olmo2-7b.yaml")],
    data: Annotated[Path | None, typer.Option(help="data set, from `curate`")] = None,
    output: Annotated[Path | None, typer.Option(help="folder for the model")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="instead of the epochs")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print steps, tokens, memory and time, and stop")
    ] = False,
) -> None:
    """Train a recipe, on one device or by `accelerate launch`; or print what it would take.

    Example: alignment-extraction distill-full-scale workflow/distillation/olmo2-7b.yaml --dry-run
    """
    from alignment_extraction.distillation import recipe as recipes

    chosen = recipes.load(recipe, read_settings(str(recipe)))
    print(recipes.describe(chosen))
    if dry_run:
        return
    if data is None or output is None:
        raise InputError("--data and --output are needed, or --dry-run")
    from alignment_extraction.distillation import full_scale

    full_scale.train(chosen, read_parquet(data), output, steps)


@app.command("evaluate-harness")
def evaluate_harness(
    model: Annotated[str, typer.Option(help="folder of a transformers model, or a hub name")],
    task: Annotated[
        list[str], typer.Option(help="NAME, or NAME=FILE with its questions; repeatable")
    ],
    output: Output,
    include: Annotated[Path | None, typer.Option(help="folder with further task files")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="first questions alone")] = None,
    batch_size: int = 8,
    seed: int = 0,
) -> None:
    """Examine a model with tasks of lm-evaluation-harness.

    Example: alignment-extraction evaluate-harness --model students/extracted --task ifeval
    --task gsm8k=data/raw/gsm8k_test.jsonl --output scores.parquet
    """
    from alignment_extraction.distillation import harness

    named = (text.partition("=") for text in task)
    tasks = {name: Path(file) if mark else None for name, mark, file in named}
    table = harness.evaluate(
        model, tasks, include=include, limit=limit, batch_size=batch_size, seed=seed
    )
    write_parquet(table, output)


@app.command("distillation-summary")
def distillation_summary(
    table: Annotated[Path, typer.Argument(help="distillation.parquet of a study")],
) -> None:
    """Print the students' table as Markdown, as docs/distillation.md has it.

    Example: alignment-extraction distillation-summary results/controlled/distillation.parquet
    """
    from alignment_extraction.report import distillation

    print(distillation.markdown(read_parquet(table)), end="")
