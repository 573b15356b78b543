"""Verbs that turn matches into results: scores, rates, figures, report, the MLflow record."""

from pathlib import Path
from typing import Annotated, Any

import typer

from alignment_extraction.cli.options import (
    CorpusFile,
    Output,
    SettingsFile,
    parse_settings,
    read_settings,
)
from alignment_extraction.corpora.reading import read_corpus
from alignment_extraction.files import (
    InputError,
    read_json,
    read_parquet,
    sha256,
    write_json,
    write_parquet,
)

app = typer.Typer()


def _cells(values: Any) -> dict[Any, Any]:
    """Cells of a study from a list of {model, prefix, seed, parts, generations, matches, audit}."""
    from alignment_extraction.extraction.results import CellFiles
    from alignment_extraction.settings.studies import Cell

    return {
        Cell(cell["model"], cell["prefix"], cell["seed"]): CellFiles(
            parts=tuple(cell["parts"]),
            generations=tuple(Path(path) for path in cell["generations"]),
            matches=Path(cell["matches"]),
            audit=Path(cell["audit"]),
        )
        for cell in values
    }


CellsFile = Annotated[
    str,
    typer.Option(
        help="list of {model, prefix, seed, parts, generations: [files], matches: file, "
        "audit: file}; YAML or JSON file, or - for standard input"
    ),
]


@app.command()
def score(
    cells: CellsFile,
    corpus: CorpusFile,
    output: Output,
    audit_output: Annotated[Path, typer.Option(help="JSON with the study's recall@1")],
) -> None:
    """Join generations and matches to scores: one row a generation, part and reference."""
    from alignment_extraction.extraction import results

    files = _cells(read_settings(cells))
    write_json(results.search_recall(files), audit_output)
    write_parquet(results.score(files, read_corpus(corpus)), output)


@app.command()
def evaluate(
    scores: Annotated[Path, typer.Option(help="from `score`")],
    cells: CellsFile,
    corpus: CorpusFile,
    statistics: Annotated[Path, typer.Option(help="JSON with the corpus's counts")],
    audit: Annotated[Path, typer.Option(help="JSON with the study's recall@1")],
    thresholds: SettingsFile,
    output_folder: Annotated[Path, typer.Option(help="folder of the study's results")],
    shifts: Annotated[Path | None, typer.Option(help="from `likelihood-tables`")] = None,
    calibration_folder: Annotated[
        Path | None, typer.Option(help="folder with the tables from `calibrate`")
    ] = None,
    membership: Annotated[Path | None, typer.Option(help="from `likelihood-tables`")] = None,
    discoverable: Annotated[Path | None, typer.Option(help="from `discoverable`")] = None,
    evidence: Annotated[
        list[Path] | None, typer.Option(help="a table named as in `metrics.EVIDENCE`; repeatable")
    ] = None,
    matches: Annotated[int, typer.Option(min=1, help="best matches kept, of all parts")] = 2000,
) -> None:
    """Apply the thresholds: rates, ratios, coverage, best matches, metrics.json, headline.json.

    One of --cells and --thresholds can be - for standard input.
    """
    from alignment_extraction.extraction import results
    from alignment_extraction.settings.studies import ThresholdSettings

    compared = {"shifts": shifts, "members": membership, "discovered": discoverable}
    results.evaluate(
        scored=read_parquet(scores),
        cells=_cells(read_settings(cells)),
        corpus=read_corpus(corpus),
        about={"corpus": read_json(statistics), "search": read_json(audit)},
        thresholds=parse_settings(ThresholdSettings, read_settings(thresholds), "thresholds"),
        folder=output_folder,
        calibration=None
        if calibration_folder is None
        else {
            name: read_parquet(calibration_folder / f"{name}.parquet")
            for name in results.CALIBRATION_TABLES
        },
        evidence={path.stem: read_parquet(path) for path in evidence or []},
        matches=matches,
        **{key: read_parquet(path) for key, path in compared.items() if path is not None},
    )


@app.command()
def calibrate(
    scores: Annotated[Path, typer.Option(help="from `score`")],
    held_out: Annotated[Path, typer.Option(help="from `match-held-out`")],
    corpus: CorpusFile,
    thresholds: SettingsFile,
    output_folder: Annotated[Path, typer.Option(help="folder of the study's results")],
    seed: int = 0,
) -> None:
    """Hold generations against held-out rows: rates and ratios at chosen false positive rates."""
    from alignment_extraction.extraction import results
    from alignment_extraction.settings.studies import ThresholdSettings

    results.calibrate(
        scored=read_parquet(scores),
        held_out=read_parquet(held_out),
        corpus=read_corpus(corpus),
        thresholds=parse_settings(ThresholdSettings, read_settings(thresholds), "thresholds"),
        seed=seed,
        folder=output_folder,
    )


@app.command("likelihood-tables")
def likelihood_tables(
    pairs: Annotated[
        str, typer.Option(help="list of {before, after, file}; YAML or JSON file, or -")
    ],
    output_folder: Annotated[Path, typer.Option(help="folder of the study's results")],
    seed: int = 0,
) -> None:
    """Compare likelihoods before and after training: shifts, counts, membership."""
    from alignment_extraction.extraction import results

    files = {(pair["before"], pair["after"]): Path(pair["file"]) for pair in read_settings(pairs)}
    results.compare_likelihoods(files, seed, output_folder)


