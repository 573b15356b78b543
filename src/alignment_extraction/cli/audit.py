"""The verb that writes a study of someone's own model and data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from alignment_extraction.cli.options import parse_settings
from alignment_extraction.files import InputError, atomic_path

app = typer.Typer()


@app.command()
def audit(
    model: Annotated[
        str, typer.Argument(help="a GGUF, an adapter with --base, or hf:owner/name[:file]")
    ],
    data: Annotated[
        str,
        typer.Argument(help="what it was trained on: a file, or hf:owner/name[:config][/split]"),
    ],
    base: Annotated[
        str | None, typer.Option(help="the model before that training, as MODEL")
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(help="rows of the same kind that it was not trained on, as DATA")
    ] = None,
    question_field: Annotated[
        str | None, typer.Option(help="the key of the question, dotted; found out by default")
    ] = None,
    answer_field: Annotated[str | None, typer.Option(help="the key of the answer")] = None,
    turns: Annotated[str, typer.Option(help="user turns that are rows: first, or all")] = "first",
    allow_rejects: Annotated[
        bool, typer.Option("--allow-rejects", help="go on if over half of the rows are unusable")
    ] = False,
    samples: Annotated[int, typer.Option(min=1, help="generations for each prefix")] = 256,
    prefix_text: Annotated[
        str | None, typer.Option(help="sample after this text, special tokens spelt out, alone")
    ] = None,
    end_text: Annotated[
        str | None, typer.Option(help="with --prefix-text: the text that ends a question")
    ] = None,
    embedder: Annotated[str, typer.Option(help="a name in embedders of params.yaml")] = "minilm",
    name: Annotated[str | None, typer.Option(help="of the study; the model's by default")] = None,
    out: Annotated[Path, typer.Option(help="folder that NAME.yaml goes to")] = Path("studies"),
) -> None:
    """Write the study that audits MODEL on DATA, and print the file's path.

    Example: alignment-extraction audit mine.gguf mine.jsonl; then snakemake --configfile
    studies/mine.yaml. `make audit MODEL=mine.gguf DATA=mine.jsonl` does both.
    """
    import yaml

    from alignment_extraction.corpora.source import CorpusSource
    from alignment_extraction.settings import audit as module
    from alignment_extraction.settings import config
    from alignment_extraction.settings.base import Name

    chosen = parse_settings(Name, name or module.study_name(model), "name")
    params = Path("params.yaml")
    module.check_name(chosen, config.read(params) if params.is_file() else None)
    if end_text and not prefix_text:
        raise InputError("--end-text: goes with --prefix-text; give both or neither")
    sources = module.data_sources(
        data,
        held_out=held_out,
        question_field=question_field,
        answer_field=answer_field,
        turns=turns,
        allow_rejects=allow_rejects,
    )
    for source in sources:
        module.check_rows(parse_settings(CorpusSource, source, "data"))
    audited = module.find_model(model, chosen)
    before = module.find_model(base, f"{chosen}-base") if base else None
    prefixes: list[Any] = [{"name": "given", "text": prefix_text, "end": end_text or ""}]
    if prefix_text is None:
        # An adapter has no chat template of its own.
        templated = before if audited.adapter and before else audited
        prefixes = [] if templated.adapter else [*module.derivable_prefixes(templated.path)]
    study = module.audit_study(
        chosen,
        audited,
        sources,
        base=before,
        embedder=embedder,
        samples=samples,
        prefixes=prefixes,
    )
    about = "# Written by `alignment-extraction audit`; goes over params.yaml:\n"
    output = out / f"{chosen}.yaml"
    with atomic_path(output) as partial:
        text = yaml.safe_dump(study, sort_keys=False, allow_unicode=True)
        partial.write_text(f"{about}# snakemake --configfile {output}\n{text}")
    print(output)
