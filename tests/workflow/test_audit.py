"""An audit as a new user runs it: from the wheel, in an empty folder, with nothing of the clone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
import yaml

from tests.hub import serve
from tests.tiny_models import make_tiny_gguf
from tests.workflow.project import QUESTIONS, ROOT, write_embedder


class User(NamedTuple):
    """Someone with the package installed and a folder of their own."""

    folder: Path
    environment: dict[str, str]
    program: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", str(self.program), *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """The wheel installed where the clone's modules are out of reach, a model and rows.

    The model before training and the rows that it was not trained on lie on a hub.
    """
    base = tmp_path_factory.mktemp("wheel")
    clone = base / "clone"
    clone.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "Snakefile", "params.yaml"):
        shutil.copy(ROOT / name, clone)
    for name in ("src", "workflow", "profiles"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, clone / name, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(base), str(clone)]
    subprocess.run([*pip, *build], check=True)
    shutil.rmtree(clone)
    [wheel] = base.glob("*.whl")
    site = base / "the {site} of é"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    folder = base / "it's {mine}"
    folder.mkdir()
    make_tiny_gguf(folder / "my model.gguf", seed=1)
    before = make_tiny_gguf(base / "before.gguf", seed=2)
    write_embedder(folder / "embedder")
    shutil.rmtree(folder / "embedder-parts")
    rows = [json.dumps({"question": question, "answer": "1"}) + "\n" for question in QUESTIONS]
    (folder / "rows {1}.jsonl").write_text("".join(rows[:20]))
    # No home, as in a container that runs as somebody without one.
    environment = {**os.environ, "PYTHONPATH": str(site), "HOME": "/dev/null"}
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        environment.pop(name, None)
    with serve() as hub:
        hub.others = {
            "me/before-GGUF": {"before.gguf": before.read_bytes()},
            "me/others": {"others.jsonl": "".join(rows[20:]).encode()},
        }
        environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": ""}
        yield User(folder, environment, site / "bin" / "alignment-extraction")


AUDIT = (
    *("audit", "my model.gguf", "rows {1}.jsonl", "--embedder", "embedder", "--precision", "60%"),
    *("--held-out", "hf:me/others", "--base", "hf:me/before-GGUF"),
)


@pytest.fixture(scope="module")
def audited(user: User) -> tuple[User, str]:
    done = user.run(*AUDIT)
    assert done.returncode == 0, done.stderr[-3000:]
    return user, done.stdout


def test_from_the_wheel_to_the_report(audited: tuple[User, str]) -> None:
    user, said = audited
    out = user.folder / "audits" / "my-model"
    report = out / "results" / "my-model" / "report.html"
    assert str(report) in said and report.read_text().startswith("<!doctype html>")
    assert "that training caused, known to within" in said.splitlines()[-1]
    assert "my model.gguf against rows {1}.jsonl" in said
    # Everything lies below its folder, and the modules are those of the wheel.
    assert {path.name for path in user.folder.iterdir()} == {
        *("audits", "my model.gguf", "embedder", "rows {1}.jsonl")
    }
    assert user.program.parents[1].resolve() in (out / "Snakefile").resolve().parents
    own = yaml.safe_load((out / "params.yaml").read_text())
    assert own["models"]["my-model"]["base"] == "my-model-base"
    locked = (out / "sources.lock.yaml").read_text()
    assert "me/before-GGUF" in locked and "me/others" in locked
    rows = pl.read_parquet(out / "results" / "my-model" / "rows.parquet")
    assert rows["base_log_probability"].null_count() == 0


def test_again_it_goes_on(audited: tuple[User, str]) -> None:
    user, _ = audited
    out = user.folder / "audits" / "my-model"
    made = [*out.glob("data/generations/**/*.parquet"), *out.glob("data/likelihood/**/*.parquet")]
    before = {path: path.stat().st_mtime_ns for path in made}
    done = user.run(*AUDIT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in made} == before
    checked = user.run("check", "audits/my-model", "--max-rows-at-risk", "20")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    shown = user.run("report", "audits/my-model", "--mask", "masked.html")
    assert shown.returncode == 0
    assert "my model.gguf against" in shown.stdout
    (user.folder / "masked.html").unlink()


def test_a_step_that_fails(user: User) -> None:
    weights = user.folder / "embedder" / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:100])
    done = user.run(*AUDIT[:5], "--name", "broken", "--minutes", "1")
    weights.write_bytes(kept)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ") and last.endswith("broken/logs/audit.log)")


def test_stopped_by_its_user(user: User) -> None:
    command = user.command(*AUDIT[:5], "--name", "stopped", "--samples", "20000")
    with subprocess.Popen(
        command, cwd=user.folder, env=user.environment, stderr=subprocess.PIPE, text=True
    ) as process:
        folder = user.folder / "audits" / "stopped" / "logs" / "generate"
        while not list(folder.rglob("*.log")) and process.poll() is None:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130, said[-2000:]
    assert said.splitlines()[-1] == "stopped; the same command goes on where it was"
    for name in Path("/proc").glob("[0-9]*/cwd"):
        assert user.folder not in links_to(name).parents


def links_to(name: Path) -> Path:
    try:
        return name.readlink()
    except OSError:
        return Path()
