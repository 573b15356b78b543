"""The verb that writes a study of someone's own model and data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from alignment_extraction.cli.options import parse_settings
from alignment_extraction.files import atomic_path

app = typer.Typer()


@app.command()
def audit(
    model: Annotated[Path, typer.Argument(help="the model, a GGUF file")],
    data: Annotated[Path, typer.Argument(help="what it was trained on: .jsonl, .json, .parquet")],
    held_out: Annotated[
        Path | None, typer.Option(help="rows of the same kind that it was not trained on")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="messages, orz, gsm8k or alpaca; found out by default")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="generations for each prefix")] = 256,
    embedder: Annotated[str, typer.Option(help="a name in embedders of params.yaml")] = "minilm",
    name: Annotated[str | None, typer.Option(help="of the study; the model's by default")] = None,
    folder: Annotated[Path, typer.Option(help="where NAME.yaml goes")] = Path("studies"),
) -> None:
    """Write the study that audits MODEL on DATA, and print the file's path.

    Example: alignment-extraction audit mine.gguf mine.jsonl; then snakemake --configfile
    studies/mine.yaml. `make audit MODEL=mine.gguf DATA=mine.jsonl` does both.
    """
    import yaml

    from alignment_extraction.corpora.formats import FileFormat
    from alignment_extraction.settings import audit as module
    from alignment_extraction.settings.base import Name

    form: Any = parse_settings(FileFormat | None, format, "format")
    chosen = parse_settings(Name, name or module.study_name(model), "name")
    study = module.audit_study(
        chosen,
        model,
        data,
        form=form,
        held_out=held_out,
        embedder=embedder,
        samples=samples,
    )
    about = "# Written by `alignment-extraction audit`; goes over params.yaml:\n"
    output = folder / f"{chosen}.yaml"
    with atomic_path(output) as partial:
        text = yaml.safe_dump(study, sort_keys=False, allow_unicode=True)
        partial.write_text(f"{about}# snakemake --configfile {output}\n{text}")
    print(output)
