"""How long it takes from a fresh clone to the first report: set-up, and the run step by step.

    python benchmarks/first_report.py                   # clones, sets up and runs: half an hour
    python benchmarks/first_report.py --against COMMIT  # and the same of an earlier commit
    python benchmarks/first_report.py --summary FOLDER  # of a clone that has run already

Seconds and memory of the steps are those that Snakemake measured (logs/benchmarks). Jobs run beside
each other, so that the sum over the steps is more than the run's own time.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
from record import ROOT, write


def steps(folder: Path) -> list[dict[str, Any]]:
    """What each rule took in a clone, the longest first."""
    base = folder / "logs" / "benchmarks"
    frames = [
        pl.read_csv(path, separator="\t", null_values=["-", "NA"], infer_schema=False).select(
            step=pl.lit(path.relative_to(base).parts[0].removesuffix(".tsv")),
            seconds=pl.col("s").cast(pl.Float64),
            processor_seconds=pl.col("cpu_time").cast(pl.Float64),
            megabytes=pl.col("max_rss").cast(pl.Float64),
        )
        for path in sorted(base.rglob("*.tsv"))
    ]
    if not frames:
        raise SystemExit(f"{base}: no benchmark files; run the workflow there first")
    return (
        pl.concat(frames)
        .group_by("step")
        .agg(
            jobs=pl.len(),
            seconds=pl.col("seconds").sum().round(1),
            processor_seconds=pl.col("processor_seconds").sum().round(1),
            peak_megabytes=pl.col("megabytes").max().round(),
        )
        .sort("seconds", descending=True)
        .to_dicts()
    )


def timed(folder: Path, *command: str) -> float:
    """Seconds that a command takes in a clone; its output goes to the terminal."""
    # The environment that this runs in is no part of the clone's.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=2, env=environment)
    return round(time.perf_counter() - start, 1)


def measure(folder: Path, commit: str, *options: str) -> dict[str, Any]:
    """Clone a commit, set it up, run it: seconds, and what each step took."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=folder, check=True)
    return {
        "commit": commit,
        "set-up, seconds": timed(folder, "make", "environment", *options),
        "run, seconds": timed(folder, "make", "run", *options),
        "steps": steps(folder),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--summary", type=Path, help="a clone that has run already")
    parser.add_argument("--small", action="store_true", help="make run SMALL=1")
    parser.add_argument("--no-cache", action="store_true", help="no wheel of an earlier clone")
    parser.add_argument("--against", metavar="COMMIT", help="an earlier commit, beside this one")
    given = parser.parse_args()
    if given.summary:
        write("first_report", {"steps": steps(given.summary)})
        return
    with tempfile.TemporaryDirectory() as scratch:
        options = [f"XDG_CACHE_HOME={scratch}/cache"] * given.no_cache + ["SMALL=1"] * given.small
        figures = measure(Path(scratch, "clone"), "HEAD", *options)
        figures |= {"small": given.small, "kept wheel": not given.no_cache}
        if given.against:
            before = measure(Path(scratch, "before"), given.against, *options)
            keys = ("set-up, seconds", "run, seconds")
            figures["ratios"] = {key: round(figures[key] / before[key], 2) for key in keys}
            figures["before"] = before
        write("first_report", figures)


if __name__ == "__main__":
    main()
