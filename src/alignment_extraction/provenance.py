"""What results were made with: revision, versions, machine, hashes of the models."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

from alignment_extraction.generations.shards import model_sha256, prefix_tokens
from alignment_extraction.vocabulary import Condition

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


def collect(shards: Mapping[Condition, Path]) -> list[tuple[str, str]]:
    """Pairs of a name and a value: revision, machine, versions, models and prefixes.

    Args:
        shards: a shard of generations of each condition; its metadata tells the model's SHA-256 and
            the prefix, token by token.
    """
    revision = git_revision()
    pairs = [
        ("git revision", revision or "not in a git repository"),
        ("machine", f"{processor()}, {os.cpu_count()} cores, {platform.system()}"),
        ("Python", platform.python_version()),
    ]
    pairs += [(name, found) for name in PACKAGES if (found := _version(name))]
    models = {condition.model: path for condition, path in shards.items()}
    pairs += [(f"sha256 of {name}", model_sha256(path)) for name, path in sorted(models.items())]
    prefixes = {condition[:2]: path for condition, path in shards.items()}
    pairs += [
        (f"prefix {prefix} of {model}, token by token", prefix_tokens(path))
        for (model, prefix), path in prefixes.items()
    ]
    return pairs


def _version(package: str) -> str | None:
    """The installed version; None of a package of an extra that is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
