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
from alignment_extraction.files import (
    read_json,
    read_parquet,
    write_json,
    write_parquet,
)

app = typer.Typer()


def _cells(values: Any) -> dict[Any, Any]:
    """Cells of a study from a list of {model, prefix, seed, parts, generations, matches, audit}."""
    from alignment_extraction.config import Cell
    from alignment_extraction.results import CellFiles

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
    from alignment_extraction import results

    files = _cells(read_settings(cells))
    write_json(results.search_audit(files), audit_output)
    write_parquet(results.score(files, read_parquet(corpus)), output)


@app.command()
def evaluate(
    scores: Annotated[Path, typer.Option(help="from `score`")],
    cells: CellsFile,
    corpus: CorpusFile,
    statistics: Annotated[Path, typer.Option(help="JSON with the corpus's counts")],
    audit: Annotated[Path, typer.Option(help="JSON with the study's recall@1")],
    thresholds: SettingsFile,
    output_folder: Annotated[Path, typer.Option(help="folder of the study's results")],
) -> None:
    """Apply the thresholds: rates, ratios, sweep, coverage, best matches, metrics.json.

    One of --cells and --thresholds can be - for standard input.
    """
    from alignment_extraction import results
    from alignment_extraction.config import ThresholdSettings

    results.evaluate(
        scored=read_parquet(scores),
        cells=_cells(read_settings(cells)),
        corpus=read_parquet(corpus),
        about={"corpus": read_json(statistics), "search": read_json(audit)},
        thresholds=parse_settings(ThresholdSettings, read_settings(thresholds), "thresholds"),
        folder=output_folder,
    )
