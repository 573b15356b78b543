"""Verbs of an audit: run it, read its report, decide by it."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from alignment_extraction.files import InputError

app = typer.Typer()
PANEL = "Audits"

ParamsFile = Annotated[Path, Option(help="the settings of all studies")]
Study = Annotated[str, Argument(help="a study whose results are there, or an audit's folder")]
REJECTS = "go on if over half of the rows are unusable"
Text = str | None
Number = int | None


@app.command(rich_help_panel=PANEL)
def audit(
    model: Annotated[
        str, Argument(help="a GGUF, LoRA with --base, hf:owner/name\\[:file], or server-url#name")
    ],
    data: Annotated[
        Text,
        Argument(help="its training data: a file, or hf:owner/name\\[:config]\\[/split]"),
    ] = None,
    base: Annotated[Text, Option(help="the model before that training, as MODEL")] = None,
    held_out: Annotated[Text, Option(help="rows of the same kind that it never saw")] = None,
    public: Annotated[bool, Option("--public", help="it may or may not have seen DATA")] = False,
    question_field: Annotated[Text, Option(help="key of the question, or auto-detected")] = None,
    answer_field: Annotated[Text, Option(help="key of the answer, dotted if nested")] = None,
    turns: Annotated[str, Option(help="user turns that are rows: first, or all")] = "first",
    allow_rejects: Annotated[bool, Option("--allow-rejects", help=REJECTS)] = False,
    precision: Annotated[str, Option(help="draw until copies are known to within it")] = "1%",
    minutes: Annotated[float, Option(min=0.1, help="or until so many minutes are over")] = 4.0,
    samples: Annotated[Number, Option(min=1, help="so many after each prefix instead")] = None,
    prefix_text: Annotated[Text, Option(help="sample after this text alone, literally")] = None,
    end_text: Annotated[Text, Option(help="with --prefix-text: what ends a question")] = None,
    embedder: Annotated[str, Option(help="minilm, bge-m3, or an embedder's folder")] = "minilm",
    name: Annotated[Text, Option(help="of the audit; the model's by default")] = None,
    out: Annotated[Path | None, Option(help="folder of its files; audits/NAME by default")] = None,
    cores: Annotated[Number, Option(min=1, help="all by default")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="say what would run, and stop")] = False,
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
    fields = {"question_field": question_field, "answer_field": answer_field}
    reading = {**fields, "turns": turns, "allow_rejects": allow_rejects}
    data, held_out, base = (path and study.given_path(path) for path in (data, held_out, base))
    model = study.given_path(model)
    embedder = str(Path(embedder).absolute()) if Path(embedder).is_dir() else embedder
    literal = {"name": "given", "text": prefix_text, "end": end_text or ""} if prefix_text else None
    folder = (out or Path("audits", chosen)).absolute()
    try:
        with workflow.inside(folder):
            parts = ((data, "unknown" if public else "member"), (held_out, "held-out"))
            seen = [study.check_rows(path, role, reading) for path, role in parts if path]
            audited = study.find_model(model, chosen)
            before = study.find_model(base, f"{chosen}-base") if base else None
            study.models_of(chosen, audited, before)
            if not seen and dry_run:
                print("Generations would be drawn after each prefix of the model's template.")
                return
            served = "endpoint" in audited.entry
            if not seen and served:
                raise InputError(f"{model}: without DATA the model has to be a file")
            if not seen:
                page = blind.run_blind(chosen, audited, before, literal, budget, samples)
                print(f"Report: {folder / page}")
                return
            # An adapter has no chat template of its own.
            spoken = before if audited.adapter and before else audited
            if served:
                template = study.look_at_server(audited, literal, seen[0][1])
            else:
                template = study.look_at(spoken.path, seen[0][1])
            models = study.models_of(chosen, audited, before, template.quantisation)
            sources = [source for source, _ in seen]
            given = {"models": models, "sources": sources, "embedder": embedder}
            given["shipped"] = config.read(workflow.shipped("params.yaml"))
            title = f"{audited.path.name} against {str(data).rsplit('/', 1)[-1]}"
            prefixes = [literal] if literal else template.prefixes
            why = run.run_audit(
                chosen, given, title, prefixes, template, budget, samples, dry_run=dry_run
            )
            if not dry_run:
                show_report(chosen, config.study(params, chosen), here=folder)
            print(*filter(None, (template.about_it, why)), sep="\n")
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        raise typer.Exit(130) from None  # as shells have it


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
    mask: Annotated[Path | None, Option(help="print no text; write a page without any")] = None,
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
    max_rows_at_risk: Annotated[Number, Option(min=0, help="at most so many rows at risk")] = None,
    max_attributable: Annotated[Text, Option(help="share of verbatim copies, such as 1%")] = None,
    max_attributable_semantic: Annotated[Text, Option(help="the same by meaning")] = None,
    samples: Annotated[Number, Option(min=1, help="for rows at risk; a million by default")] = None,
    model: Annotated[list[str] | None, Option(help="to check; the headline's by default")] = None,
    as_json: Annotated[bool, Option("--json", help="print the findings as JSON")] = False,
    params: ParamsFile = Path("params.yaml"),
) -> None:
    """Hold results against limits: status 0 within, 1 exceeded, 2 cannot tell, 3 bad input.

    Example: alignment-extraction check controlled --max-rows-at-risk 10 --max-attributable 1%
    """
    from alignment_extraction.report.gate import BAD_INPUT, GateResult
    from alignment_extraction.report.study import check_study

    limits = {"max_rows_at_risk": max_rows_at_risk, "max_attributable": max_attributable}
    limits |= {"max_attributable_semantic": max_attributable_semantic, "samples": samples}
    try:
        result = check_study(_located(study), params, limits, model or ())
    except InputError as error:
        result = GateResult(BAD_INPUT, (str(error),))
    print(json.dumps(result.as_dict(), indent=2) if as_json else "\n".join(result.lines))
    raise typer.Exit(result.exit_code)
