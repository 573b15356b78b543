"""Loading GGUF files, their vocabulary, and what goes wrong with them."""

import struct
from pathlib import Path

import gguf
import pytest

from alignment_extraction.engine.context import Context
from alignment_extraction.engine.model import Model, probe, require_same_vocabulary
from alignment_extraction.files import InputError
from tests.tiny_models import CHATML, END_OF_TEXT, END_OF_TURN, START_OF_TURN, make_tiny_gguf


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="module")
def model(path: Path):
    with Model(path, threads=1) as model:
        yield model


def test_metadata(model: Model) -> None:
    assert model.n_vocab == 512
    assert model.n_ctx_train == 512
    assert model.chat_template == CHATML
    assert model.bos == START_OF_TURN
    assert model.eos == END_OF_TURN
    assert not model.add_bos
    assert model.eog == {END_OF_TURN, END_OF_TEXT}
    assert model.forgets


def test_no_chat_template(tmp_path: Path) -> None:
    with Model(make_tiny_gguf(tmp_path / "base.gguf", chat_template=None)) as model:
        assert model.chat_template is None


@pytest.mark.parametrize(
    "text", ["", "plain", " leading space", "Zoë 😀👩‍👩‍👧 世界 한국어 עברית", "a\x00b", "\n\n\t "]
)
def test_round_trip(model: Model, text: str) -> None:
    assert model.detokenize(model.tokenize(text)) == text


def test_characters_split_over_tokens_are_put_together(model: Model) -> None:
    tokens = model.tokenize("世😀")
    assert len(tokens) > 2  # the vocabulary has neither, so each is bytes
    assert model.detokenize(tokens) == "世😀"
    assert model.detokenize(tokens[:-1]) == "世\ufffd"


def test_special_tokens_are_one_token_and_never_leak(model: Model) -> None:
    tokens = model.tokenize("<|im_start|>user\nHi<|im_end|><|endoftext|>")
    assert tokens[0] == START_OF_TURN
    assert tokens[-2:] == [END_OF_TURN, END_OF_TEXT]
    assert model.detokenize(tokens) == "user\nHi"
    assert model.piece(START_OF_TURN) == "<|im_start|>"


def test_special_tokens_can_stay_plain_text(model: Model) -> None:
    tokens = model.tokenize("<|im_end|>", special=False)
    assert END_OF_TURN not in tokens
    assert model.detokenize(tokens) == "<|im_end|>"


def test_lone_surrogate_does_not_crash(model: Model) -> None:
    assert model.detokenize(model.tokenize("a\ud800b")) == "a?b"


def test_vocabulary(model: Model, tmp_path: Path) -> None:
    with Model(make_tiny_gguf(tmp_path / "b.gguf", seed=1)) as other:
        require_same_vocabulary(model, other)
    with (
        Model(make_tiny_gguf(tmp_path / "c.gguf", vocab=600)) as other,
        pytest.raises(InputError, match=r"c\.gguf have different vocabularies \(512 and 600"),
    ):
        require_same_vocabulary(model, other)


def test_close_twice(path: Path) -> None:
    model = Model(path)
    model.close()
    model.close()
    with pytest.raises(InputError, match="cannot make a context"):
        Context(model, sequences=1, positions=256, batch=8, outputs=8)


def test_no_threads(path: Path) -> None:
    with pytest.raises(InputError, match="threads must be at least 1, not 0"):
        Model(path, threads=0)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.gguf: no such file"):
        Model(tmp_path / "none.gguf")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not readable"):
        Model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"GGU", b"PK\x03\x04" + b"\0" * 100, b"{}"])
def test_not_a_gguf(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.gguf: not a GGUF file"):
        Model(tmp_path / "x.gguf")


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.01, 0.02, 0.1, 0.5, 0.9, 0.9999])
def test_truncated(path: Path, tmp_path: Path, share: float) -> None:
    data = path.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[: 4 + int(share * (len(data) - 4))])
    with pytest.raises(InputError, match=r"cut\.gguf: "):
        Model(tmp_path / "cut.gguf")


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (4, struct.pack("<I", 1), "GGUF version 1"),
        (4, struct.pack("<I", 99), "GGUF version 99"),
        (8, struct.pack("<Q", 2**62), "more than"),
        (8, struct.pack("<Q", 5), "cannot load"),
        (16, struct.pack("<Q", 2**63), "more than"),
        (16, struct.pack("<Q", 1), "cannot load"),
        (24, struct.pack("<Q", 2**60), "cannot load"),
    ],
)
def test_damaged_header(
    path: Path, tmp_path: Path, offset: int, value: bytes, message: str
) -> None:
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    (tmp_path / "bad.gguf").write_bytes(data)
    with pytest.raises(InputError, match=rf"bad\.gguf: .*{message}"):
        Model(tmp_path / "bad.gguf")


def test_unknown_architecture(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "odd.gguf"), "perceptron")
    writer.add_context_length(8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        InputError, match=r"odd\.gguf: llama\.cpp cannot load .*unknown model arch.*perceptron"
    ):
        Model(tmp_path / "odd.gguf")


def test_nothing_on_stderr(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Model(path).close()
    assert capfd.readouterr().err == ""


def test_a_chat_template_that_is_not_text(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    assert b"{% for" in data
    (tmp_path / "odd.gguf").write_bytes(data.replace(b"{% for", b"\xff% for", 1))
    with pytest.raises(InputError, match=r"odd\.gguf: its chat template is not UTF-8"):
        Model(tmp_path / "odd.gguf")


def test_a_model_that_llama_cpp_dies_of_is_refused(path: Path, tmp_path: Path) -> None:
    """llama.cpp aborts where two tokens of a vocabulary are the same."""
    probe(path)
    data = path.read_bytes()
    first, second = (len(c).to_bytes(8, "little") + c for c in (b"%", b"&"))
    assert data.count(first + second) == 1
    (tmp_path / "twice.gguf").write_bytes(data.replace(first + second, first + first))
    with pytest.raises(InputError, match=r"twice\.gguf: llama.cpp dies of this model \(SIGABRT"):
        probe(tmp_path / "twice.gguf")
    with pytest.raises(InputError, match="no such file"):
        probe(tmp_path / "none.gguf")