@app.command()
def discoverable(
    likelihood: Annotated[Path, typer.Option(help="from `likelihood-tables`")],
    scores: Annotated[Path, typer.Option(help="from `score`")],
    cells: CellsFile,
    corpus: CorpusFile,
    output_folder: Annotated[Path, typer.Option(help="folder of the study's results")],
) -> None:
    """Predict verbatim hits from likelihoods, and hold them against those observed."""
    from alignment_extraction.extraction import results

    results.discover(
        likelihoods=read_parquet(likelihood),
        scored=read_parquet(scores),
        cells=_cells(read_settings(cells)),
        corpus=read_corpus(corpus),
        folder=output_folder,
    )


StudySettingsFile = Annotated[
    str, typer.Option(help="the study's section of params.yaml; file, or - for standard input")
]
Folder = Annotated[Path, typer.Option(help="folder of the study's results")]
Curves = Annotated[
    list[Path] | None, typer.Option(help="training curves, STAGE-curves.parquet; repeatable")
]


def _study(source: str) -> Any:
    from alignment_extraction.settings.studies import StudySettings

    return parse_settings(StudySettings, read_settings(source), "study")


def _stages(curves: list[Path] | None) -> dict[str, Path]:
    return {path.stem.removesuffix("-curves"): path for path in curves or []}


def _tables(study: Any, folder: Path, curves: list[Path] | None) -> dict[str, Any]:
    """The tables of a study by name, and the training curves as one table."""
    import polars as pl

    from alignment_extraction.extraction.results import made_tables

    tables = {path.stem: read_parquet(path) for path in made_tables(study, folder)}
    stages = [
        read_parquet(path).with_columns(stage=pl.lit(stage))
        for stage, path in _stages(curves).items()
    ]
    return {**tables, "curves": pl.concat(stages)} if stages else tables


@app.command()
def figures(
    settings: StudySettingsFile,
    folder: Folder,
    output_folder: Annotated[Path, typer.Option(help="folder of the SVG files")],
    output: Annotated[Path, typer.Option(help="JSON with the SHA-256 of each figure")],
    curves: Curves = None,
) -> None:
    """Draw the figures of a study from its tables."""
    from alignment_extraction.figures.drawing import draw

    study = _study(settings)
    drawn = draw(_tables(study, folder, curves), study.thresholds, output_folder)
    write_json({path.name: sha256(path) for path in drawn}, output)


def _named_file(text: str) -> tuple[str, Path]:
    name, mark, path = text.partition("=")
    if not mark:
        raise InputError(f"{text!r}: expected NAME=FILE")
    return name, Path(path)


@app.command()
def report(
    settings: StudySettingsFile,
    name: Annotated[str, typer.Option(help="the study's name")],
    folder: Folder,
    figure_folder: Annotated[Path, typer.Option(help="folder of the SVG files")],
    output: Output,
    accuracy: Annotated[Path | None, typer.Option(help="accuracies before and after RL")] = None,
    generations: Annotated[
        list[str] | None, typer.Option(help="MODEL=SHARD, one shard of each model; repeatable")
    ] = None,
) -> None:
    """Write a study's report: one HTML page that opens without a server."""
    from alignment_extraction import provenance
    from alignment_extraction.report.page import write_report

    study, shards = _study(settings), dict(_named_file(text) for text in generations or [])
    tables = _tables(study, folder, None)
    if accuracy is not None:
        tables["accuracy"] = read_parquet(accuracy)
    write_report(
        name,
        study,
        tables,
        read_json(folder / "metrics.json"),
        figure_folder,
        provenance.collect(shards),
        output,
    )


@app.command()
def summary(
    metrics: Annotated[Path, typer.Argument(help="metrics.json of a study")],
    prefix: Annotated[str, typer.Option(help="whose rates are shown")] = "user",
    part: Annotated[str, typer.Option(help="question, answer or both")] = "question",
) -> None:
    """Print a study's rates and shifts of likelihood as Markdown, as the README has them.

    Example: alignment-extraction summary results/controlled/metrics.json
    """
    from alignment_extraction.report import summary as module

    print(module.markdown(read_json(metrics), prefix, part), end="")


@app.command()
def track(
    settings: StudySettingsFile,
    name: Annotated[str, typer.Option(help="the study's name")],
    folder: Folder,
    output: Output,
    data: Annotated[list[str] | None, typer.Option(help="NAME=FILE of an input")] = None,
    curves: Curves = None,
) -> None:
    """Log a study to MLflow; what is there already is not logged again.

    MLFLOW_TRACKING_URI names the server or database; without it, mlflow.db in this folder.
    """
    from alignment_extraction.tracking import record as tracking

    files = dict(_named_file(text) for text in data or [])
    tracking.track(name, _study(settings), folder, files, output, curves=_stages(curves))


@app.command()
def compare(
    before: Annotated[str, typer.Argument(help="a run's name or id")],
    after: Annotated[str, typer.Argument(help="another's")],
    uri: Annotated[str | None, typer.Option(help="MLflow server or database")] = None,
) -> None:
    """Print the difference of two MLflow runs with 95 % intervals, and whether it is noise.

    Example: alignment-extraction compare controlled/sft-q8/user/seed-0 controlled/rl-q8/user/seed-0
    """
    from alignment_extraction.tracking import comparison

    print(comparison.describe(comparison.compare(before, after, uri)))
