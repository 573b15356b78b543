"""Benchmarks of EleutherAI's lm-evaluation-harness, through its Python API.

It is an optional extra: `pip install '.[evaluation]'`. A task's data can be a local file, so that
it runs without the hub.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch

from alignment_extraction.files import InputError

SCHEMA = pl.Schema(
    {
        "task": pl.String(),
        "metric": pl.String(),
        "filter": pl.String(),
        "items": pl.Int64(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
    }
)
"""One row a task, metric and filter; `low` and `high` are 1.96 standard errors away from `value`,
null where the harness gives none."""

_QUANTILE = 1.959964


def _task(name: str, data: Path | None) -> str | dict[str, Any]:
    """The harness's name of a task, or its settings with a local file for its data."""
    if data is None:
        return name
    if not data.is_file():
        raise InputError(f"{data}: no such file; task {name} was to read its questions there")
    kind = "parquet" if data.suffix == ".parquet" else "json"
    splits = dict.fromkeys(("train", "validation", "test", "dev"), str(data.resolve()))
    return {
        "task": name,
        "dataset_path": kind,
        "dataset_name": None,
        "dataset_kwargs": {"data_files": splits},
    }


def evaluate(
    model: Path | str,
    tasks: Mapping[str, Path | None],
    *,
    include: Path | None = None,
    limit: int | None = None,
    shots: int | None = None,
    chat: bool = True,
    batch_size: int = 8,
    seed: int = 0,
) -> pl.DataFrame:
    """Examine a model with tasks of the harness.

    Args:
        model: folder of a transformers model, or its name on the hub.
        tasks: the harness's names, such as gsm8k, hendrycks_math500, ifeval and mmlu_*; each with
            a local .json, .jsonl or .parquet file of its questions, or None for the hub's.
        include: folder with further task files.
        limit: first questions of each task alone.
        shots: examples before a question; the task's own number by default.
        chat: whether to ask in the model's chat template.
        batch_size: questions at once.
        seed: of the examples.

    Returns:
        Columns `SCHEMA`.

    Raises:
        InputError: the harness is not installed, a task is unknown to it, or a file is missing.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise InputError(
            "lm-evaluation-harness is not installed: pip install '.[evaluation]'"
        ) from None
    manager = TaskManager(include_path=None if include is None else str(include))
    unknown = [name for name in tasks if not manager.match_tasks([name])]
    if unknown:
        raise InputError(
            f"lm-evaluation-harness has no task {', '.join(unknown)}; `lm-eval ls tasks` lists them"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = simple_evaluate(
        model=HFLM(pretrained=str(model), batch_size=batch_size, device=device),
        tasks=[_task(name, data) for name, data in tasks.items()],
        num_fewshot=shots,
        limit=limit,
        apply_chat_template=chat,
        task_manager=manager,
        bootstrap_iters=0,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    rows = []
    for task, values in found["results"].items():
        for key, value in values.items():
            metric, _, kind = key.partition(",")
            if not isinstance(value, int | float) or metric.endswith("_stderr") or not kind:
                continue
            error = values.get(f"{metric}_stderr,{kind}")
            spread = _QUANTILE * error if isinstance(error, float) else None
            rows.append(
                {
                    "task": task,
                    "metric": metric,
                    "filter": kind,
                    "items": found["n-samples"][task]["effective"],
                    "value": float(value),
                    "low": None if spread is None else value - spread,
                    "high": None if spread is None else value + spread,
                }
            )
    return pl.DataFrame(rows, schema=SCHEMA)
