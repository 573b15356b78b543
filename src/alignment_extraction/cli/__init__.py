"""The command line: what a person types. The workflow's scripts call the same functions."""

import sys

import typer

from alignment_extraction.cli import audits, steps, studies
from alignment_extraction.failures import explain

# Modules of the steps are imported inside the verbs: torch, MLflow and matplotlib take seconds,
# and a verb needs one of them at most.

app = typer.Typer(
    help="Measure how much of its post-training data an open-weight language model gives away.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"max_content_width": 100},
)
for verbs in (audits, studies, steps):
    app.add_typer(verbs.app)


def main() -> None:
    """Run the command line.

    An `InputError`, or what the machine refuses, becomes one line on standard error and status 1.
    """
    try:
        app(standalone_mode=True)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(1) from None
