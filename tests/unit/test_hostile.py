"""What must not leave its place: secrets stay out of messages, names stay inside of folders."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from alignment_extraction.files import InputError, without_credentials, write_parquet
from alignment_extraction.settings.config import Name
from alignment_extraction.tracking.record import find_run
from alignment_extraction.vocabulary import CORPUS as SCHEMA
from tests.tiny_models import make_tiny_gguf

ROOT = Path(__file__).resolve().parents[2]
WORD = st.text("abcdefghijklmnop0123456789-._~%", min_size=4, max_size=12)


@given(WORD, WORD, WORD)
def test_addresses_lose_their_credentials(user: str, password: str, token: str) -> None:
    text = f"cannot reach https://u{user}:s{password}@host.example/a?token=t{token} (refused)"
    shown = without_credentials(text)
    assert shown == "cannot reach https://host.example/a (refused)"


def test_a_tracking_server_that_is_down_does_not_show_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    with pytest.raises(InputError, match=r"MLflow at http://127\.0\.0\.1:9 ") as caught:
        find_run("some/run")
    assert "hunter2" not in str(caught.value)


def test_neither_the_mirrors_password_nor_the_token_is_shown(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from alignment_extraction.cli import main; main()"),
            *("audit", "hf:a/b:m"),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "HF_ENDPOINT": "http://me:hunter2@127.0.0.1:9",
            "HF_TOKEN": "hf_secret",
            "HF_HOME": str(tmp_path),
            "HF_HUB_OFFLINE": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert "hf_secret" not in done.stderr + done.stdout


@given(st.text() | st.from_regex(r"\A[a-z0-9./\\\n-]{1,12}\Z"))
def test_a_name_stays_in_its_folder(text: str) -> None:
    """Names of studies, models, prefixes and the rest become parts of paths of outputs."""
    try:
        name = TypeAdapter(Name).validate_python(text)
    except ValidationError:
        return
    folder = Path("/project/results").resolve()
    assert (folder / name).resolve().parent == folder
    assert name == name.strip()
    assert not name.startswith((".", "-"))


@pytest.mark.parametrize("verb", ["generate", "likelihood"])
def test_weights_that_are_no_numbers_are_one_line(tmp_path: Path, verb: str) -> None:
    model = make_tiny_gguf(tmp_path / "nan.gguf")
    data = bytearray(model.read_bytes())
    data[-4096:] = b"\xff" * 4096
    model.write_bytes(data)
    output = tmp_path / "out.parquet"
    row = {"id": "a/0", "source": "a", "role": "member", "question": "What is it?"}
    write_parquet(pl.DataFrame([row], schema=SCHEMA), tmp_path / "corpus.parquet")
    arguments = {
        "generate": [str(model), "--prefix", "user", "--samples", "2"],
        "likelihood": [
            *(str(model), "--corpus", str(tmp_path / "corpus.parquet")),
        ],
    }[verb]
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from alignment_extraction.cli import main; main()"),
            *(verb, *arguments, "--output", str(output)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "hold a NaN or an infinity: its weights are damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert not output.exists()
