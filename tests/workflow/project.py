"""A toy project on which Snakemake, DVC and MLflow run for real, in seconds."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

from alignment_extraction.files import sha256
from tests.tiny_models import make_tiny_gguf

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = [f"What is the sum of {i} and {2 * i + 1}?" for i in range(30)]


def write_embedder(folder: Path) -> Path:
    """A sentence-transformers model with random weights, one token a character."""
    parts = folder.with_name(f"{folder.name}-parts")
    parts.mkdir(parents=True)
    characters = [chr(i) for i in range(33, 127)]
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *characters,
        *(f"##{c}" for c in characters),
    ]
    (parts / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(vocab_file=str(parts / "vocab.txt"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(parts)
    tokenizer.save_pretrained(parts)
    transformer = Transformer(str(parts))
    SentenceTransformer(modules=[transformer, Pooling(32)], device="cpu").save(str(folder))
    return folder


class Project:
    """A copy of the workflow with a study of its own, `toy`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the project; stdout and stderr come back together."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **options,
        )

    def snakemake(self, *arguments: str) -> str:
        """Run snakemake and give its output; it must succeed."""
        result = self.run("snakemake", "--cores", "2", *arguments)
        assert result.returncode == 0, result.stdout[-5000:]
        return result.stdout

    def reruns(self, *arguments: str) -> set[str]:
        """The rules that a run would execute now, the targets that only collect left out."""
        output = self.snakemake("--dry-run", *arguments)
        if "Nothing to be done" in output:
            return set()
        table = output.split("Job stats:")[1].split("\n\n")[0]
        names = {line.split()[0] for line in table.splitlines()[3:] if line.strip()}
        return names - {"total", "all", "distill", "results", "generations", "models", "datasets"}

    @property
    def params(self) -> dict[str, Any]:
        values: dict[str, Any] = yaml.safe_load((self.folder / "params.yaml").read_text())
        return values

    def change(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Edit params.yaml."""
        values = self.params
        edit(values)
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))

    def metrics(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(
            (self.folder / "results" / "toy" / "metrics.json").read_text()
        )
        return values


def make_project(folder: Path) -> Project:
    """Copy the workflow to `folder`, with tiny models and a small corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Snakefile", "dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("workflow", "profiles", "src"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    inputs = folder / "inputs"
    model = make_tiny_gguf(inputs / "tiny.gguf", seed=1)
    other = make_tiny_gguf(inputs / "other.gguf", seed=2)
    embedder = write_embedder(inputs / "embedder")
    rows = [{"question": question, "answer": "#### 1"} for question in QUESTIONS]
    (inputs / "members.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:20]))
    (inputs / "held-out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[20:]))

    def pinned(path: Path) -> dict[str, str]:
        return {"path": str(path.relative_to(folder)), "sha256": sha256(path)}

    def corpus_source(role: str, file: str) -> dict[str, str]:
        return {"name": "sums", "path": f"inputs/{file}.jsonl", "role": role}

    params: dict[str, Any] = {
        "run": ["toy"],
        "seed": 0,
        "gpu_layers": 0,
        "controlled": {},
        "train": {},
        "models": {
            "tiny": {"source": pinned(model), "base": "other"},
            "other": {"source": pinned(other), "trained_on": []},
        },
        "embedders": {"tiny": {"source": pinned(embedder)}},
        "corpora": {
            "toy": {
                "sources": [
                    corpus_source("member", "members"),
                    corpus_source("held-out", "held-out"),
                ]
            },
        },
        "studies": {
            "toy": {
                "title": "A toy",
                "models": ["tiny", "other"],
                "corpus": "toy",
                "embedder": "tiny",
                "prefixes": ["user", "bos"],
                "sampling": {"samples": 12, "max_tokens": 16, "slots": 8, "shard": 12},
                "conditions": [
                    {"models": ["tiny"], "prefixes": ["user"], "sampling": {"samples": 24}},
                    {"models": ["other"], "prefixes": ["user"]},
                    {
                        "models": ["tiny"],
                        "prefixes": ["user"],
                        "name": "t0.7",
                        "sampling": {"temperature": 0.7},
                    },
                ],
                "index": {"trees": 4, "audit": 8},
                "thresholds": {"semantic": 0.95, "string": 0.9},
                "likelihood": {"models": ["tiny", "other"]},
            }
        },
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return Project(folder)
