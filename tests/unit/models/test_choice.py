"""Which file of a repository or folder is the model, by a stated rule; commands that help."""

import pytest

from alignment_extraction.files import InputError
from alignment_extraction.models.choice import choose_gguf, folder_refusal, hub_model


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["m-f16.gguf", "m-q4_k_m.gguf", "m-q8_0.gguf", "README.md"], "m-q8_0.gguf"),
        (["M.Q6_K.gguf", "M.Q4_K_M.gguf", "M.F16.gguf"], "M.Q6_K.gguf"),
        (["M.Q5_K_M.gguf", "M.Q5_K_S.gguf", "M.Q4_0.gguf"], "M.Q5_K_M.gguf"),
        (["M-Q4_K_M.gguf", "M-IQ4_XS.gguf", "M-Q3_K_L.gguf"], "M-Q4_K_M.gguf"),
        (["M-BF16.gguf", "M-F16.gguf", "M-Q2_K.gguf"], "M-F16.gguf"),
        (["model.gguf"], "model.gguf"),
        (["M-IQ2_XS.gguf"], "M-IQ2_XS.gguf"),
        (["M-Q8_0.gguf", "mmproj-M-Q8_0.gguf", "M.imatrix.gguf"], "M-Q8_0.gguf"),
        (
            ["Q8_0/M-Q8_0-00002-of-00002.gguf", "Q8_0/M-Q8_0-00001-of-00002.gguf", "M-Q2_K.gguf"],
            "Q8_0/M-Q8_0-00001-of-00002.gguf",
        ),
    ],
)
def test_eight_bits_come_first(names: list[str], chosen: str) -> None:
    assert choose_gguf("owner/name", names) == chosen
    assert choose_gguf("owner/name", names[::-1]) == chosen


def test_several_models_of_one_kind() -> None:
    with pytest.raises(InputError) as error:
        choose_gguf("owner/name", ["a-1b-Q8_0.gguf", "a-7b-Q8_0.gguf", "x-Q2_K.gguf"])
    assert str(error.value) == (
        "hf:owner/name: several models (a-1b-Q8_0.gguf, a-7b-Q8_0.gguf); name one, as in "
        "hf:owner/name:a-1b-Q8_0.gguf"
    )
    with pytest.raises(InputError, match=r"several models \(a.gguf, b.gguf\)"):
        choose_gguf("owner/name", ["a.gguf", "b.gguf"])


def test_repositories_without_a_gguf() -> None:
    with pytest.raises(InputError) as error:
        choose_gguf("owner/Name 2", ["config.json", "model.safetensors"])
    assert str(error.value) == (
        "hf:owner/Name 2: a model of transformers; convert it with llama.cpp and give the result: "
        "git clone https://github.com/ggml-org/llama.cpp && python llama.cpp/convert_hf_to_gguf.py "
        "--remote 'owner/Name 2' --outtype q8_0 --outfile Name-2-Q8_0.gguf"
    )
    with pytest.raises(InputError, match="hf download owner/lora --local-dir lora && python llama"):
        choose_gguf("owner/lora", ["adapter_config.json", "adapter_model.safetensors"])
    with pytest.raises(InputError, match="hf:owner/name: no GGUF file in it and no model of"):
        choose_gguf("owner/name", ["README.md", "mmproj.gguf"])


def test_folders() -> None:
    says = folder_refusal("/my models/it's", ["config.json"])
    assert says.endswith(
        "python llama.cpp/convert_hf_to_gguf.py '/my models/it'\"'\"'s' --outtype q8_0 "
        "--outfile it-s-Q8_0.gguf"
    )
    says = folder_refusal("lora", ["adapter_config.json", "config.json"])
    assert says.startswith("lora: a LoRA adapter of PEFT; convert it with llama.cpp and give the")
    assert says.endswith("python llama.cpp/convert_lora_to_gguf.py lora --outfile lora-lora.gguf")


def test_ids() -> None:
    assert hub_model("hf:owner/name") == ("owner/name", None, "main")
    assert hub_model("hf:a/b:sub/x.gguf@v1") == ("a/b", "sub/x.gguf", "v1")
    assert hub_model("hf:a/b@v1") == ("a/b", None, "v1")
    for text in ("hf:a", "hf:a/b/c", "hf:../b", "hf:a/b@../x", "hf:a/b:"):
        with pytest.raises(InputError, match="not a model of the hub; write hf:owner/name, hf:own"):
            hub_model(text)
