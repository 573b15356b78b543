"""Stand-ins for what the paper's studies download, under its own repository and file names.

    python -m tests.stand_ins olmo2-7b      # or: make rehearse STUDY=olmo2-7b

A local server speaks the hub's protocol. It serves models of the same architecture, special tokens
and chat template with a few hundred thousand random weights, an embedder of the same make, and data
in the same files and shapes. The study of params.yaml runs against it unchanged but for its sizes
and for the hashes that pin the real files: download, lock, generation, row risk, report and all.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
import yaml
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from alignment_extraction.files import sha256
from alignment_extraction.settings import config
from alignment_extraction.settings.config import Params
from tests.hub import Hub, serve
from tests.tiny_models import CHATML, END_OF_TEXT, END_OF_TURN, make_tiny_gguf

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ("olmo2-7b", "olmo2-13b", "orz-7b", "smollm2-full")
OLMO2 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<|system|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'user' %}"
    "{{ '<|user|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\\n' + message['content'] + eos_token }}{% if not loop.last %}{{ '\\n' }}"
    "{% endif %}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}"
    "{% endif %}{% endfor %}"
)
"""The chat template of OLMo 2 Instruct."""
_MODELS: dict[str, dict[str, Any]] = {
    "olmo2-7b": {"architecture": "olmo2", "chat_template": OLMO2, "seed": 1},
    "olmo2-7b-base": {"architecture": "olmo2", "chat_template": None, "seed": 2},
    "olmo2-13b": {"architecture": "olmo2", "chat_template": OLMO2, "seed": 3},
    "olmo2-13b-base": {"architecture": "olmo2", "chat_template": None, "seed": 4},
    "orz-7b": {"architecture": "qwen2", "chat_template": CHATML, "seed": 5},
    "qwen2.5-7b": {"architecture": "qwen2", "chat_template": CHATML, "seed": 6},
    "smollm2": {"architecture": "llama", "chat_template": CHATML, "seed": 7},
}
AYA = "ai2-adapt-dev/tulu_v3.9_aya_100k"
_ROWS = 40


def model(name: str, folder: Path) -> Path:
    """Write the stand-in of one of params.yaml's models to `folder`."""
    olmo = name.startswith("olmo2")
    return make_tiny_gguf(
        folder / f"{name}.gguf",
        context=4096,
        beginning=END_OF_TEXT,
        end=END_OF_TEXT if olmo else END_OF_TURN,
        **_MODELS[name],
    )


def questions(kind: str, count: int) -> list[str]:
    """Texts that differ from each other, `kind` in each."""
    return [f"What is {7 * i + 3} times {i + 11}? ({kind} problem {i})" for i in range(count)]


