"""Verbs of an audit."""

import typer

app = typer.Typer()
