"""What results were made with: revision, versions, machine, hashes of the models."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

from alignment_extraction.generations.shards import model_sha256

PACKAGES = (
    "llama-cpp-python",
    "sentence-transformers",
    "torch",
    "transformers",
    "trl",
    "annoy",
    "rapidfuzz",
    "polars",
    "numpy",
    "snakemake",
    "dvc",
    "mlflow",
    "reasoning-gym",
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
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def collect(shards: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Pairs of a name and a value: revision, machine, versions, and the SHA-256 of each model.

    Args:
        shards: a shard of generations of each model, by the model's name.
    """
    revision = git_revision()
    pairs = [
        ("git revision", revision or "not in a git repository"),
        ("machine", f"{processor()}, {os.cpu_count()} cores, {platform.system()}"),
        ("Python", platform.python_version()),
    ]
    pairs += [(name, importlib.metadata.version(name)) for name in PACKAGES]
    pairs += [(f"sha256 of {name}", model_sha256(path)) for name, path in sorted(shards.items())]
    return pairs
