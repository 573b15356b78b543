"""The command line: one thin verb for each step of the workflow.

Every verb reads files, calls one function of the package and writes files; the Snakemake rules
call nothing else. `--settings` takes a YAML or JSON file, or `-` for standard input.
"""

import sys

import typer

from alignment_extraction.cli import (
    audit,
    corpora,
    distillation,
    evidence,
    generations,
    results,
    store,
    training,
)
from alignment_extraction.cli.failures import explain
from alignment_extraction.files import InputError

# Modules of the steps are imported inside the verbs: torch, MLflow and matplotlib take seconds,
# and a verb needs one of them at most.

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)
for verbs in (audit, corpora, training, generations, evidence, results, distillation, store):
    app.add_typer(verbs.app)


def main() -> None:
    """Run the command line.

    An `InputError`, or what the machine refuses, becomes one line on standard error and status 1.
    """
    try:
        app(standalone_mode=True)
    except InputError as error:
        message = str(error)
    except Exception as error:
        message = explain(error) or ""
        if not message:
            raise
    else:
        return
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(1) from None
