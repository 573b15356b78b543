"""What every rule uses: the checked parameters, and what a step's result depends on."""

import ast
import functools
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
def imported_modules(path):
    """Names of the package's modules, or of what they give, that a source file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            SOURCE.name
        ):
            names.append(node.module)
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def code(script):
    """A script of the workflow and the package's source files that it consists of.

    They are inputs of the rules, so that an edited script or module reruns the steps that use it.
    The schema is left out: what it gives reaches the rules as parameters.
    """
    adapter = Path(f"workflow/scripts/{script}.py")
    found, waiting = {adapter}, imported_modules(adapter)
    while waiting:
        name = waiting.pop()
        path = SOURCE.parent / f"{name.replace('.', '/')}.py"
        if ".settings." in name or path in found or not path.exists():
            continue
        found.add(path)
        waiting = [*waiting, *imported_modules(path)]
    return sorted(str(path) for path in found)


def either(names):
    """A wildcard constraint that admits these names alone."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def study_of(wildcards):
    return PARAMS.studies[wildcards.study]


def embedder_of(wildcards):
    return study_of(wildcards).embedder


# Not again in the processes that Snakemake starts for single jobs.
if workflow.is_main_process:
    try:
        check_prefixes(PARAMS)
    except InputError as error:
        raise WorkflowError(str(error)) from None
