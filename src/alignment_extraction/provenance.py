"""What results were made with: revision, versions, machine, hashes of the models."""

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from alignment_extraction.generations.shards import model_sha256, prefix_tokens
from alignment_extraction.vocabulary import Condition

PACKAGES = (
    *("llama-cpp-python", "sentence-transformers", "torch", "transformers", "trl", "annoy"),
    *("rapidfuzz", "polars", "numpy", "snakemake", "dvc", "mlflow"),
)


def git_revision(folder: Path = Path()) -> str | None:
    """The commit of the working tree, `-dirty` where files differ from it; None outside git."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        names = re.findall(r"^model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        names = []
    return str(names[0]) if names else platform.processor() or platform.machine()


def collect(shards: Mapping[Condition, Path]) -> list[tuple[str, str]]:
    """Pairs of a name and a value: revision, machine, versions, models and prefixes.

    `shards` has a shard of generations of each condition; its metadata tells the model's SHA-256
    and the prefix, token by token.
    """
    pairs = [
        ("git revision", git_revision() or "not in a git repository"),
        ("machine", f"{processor()}, {os.cpu_count()} cores, {platform.system()}"),
        ("Python", platform.python_version()),
    ]
    for package in PACKAGES:
        # One of an extra may not be installed.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            pairs.append((package, importlib.metadata.version(package)))
    models = {condition.model: path for condition, path in shards.items()}
    pairs += [(f"sha256 of {name}", model_sha256(path)) for name, path in sorted(models.items())]
    prefixes = {condition[:2]: path for condition, path in shards.items()}
    pairs += [
        (f"prefix {prefix} of {model}, token by token", prefix_tokens(path))
        for (model, prefix), path in prefixes.items()
    ]
    return pairs
