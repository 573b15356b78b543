"""Likelihoods by a server's `prompt_logprobs` are those of the same model in this process."""

import numpy as np
import polars as pl

from alignment_extraction.engine.model import Model
from alignment_extraction.likelihoods.likelihood import SCHEMA, likelihood, write_likelihood
from alignment_extraction.settings.studies import LiteralPrefix
from tests.completions import Fake

HEADER = "<|im_end|>\n<|im_start|>assistant\n"
CORPUS = pl.DataFrame(
    {
        "id": list("abc"),
        "question": ["What is the sum of 3 and 4?", "Zoë 😀", "word " * 600],
        "answer": ["7", None, ""],
    }
)


def test_as_in_this_process(tiny: Model, tmp_path) -> None:
    prefix = LiteralPrefix(name="m", text="<|im_start|>user\n", end=HEADER)
    with Fake(tiny).running() as fake:
        model = (fake.url, "tiny")
        write_likelihood(model, CORPUS, tmp_path / "a.parquet", prefix=prefix, threads=1)
    found = pl.read_parquet(tmp_path / "a.parquet")
    own = likelihood(tiny.path, CORPUS, prefix=prefix, threads=1).filter("template")
    assert found.schema == SCHEMA
    assert pl.read_parquet_metadata(tmp_path / "a.parquet")["model"] == f"tiny at {fake.url}"
    same = ["id", "target", "template", "prefix", "zlib_bytes"]
    assert found.select(same).equals(own.select(same))
    fits = own["log_probability"].is_not_null()
    assert found.filter(fits)["tokens"].equals(own.filter(fits)["tokens"])
    for name in ("log_probability", "end", "min_k"):
        assert (found[name].is_null() == own[name].is_null()).all(), name
        np.testing.assert_allclose(found[name], own[name], atol=1e-3)
    assert found["min_k_plus_plus"].null_count() == found.height
