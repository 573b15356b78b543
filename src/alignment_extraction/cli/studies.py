"""Verbs about params.yaml and its studies: validate, plan, compare."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from alignment_extraction.files import InputError

app = typer.Typer()
PANEL = "Studies"

PARAMS = Path("params.yaml")
ParamsFile = Annotated[Path, Option(help="the settings of all studies")]


@app.command(rich_help_panel=PANEL)
def validate(
    params: Annotated[Path, Argument(help="the file to check")] = PARAMS,
) -> None:
    """Check params.yaml against its schema, and say whether it is right.

    Example: alignment-extraction validate
    """
    from alignment_extraction.settings import config

    checked = config.load(params)
    print(f"{params}: right; {len(checked.studies)} studies, {len(checked.models)} models")


@app.command(rich_help_panel=PANEL)
def plan(
    study: Annotated[str, Argument(help="a study of params.yaml")],
    params: ParamsFile = PARAMS,
    model: Annotated[Path | None, Option(help="a GGUF to measure rates with")] = None,
    embedder: Annotated[Path | None, Option(help="an embedder to measure them with")] = None,
    seconds: Annotated[float, Option(min=0.1, help="of each of two measurements")] = 8,
) -> None:
    """Print what a study takes, by rates measured now on this machine: hours, disk, memory.

    Example: alignment-extraction plan olmo2-7b
    """
    from alignment_extraction import plan as module
    from alignment_extraction.settings import config

    checked = config.load(params)
    # What is wrong with the study is said before anything is measured.
    module.plan(checked, study, module.Rates("CPU", 1, 1))
    model = model or module.nearest_model(checked, study)
    embedder = embedder or next(iter(sorted(Path("data/embedders").glob("[!.]*"))), None)
    if model is None or embedder is None:
        raise InputError(
            "nothing to measure rates with: name a model and an embedder, or fetch small ones: "
            "snakemake data/models/smollm2.gguf data/embedders/minilm"
        )
    rates = module.measure(model, embedder, seconds, checked.gpu_layers)
    print(module.table(module.plan(checked, study, rates)))
    print(f"\nRates were measured with {model} and {embedder} on the {rates.device}.")
    if rates.device == "CPU" and (said := module.faster(model)):
        print(said)


@app.command(rich_help_panel=PANEL)
def compare(
    before: Annotated[str, Argument(help="a run's name or id")],
    after: Annotated[str, Argument(help="another's")],
    uri: Annotated[str | None, Option(help="MLflow server or database")] = None,
) -> None:
    """Print the difference of two MLflow runs with 95 % intervals, and whether it is noise.

    Example: alignment-extraction compare controlled/base-q8/user/seed-0
    controlled/sft-q8/user/seed-0
    """
    from alignment_extraction.tracking import comparison

    print(comparison.describe(comparison.compare(before, after, uri)))
