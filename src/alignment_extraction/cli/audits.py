"""Verbs of an audit: run it, read its report, decide by it."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from alignment_extraction.files import InputError

app = typer.Typer()
PANEL = "Audits"

ParamsFile = Annotated[Path, typer.Option(help="the settings of all studies")]
Study = Annotated[str, typer.Argument(help="a study whose results are there, or an audit's folder")]
INTERRUPTED = 130
"""Exit status of what Ctrl-C ended, as shells have it."""


@app.command(rich_help_panel=PANEL)
def audit(
    model: Annotated[
        str, typer.Argument(help="a GGUF, an adapter with --base, or hf:owner/name\\[:file]")
    ],
    data: Annotated[
        str | None,
        typer.Argument(help="its training data: a file, or hf:owner/name\\[:config]\\[/split]"),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="the model before that training, as MODEL")
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(help="rows of the same kind that it was not trained on, as DATA")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="it may or may not have been trained on DATA")
    ] = False,
    question_field: Annotated[
        str | None, typer.Option(help="the key of the question, dotted; auto-detected by default")
    ] = None,
    answer_field: Annotated[str | None, typer.Option(help="the key of the answer")] = None,
    turns: Annotated[str, typer.Option(help="user turns that are rows: first, or all")] = "first",
    allow_rejects: Annotated[
        bool, typer.Option("--allow-rejects", help="go on if over half of the rows are unusable")
    ] = False,
    precision: Annotated[
        str, typer.Option(help="draw samples until the rate of copies is known this closely")
    ] = "1%",
    minutes: Annotated[
        float, typer.Option(min=0.1, help="or until so many minutes are over in all")
    ] = 4.0,
    samples: Annotated[
        int | None, typer.Option(min=1, help="so many generations of each prefix instead")
    ] = None,
    prefix_text: Annotated[
        str | None, typer.Option(help="sample after this text, special tokens spelt out, alone")
    ] = None,
    end_text: Annotated[
        str | None, typer.Option(help="with --prefix-text: the text that ends a question")
    ] = None,
    embedder: Annotated[
        str, typer.Option(help="minilm, bge-m3, or the folder of a sentence-transformers model")
    ] = "minilm",
    name: Annotated[str | None, typer.Option(help="of the audit; the model's by default")] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of all that it makes; audits/NAME by default")
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="all by default")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="write its params.yaml, say what would run, and stop")
    ] = False,
) -> None:
    """Audit MODEL on DATA: which rows does it give away? Without DATA: how much does it repeat?

    It ends with the report's first screen. The same command goes on where an earlier one stopped.

    Example: alignment-extraction audit mine.gguf mine.jsonl --held-out others.jsonl
    """
    from alignment_extraction.audits import blind, run, study, workflow
    from alignment_extraction.report.study import show_report
    from alignment_extraction.settings import config
    from alignment_extraction.settings.base import Name, checked
    from alignment_extraction.settings.studies import Rate

    begin = time.monotonic()
    chosen = checked(Name, name or study.study_name(model), "name")
    params = Path("params.yaml")
    study.check_name(chosen, config.read(params) if params.is_file() else None)
    if end_text and not prefix_text:
        raise InputError("--end-text: goes with --prefix-text; give both or neither")
    if held_out and not data:
        raise InputError("--held-out: goes with DATA; give both or neither")
    precise = checked(Rate, precision, "--precision")
    if not precise:
        raise InputError("--precision: no number of samples makes it 0; give one like 1%")
    budget = run.Budget(begin, minutes, precise, cores or len(os.sched_getaffinity(0)))
    reading = {
        "question_field": question_field,
        "answer_field": answer_field,
        "turns": turns,
        "allow_rejects": allow_rejects,
    }
    data, held_out, base = (path and study.given_path(path) for path in (data, held_out, base))
    model = study.given_path(model)
    embedder = str(Path(embedder).absolute()) if Path(embedder).is_dir() else embedder
    literal = {"name": "given", "text": prefix_text or "", "end": end_text or ""}
    folder = (out or Path("audits", chosen)).absolute()
    try:
        with workflow.inside(folder):
            given = ((data, "unknown" if public else "member"), (held_out, "held-out"))
            seen = [study.check_rows(path, role, reading) for path, role in given if path]
            audited = study.find_model(model, chosen)
            before = study.find_model(base, f"{chosen}-base") if base else None
            study.models_of(chosen, audited, before)
            if not seen and dry_run:
                print("Generations would be drawn after each prefix of the model's template.")
                return
            if not seen:
                page = blind.run_blind(
                    chosen, audited, before, literal if prefix_text else None, budget, samples
                )
                print(f"Report: {folder / page}")
                return
            # An adapter has no chat template of its own.
            spoken = before if audited.adapter and before else audited
            template = study.look_at(spoken.path, seen[0][1])
            sections = {
                "models": study.models_of(chosen, audited, before, template.quantisation),
                "sources": [source for source, _ in seen],
                "shipped": config.read(workflow.shipped("params.yaml")),
                "embedder": embedder,
            }
            title = f"{audited.path.name} against {str(data).rsplit('/', 1)[-1]}"
            prefixes = [literal] if prefix_text else template.prefixes
            why = run.run_audit(
                chosen, sections, title, prefixes, template, budget, samples, dry_run=dry_run
            )
            if not dry_run:
                show_report(chosen, config.study(params, chosen), here=folder)
            print(*filter(None, (template.about_it, why)), sep="\n")
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _located(study: str) -> str:
    """The name of a study; of an audit's folder, to which it goes, the one in it."""
    if (Path(study) / "params.yaml").is_file():
        from alignment_extraction.settings import config

        os.chdir(study)
        return config.load(Path("params.yaml")).run[0]
    return study


@app.command(rich_help_panel=PANEL)
def report(
    study: Study,
    mask: Annotated[
        Path | None,
        typer.Option(help="show no text of the data, and write a page without any to this file"),
    ] = None,
    params: ParamsFile = Path("params.yaml"),
) -> None:
    """Print what a study found, as the first screen of its report says it.

    Example: alignment-extraction report controlled
    """
    from alignment_extraction.report.study import show_report
    from alignment_extraction.settings import config

    mask, name = mask and mask.absolute(), _located(study)
    here = Path.cwd() if name != study else Path()
    show_report(name, config.study(params, name), mask, here=here)


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
) -> None:
    """Hold results against limits: status 0 within, 1 exceeded, 2 cannot tell, 3 bad input.

    Example: alignment-extraction check controlled --max-rows-at-risk 10 --max-attributable 1%
    """
    from alignment_extraction.report.study import check_study

    result = check_study(
        _located(study),
        params,
        {
            "max_rows_at_risk": max_rows_at_risk,
            "max_attributable": max_attributable,
            "max_attributable_semantic": max_attributable_semantic,
            "samples": samples,
            "models": tuple(model) if model else None,
        },
    )
    print(json.dumps(result.as_dict(), indent=2) if as_json else "\n".join(result.lines))
    raise typer.Exit(result.exit_code)
