"""Generations of whole models, and the verb that writes them: interrupted, killed, repeated."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.request import SCHEMA
from alignment_extraction.files import InputError, sha256
from alignment_extraction.generations.generation import generate, write_shard
from alignment_extraction.generations.sampler import LlamaCpp
from alignment_extraction.generations.shards import model_sha256, prefix_tokens
from alignment_extraction.settings.studies import LiteralPrefix, SamplingSettings
from tests.tiny_models import CHATML, make_tiny_gguf

VERB = [sys.executable, "-c", "from alignment_extraction.cli import main; main()", "generate"]
# The assistant's header is ordinary text, as OLMo 2's and Llama 2's are; one that this model, which
# writes at random, comes upon by itself.
PLAIN = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|im_start|>' + m.content }}"
    "{% else %}{{ ' e ' + m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
)


def draw(path: Path, *, prefix: Any = "user", first: int = 0, samples: int = 30, **sampling: Any):
    options = {"slots": 8, "max_tokens": 20} | sampling
    if "max_answer_tokens" in options:
        options["answer"] = True
    with Model(path, threads=1) as model:
        return generate(
            LlamaCpp(model, slots=8, sha256="known"),
            prefix=prefix,
            sampling=SamplingSettings(**options),
            seed=4,
            first=first,
            samples=samples,
        )


def test_questions(tiny_path: Path) -> None:
    frame, about = draw(tiny_path)
    assert frame.schema == SCHEMA
    assert frame["index"].to_list() == list(range(30))
    assert frame["answer"].null_count() == 30
    assert frame["question_tokens"].list.len().max() <= 20
    assert about == {
        "model": "tiny.gguf",
        "model_sha256": "known",
        "prefix": "<|im_start|>user\n",
        "prefix_tokens": '[[1, "<|im_start|>"], [348, "user"], [201, "\\n"]]',
        "seed": "4",
        "max_tokens": "20",
        "max_answer_tokens": "None",
        "temperature": "1.0",
        "top_k": "0",
        "top_p": "1.0",
        "min_p": "0.0",
        "slots": "8",
    }


def test_shards_put_together_are_the_whole(tiny_path: Path) -> None:
    whole, _ = draw(tiny_path)
    shards = [draw(tiny_path, first=first, samples=10)[0] for first in (0, 10, 20)]
    assert pl.concat(shards).equals(whole)


def test_answers(tiny_path: Path) -> None:
    frame, _ = draw(tiny_path, max_answer_tokens=10)
    answered = frame["question_finish"] == "stop"
    assert (frame["answer"].is_not_null() == answered).all()
    assert frame["answer_tokens"].list.len().max() <= 10
    assert answered.sum() > 5


def test_header_of_ordinary_text_ends_the_question(tmp_path: Path) -> None:
    path = make_tiny_gguf(tmp_path / "plain.gguf", seed=3, chat_template=PLAIN, end_probability=0.0)
    frame, _ = draw(path, samples=200, max_tokens=40)
    stopped = frame.filter(question_finish="stop")
    assert 10 < len(stopped) < 200
    assert not frame["question"].str.contains("e", literal=True).any()
    answered, _ = draw(path, samples=200, max_tokens=40, max_answer_tokens=5)
    assert answered["question"].equals(frame["question"])
    assert (answered["answer"].is_not_null() == (frame["question_finish"] == "stop")).all()


def test_literal_prefix_needs_no_template(tmp_path: Path) -> None:
    for name, template in (("base", None), ("broken", "{% for %}")):
        path = make_tiny_gguf(tmp_path / f"{name}.gguf", chat_template=template)
        story = LiteralPrefix(name="story", text="The answer")
        frame, about = draw(path, prefix=story, samples=3)
        assert len(frame) == 3
        assert about["prefix"] == "The answer"
        with pytest.raises(InputError, match=r"no answer can be drawn.*header is unknown: .*gguf"):
            draw(path, prefix=story, max_answer_tokens=5)


def test_a_shard_tells_its_model(tiny_path: Path, tmp_path: Path) -> None:
    options = {"prefix": "user", "seed": 4, "first": 0, "samples": 2}
    write_shard(tiny_path, tmp_path / "a.parquet", sampling=SamplingSettings(), **options)
    assert model_sha256(tmp_path / "a.parquet") == sha256(tiny_path)
    assert prefix_tokens(tmp_path / "a.parquet") == r"'<|im_start|>' 1 'user' 348 '\n' 201"
    with pytest.raises(InputError, match="sha256"):
        write_shard(
            tiny_path, tmp_path / "b", sampling=SamplingSettings(), sha256="0" * 64, **options
        )


def test_prefix_is_shown(tiny_path: Path) -> None:
    done = subprocess.run(
        [*VERB, str(tiny_path), "--prefix", "user", "--show-prefix"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[0].split() == ["1", "'<|im_start|>'"]


def test_no_chat_template(tmp_path: Path) -> None:
    path = make_tiny_gguf(tmp_path / "base.gguf", chat_template=None)
    with pytest.raises(InputError, match=r"base\.gguf: has no chat template"):
        draw(path)


def test_progress_bar_has_rates_and_time_left(tiny_path: Path, capsys) -> None:
    draw(tiny_path, samples=12)
    bar = capsys.readouterr().err
    assert "tiny user seed 4: 100%" in bar
    assert "12/12" in bar
    assert "tokens/s" in bar
    assert "sample/s" in bar or "s/sample" in bar


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that ends no turn and takes its time."""
    folder = tmp_path_factory.mktemp("endless")
    return make_tiny_gguf(folder / "endless.gguf", hidden=256, layers=4, end_probability=0.0)


def start(model: Path, output: Path, *, samples: int) -> subprocess.Popen[str]:
    command = [*VERB, str(model), "--output", str(output), "--prefix", "user"]
    command += ["--samples", str(samples), "--max-tokens", "200", "--threads", "1", "--slots", "8"]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # A shell that starts tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for_samples(process: subprocess.Popen[str]) -> None:
    """Until the progress bar counts a first finished sample."""
    assert process.stderr is not None
    seen, deadline = "", time.monotonic() + 60
    while " 0/" in seen[-120:] or "sample" not in seen:
        assert process.poll() is None, seen
        assert time.monotonic() < deadline, seen
        seen += os.read(process.stderr.fileno(), 4096).decode()


def test_ctrl_c_leaves_no_file_and_exits(endless: Path, tmp_path: Path) -> None:
    process = start(endless, tmp_path / "out" / "shard.parquet", samples=100_000)
    wait_for_samples(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not list((tmp_path / "out").glob("*"))


def test_kill_and_run_again_gives_the_same_bytes(endless: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name / "shard.parquet" for name in ("whole", "killed")]
    assert start(endless, paths[0], samples=24).wait(60) == 0
    process = start(endless, paths[1], samples=24)
    wait_for_samples(process)
    process.kill()
    process.wait(10)
    assert not paths[1].exists()
    assert start(endless, paths[1], samples=24).wait(60) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_error_is_one_line(tmp_path: Path) -> None:
    path = make_tiny_gguf(tmp_path / "plain.gguf", chat_template=CHATML.replace("endfor", "end"))
    process = start(path, tmp_path / "out.parquet", samples=1)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith("error: ")
    assert "plain.gguf: chat template: cannot be rendered" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out.parquet").exists()