def messages(kind: str, count: int) -> list[list[dict[str, str]]]:
    """Conversations of one user turn and its reply."""
    return [
        [
            {"role": "user", "content": question},
            {"role": "assistant", "content": f"It is {i}, as one sees."},
        ]
        for i, question in enumerate(questions(kind, count))
    ]


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def tulu() -> dict[str, bytes]:
    """The SFT mixture of OLMo 2: two of its Parquet files."""
    halves = {
        f"data/train-0000{part}-of-00002.parquet": pl.DataFrame(
            {
                "id": [f"{part}_{i}" for i in range(_ROWS)],
                "messages": messages(f"tulu {part}", _ROWS),
                "source": ["ai2-adapt-dev/stand_in", AYA] * (_ROWS // 2),
            }
        )
        for part in range(2)
    }
    return {name: _parquet(frame) for name, frame in halves.items()}


def aya_unused() -> dict[str, bytes]:
    """Rows of one of the mixture's sources that a shuffle left out; one text is in both."""
    rows = [*messages("aya", _ROWS), messages("tulu 0", 1)[0]]
    frame = pl.DataFrame({"messages": rows, "dataset": ["aya"] * len(rows)})
    return {"data/train-00000-of-00001.parquet": _parquet(frame)}


def orz(file: str, kind: str) -> dict[str, bytes]:
    """Open-Reasoner-Zero's RL data: a JSON list of pairs of turns."""
    rows = [
        [
            {"from": "human", "value": question},
            {"from": "assistant", "ground_truth": {"value": str(i)}},
        ]
        for i, question in enumerate(questions(kind, _ROWS))
    ]
    return {file: json.dumps(rows).encode()}


def smoltalk() -> dict[str, bytes]:
    """smol-smoltalk: training and test rows."""
    frames = {
        part: pl.DataFrame({"messages": messages(part, _ROWS), "source": ["stand-in"] * _ROWS})
        for part in ("train", "test")
    }
    return {f"data/{part}-00000-of-00001.parquet": _parquet(f) for part, f in frames.items()}


def embedder(folder: Path) -> dict[str, bytes]:
    """An XLM-RoBERTa embedder, a Unigram tokenizer and pickled weights, as bge-m3 is shipped."""
    parts = folder / "parts"
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(questions("any", 200), trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        sep_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=512,
    ).save_pretrained(parts)
    torch.manual_seed(0)
    size = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    settings = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        intermediate_size=64,
        max_position_embeddings=514,
        pad_token_id=1,
        **size,
    )
    XLMRobertaModel(settings).save_pretrained(parts)
    whole = folder / "whole"
    modules = [Transformer(str(parts)), Pooling(64, "cls"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(whole))
    torch.save(load_file(whole / "model.safetensors"), whole / "pytorch_model.bin")
    (whole / "model.safetensors").unlink()
    (whole / "sentencepiece.bpe.model").write_bytes(b"not read where tokenizer.json is")
    files = (path for path in sorted(whole.rglob("*")) if path.is_file())
    return {path.relative_to(whole).as_posix(): path.read_bytes() for path in files}


def repositories(params: Params, folder: Path) -> dict[str, dict[str, bytes]]:
    """What the local hub serves: every repository that the studies name, by its real name."""
    found = {
        "BAAI/bge-m3": embedder(folder),
        "allenai/tulu-3-sft-olmo-2-mixture": tulu(),
        "ai2-adapt-dev/tulu_v3.9_aya_unused": aya_unused(),
        **{
            f"Open-Reasoner-Zero/{name}": orz(f"{name}.json", name)
            for name in ("orz_math_57k_collection", "orz_math_72k_collection_extended")
        },
        "HuggingFaceTB/smol-smoltalk": smoltalk(),
    }
    for name in _MODELS:
        source = params.models[name].source
        if source and source.hf:
            found[source.hf] = {str(source.file): model(name, folder).read_bytes()}
    return found


def small_study(params: Params, study: str) -> dict[str, Any]:
    """What goes over a study's settings to cut its sizes."""
    small = {"samples": 24, "max_tokens": 24, "max_answer_tokens": 24, "slots": 8, "shard": 24}
    given = params.studies[study].model_dump(mode="json", exclude_defaults=True)
    conditions = [
        condition | {"sampling": condition.get("sampling", {}) | small}
        for condition in given.get("conditions", [])
    ]
    own = {"sampling": given["sampling"] | small}
    return own | ({"conditions": conditions} if conditions else {})


def override(params: Params, studies: Sequence[str], folder: Path) -> dict[str, Any]:
    """What goes over params.yaml: the studies' sizes cut, the real files' hashes left out."""
    models: dict[str, Any] = {
        name: {"source": {"sha256": None}}
        for name, entry in params.models.items()
        if name in _MODELS and entry.source and entry.source.hf
    }
    # The one that is no file of the hub: the wheel's model becomes a file.
    path = model("smollm2", folder)
    source = {"path": str(path), "sha256": sha256(path), "pypi": None, "file": None}
    return {
        "run": list(studies),
        "studies": {study: small_study(params, study) for study in studies},
        "models": models | {"smollm2": {"source": source}},
    }


def clone(folder: Path) -> Path:
    """The repository as it is cloned, with nothing made or pulled."""
    folder.mkdir(parents=True)
    for name in ("Snakefile", "params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("workflow", "src"):
        unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    return folder


def rehearse(studies: Sequence[str], folder: Path, hub: Hub) -> subprocess.CompletedProcess[str]:
    """Run studies of params.yaml against the local hub, in a fresh clone below `folder`."""
    params = config.load(ROOT / "params.yaml")
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    hub.others = repositories(params, inputs)
    over = inputs / "sizes.yaml"
    over.write_text(yaml.safe_dump(override(params, studies, inputs)))
    environment: Mapping[str, str] = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    return subprocess.run(
        ["snakemake", "--cores", "2", "--configfile", str(over)],
        cwd=clone(folder / "clone"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def main(study: str) -> int:
    """Rehearse one study in a folder of its own, and say where its report is."""
    if study not in STUDIES:
        print(f"{study}: no study with stand-ins; name one of {', '.join(STUDIES)}")
        return 2
    folder = Path(tempfile.mkdtemp(prefix=f"rehearsal-{study}-"))
    with serve() as hub:
        done = rehearse([study], folder, hub)
    if done.returncode:
        print(done.stdout[-8000:])
        return 1
    print(f"{study} ran from download to report: {folder}/clone/results/{study}/report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or ("",)))
