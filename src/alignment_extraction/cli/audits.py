"""Verbs of an audit: run it, read its report, decide by it."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
PANEL = "Audits"

ParamsFile = Annotated[Path, typer.Option(help="the settings of all studies")]
Study = Annotated[str, typer.Argument(help="a study whose results are there")]


@app.command(rich_help_panel=PANEL)
def report(
    study: Study,
    mask: Annotated[
        Path | None,
        typer.Option(help="also write a page to this file that shows no text of the data"),
    ] = None,
    params: ParamsFile = Path("params.yaml"),
) -> None:
    """Print what a study found, as the first screen of its report says it.

    Example: alignment-extraction report controlled
    """
    from alignment_extraction.report.study import show_report, write_masked
    from alignment_extraction.settings import config

    settings = config.study(params, study)
    show_report(study, settings)
    if mask is not None:
        write_masked(study, settings, mask)
        print(f"Without a text of the data: {mask}")


@app.command(rich_help_panel=PANEL)
def check(
    study: Study,
    max_rows_at_risk: Annotated[
        int | None, typer.Option(min=0, help="rows likely to appear in --samples samples")
    ] = None,
    max_attributable: Annotated[
        str | None, typer.Option(help="share of generations that copy, such as 1%")
    ] = None,
    max_attributable_semantic: Annotated[
        str | None, typer.Option(help="the same by meaning")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="samples for rows at risk; a million by default")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
    params: ParamsFile = Path("params.yaml"),
) -> None:
    """Hold a study's results against limits: status 0 within, 1 exceeded, 2 cannot tell, 3 bad input.

    Example: alignment-extraction check controlled --max-rows-at-risk 10 --max-attributable 1%
    """
    from alignment_extraction.report.study import check_study

    result = check_study(
        study,
        params,
        {
            "max_rows_at_risk": max_rows_at_risk,
            "max_attributable": max_attributable,
            "max_attributable_semantic": max_attributable_semantic,
            "samples": samples,
        },
    )
    print(json.dumps(result.as_dict(), indent=2) if as_json else "\n".join(result.lines))
    raise typer.Exit(result.exit_code)
