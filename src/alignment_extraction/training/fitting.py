"""What all trainings share: the trainer's arguments, checkpoints, curves."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
from transformers import LlamaForCausalLM

from alignment_extraction.files import write_parquet
from alignment_extraction.settings.controlled import StageSettings, TrainingSettings
from alignment_extraction.training import gguf_export


class Run(NamedTuple):
    """One training: tokenizer.json and the GGUF (or None) to start from, the GGUF to write."""

    settings: TrainingSettings
    tokenizer: Path
    start: Path | None
    output: Path
    checkpoints: Path

    def model(self) -> LlamaForCausalLM:
        """What it starts from: a GGUF's model, or random weights of torch's global stream."""
        if self.start is None:
            tokenizer = gguf_export.load_tokenizer(self.tokenizer)
            return gguf_export.new_model(self.settings.architecture, len(tokenizer))
        return gguf_export.load_model(self.start)

    def beside(self, kind: str) -> Path:
        """A table beside the model: its "curves" (columns step, metric, value), "accuracy"."""
        return self.output.with_name(f"{self.output.stem}-{kind}.parquet")

    def folder(self, *inputs: Any) -> Path:
        """A folder of checkpoints that only a run with these inputs, and its own, resumes from."""
        files = [path and path.read_bytes() for path in (self.tokenizer, self.start)]
        given = [i.write_ndjson() if isinstance(i, pl.DataFrame) else i for i in inputs]
        text = repr((self.settings.model_dump(), files, given))
        return self.checkpoints / hashlib.sha256(text.encode()).hexdigest()[:16]

    def arguments(self, stage: StageSettings, *inputs: Any) -> dict[str, Any]:
        """Arguments of every stage's trainer; `inputs` are those of `folder`."""
        return {
            "output_dir": str(self.folder(*inputs)),
            "per_device_train_batch_size": stage.batch_size,
            "learning_rate": stage.learning_rate,
            "lr_scheduler_type": "linear",
            "warmup_steps": stage.warmup,
            "weight_decay": stage.weight_decay,
            "bf16": self.settings.bf16,
            "use_cpu": not torch.cuda.is_available(),
            "seed": self.settings.seed,
            "save_steps": stage.checkpoint_steps,
            "save_total_limit": 1,
            "logging_steps": stage.log_steps,
            "disable_tqdm": False,
            "report_to": "none",
            "dataloader_pin_memory": torch.cuda.is_available(),
        }

    def finish(self, trainer: Any, name: str, template: gguf_export.ChatTemplate) -> None:
        """Train, and write the model, under `name` and with its chat template, and its curves."""
        curves = fit(trainer)
        tokenizer = gguf_export.load_tokenizer(self.tokenizer, template)
        gguf_export.write_gguf(trainer.model, tokenizer, self.output, name, template)
        write_parquet(curves, self.beside("curves"))


def fit(trainer: Any) -> pl.DataFrame:
    """Train, from the trainer's last whole checkpoint if it has one; then remove its checkpoints.

    The curves have columns step (Int64), metric (the trainer's name of it), value (Float64).
    """
    folder = Path(trainer.args.output_dir)
    for checkpoint in folder.glob("checkpoint-*"):
        try:  # its state is written last
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            shutil.rmtree(checkpoint, ignore_errors=True)
    trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")))
    for state in folder.glob("*/trainer_state.json"):
        state.unlink()  # first, so that what is half removed is not gone on from
    shutil.rmtree(folder, ignore_errors=True)
    rows = [
        (entry["step"], metric, float(value))
        for entry in trainer.state.log_history
        for metric, value in entry.items()
        if metric != "step" and isinstance(value, int | float)
    ]
    columns = {"step": pl.Int64, "metric": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema=columns, orient="row")
