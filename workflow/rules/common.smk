"""What every rule uses: the checked parameters, and what a step's result depends on."""

import ast
import functools
import json
import re
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from alignment_extraction import layout
from alignment_extraction.files import InputError
from alignment_extraction.generations.prefix import check_prefixes
from alignment_extraction.settings import config as schema
from alignment_extraction.step import Given
from alignment_extraction.vocabulary import Condition

# Read here and not by `configfile:`, which overwrites a key that is given twice and names neither
# the file nor the key of a mistake. What --config and --configfile say comes on top.
try:
    values = schema.read(Path("params.yaml"))
    if isinstance(values, dict):
        update_config(values, config)
    PARAMS = schema.validate(values)
    # Not again in the processes that Snakemake starts for single jobs.
    if workflow.is_main_process:
        check_prefixes(PARAMS)
except InputError as error:
    raise WorkflowError(str(error)) from None

NAME = r"[a-z0-9][a-z0-9.-]*"
SOURCE = Path("src/alignment_extraction")
# GPUs that a job asks for which can use one. Slurm and Kubernetes show it no other.
GPU = int(PARAMS.gpu_layers != 0)


wildcard_constraints:
    study=NAME,
    model=NAME,
    corpus=NAME,
    embedder=NAME,
    prefix=NAME,
    field="question|answer|both",
    seed=r"\d+",
    shard=r"\d{5}",


@functools.cache
def imported_files(path):
    """The package's source files that a source file imports, or imports something of."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [
                node.module,
                *(f"{node.module}.{each.name}" for each in node.names),
            ]
    # The schema is left out: what it gives reaches the rules as parameters.
    files = [
        SOURCE.parent / f"{name.replace('.', '/')}.py"
        for name in names
        if ".settings." not in name
    ]
    return {file for file in files if file.exists()}


def code(script):
    """A script of the workflow and the package's source files that it consists of.

    They are inputs of the rules, so that an edited script or module reruns the steps that use it.
    The TOML beside a module, named as it, belongs to it.
    """
    found, new = set(), {Path(f"workflow/scripts/{script}.py")}
    while new:
        found |= new
        new = set().union(*map(imported_files, new)) - found
    data = {file.with_suffix(".toml") for file in found}
    return sorted(str(file) for file in found | data if file.exists())


def either(names):
    """A wildcard constraint that admits these names alone."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def study_of(wildcards):
    return PARAMS.studies[wildcards.study]


def embedder_of(wildcards):
    return wildcards.get("embedder") or study_of(wildcards).embedder


def corpus_of(wildcards):
    return layout.corpus_file(study_of(wildcards).corpus)


def thresholds_of(wildcards):
    return Given(study_of(wildcards).thresholds)


def shards_of(wildcards):
    """Every shard of a study, or of one model in it, by condition."""
    return layout.model_shards(PARAMS, wildcards.study, wildcards.get("model"))


def shard_files(wildcards):
    """The same as one list."""
    return sum(shards_of(wildcards).values(), [])


def final_files(study):
    """What a study ends with."""
    return [layout.result(study, name) for name in ("report.html", "tracked.json")]


def recorded(path, record, *forced):
    """Whether a file holds `record` and no target that begins with one of `forced` is forced."""
    targets = workflow.dag_settings.forcerun
    return (
        Path(path).exists()
        and json.loads(Path(path).read_text()) == record
        and not any(target.startswith(forced) for target in targets)
    )


def settled(files, path, record, *forced):
    """Inputs of a training: ancient while it was done with the settings of today.

    That is, while the file beside what it made holds the record of them, and it is not forced.
    Otherwise they must be plain inputs: where a job runs, Snakemake looks neither at the parameters
    of those that depend on it nor whether they are forced, and it does not rerun them through
    `ancient` inputs.

    Args:
        files: the inputs; like record a value, or a function of a job's wildcards.
        path: of the record's file, with the names of wildcards in braces.
        record: all settings that the training's result comes from.
        forced: beginnings of targets of --forcerun that train again.
    """

    def flagged(wildcards):
        found, now = (v(wildcards) if callable(v) else v for v in (files, record))
        at = path.format(**dict(wildcards.items()))
        return ancient(found) if found and recorded(at, now, *forced) else found

    return flagged
