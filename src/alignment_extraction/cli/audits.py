"""Verbs of an audit: run it, read its report, decide by it."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from alignment_extraction.files import InputError, atomic_path

app = typer.Typer()
PANEL = "Audits"

ParamsFile = Annotated[Path, typer.Option(help="the settings of all studies")]
Study = Annotated[str, typer.Argument(help="a study whose results are there")]
StudyFile = Annotated[
    Path | None, typer.Option(help="a study that `audit` wrote, on top of params.yaml")
]


@app.command(rich_help_panel=PANEL)
def audit(
    model: Annotated[
        str, typer.Argument(help="a GGUF, an adapter with --base, or hf:owner/name\\[:file]")
    ],
    data: Annotated[
        str,
        typer.Argument(help="its training data: a file, or hf:owner/name\\[:config]\\[/split]"),
    ],
    base: Annotated[
        str | None, typer.Option(help="the model before that training, as MODEL")
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(help="rows of the same kind that it was not trained on, as DATA")
    ] = None,
    question_field: Annotated[
        str | None, typer.Option(help="the key of the question, dotted; auto-detected by default")
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

    from alignment_extraction import audit as module
    from alignment_extraction.corpora.source import CorpusSource
    from alignment_extraction.settings import config
    from alignment_extraction.settings.base import Name, checked

    chosen = checked(Name, name or module.study_name(model), "name")
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
        module.check_rows(checked(CorpusSource, source, "data"))
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


@app.command(rich_help_panel=PANEL)
def report(
    study: Study,
    mask: Annotated[
        Path | None,
        typer.Option(help="show no text of the data, and write a page without any to this file"),
    ] = None,
    params: ParamsFile = Path("params.yaml"),
    study_file: StudyFile = None,
) -> None:
    """Print what a study found, as the first screen of its report says it.

    Example: alignment-extraction report controlled
    """
    from alignment_extraction.report.study import show_report
    from alignment_extraction.settings import config

    show_report(study, config.study(params, study, study_file), mask)


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
    model: Annotated[
        list[str] | None, typer.Option(help="model to check; the headline's by default")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
    params: ParamsFile = Path("params.yaml"),
    study_file: StudyFile = None,
) -> None:
    """Hold results against limits: status 0 within, 1 exceeded, 2 cannot tell, 3 bad input.

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
            "models": tuple(model) if model else None,
        },
        study_file,
    )
    print(json.dumps(result.as_dict(), indent=2) if as_json else "\n".join(result.lines))
    raise typer.Exit(result.exit_code)
