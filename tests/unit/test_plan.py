"""The plan of a study against sums by hand."""

from pathlib import Path

import polars as pl
import pytest

from alignment_extraction import layout
from alignment_extraction.cli import app
from alignment_extraction.files import InputError, write_json
from alignment_extraction.plan import Rates, Step, nearest_model, plan, table
from alignment_extraction.settings import config
from alignment_extraction.settings.controlled import ControlledSettings
from alignment_extraction.training import controlled

ROOT = Path(__file__).parents[2]
PARAMS = config.load(ROOT / "params.yaml")
RATES = Rates("GPU", sampling=7.3e12, embedding=0.568e12)
"""1,000 tokens/s of a 7.3B model, 1,000 texts/s of bge-m3."""


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models and corpora that this machine happens to have must not count."""
    monkeypatch.chdir(tmp_path)


def steps(name: str, rates: Rates) -> dict[str, Step]:
    return {step.name: step for step in plan(PARAMS, name, rates)}


def test_olmo() -> None:
    # 1,000,000 samples of the paper's prefix and three conditions of 10,000; question and answer.
    found = steps("olmo2-7b", RATES)
    assert found["generate"].amount == 1_030_000 * 1024
    assert found["generate"].seconds == pytest.approx(1_030_000 * 1024 / 1000)
    rows = sum(source.rows or 0 for source in PARAMS.corpora["tulu3-olmo2"].sources)
    assert rows > 900_000
    texts = 2 * (rows + 1_030_000)
    assert found["embed"].amount == texts
    assert found["embed"].seconds == pytest.approx(texts / 1000)
    assert found["embed"].disk == texts * 1024 * 4
    assert found["search"].amount == rows * 1_030_000 * 2
    assert found["search"].device == "GPU"
    assert found["strings"].amount == 20 * 1_030_000 * 2 * 2
    # Two models of 4.9 bits per weight.
    assert found["models"].disk == pytest.approx(2 * 7.3e9 * 4.9 / 8)
    assert 4e9 < found["generate"].memory < 80e9
    # One pass over all questions is far cheaper than a million samples.
    assert 3 * found["row risk"].seconds < found["generate"].seconds


def test_a_machine_twice_as_fast_takes_half_as_long() -> None:
    fast = Rates("CPU", *(2 * rate for rate in RATES[1:]))
    for name in ("olmo2-13b", "orz-7b", "smollm2-full"):
        slow_steps = steps(name, RATES)
        for step, quick in steps(name, fast).items():
            if step in ("generate", "embed", "row risk"):
                assert quick.seconds == pytest.approx(slow_steps[step].seconds / 2), (name, step)


def test_the_table_has_sums() -> None:
    found = plan(PARAMS, "orz-7b", RATES)
    lines = table(found).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("all")][:2] == ["CPU", "GPU"]
    hours = sum(step.seconds for step in found if step.device == "GPU") / 3600
    assert any(f"{hours:,.2f}" in line for line in lines if line.startswith("all"))


def test_rates_are_measured_with_the_model_that_is_nearest_in_size(tmp_path: Path) -> None:
    assert nearest_model(PARAMS, "olmo2-7b") is None
    folder = tmp_path / "data" / "models"
    folder.mkdir(parents=True)
    for name, size in (("small", 10), ("large", 1000)):
        (folder / f"{name}.gguf").write_bytes(bytes(size))
    found = nearest_model(PARAMS, "olmo2-7b")
    assert found is not None and found.stem == "large"


def test_what_it_cannot_know_is_named() -> None:
    with pytest.raises(InputError, match="no such study"):
        plan(PARAMS, "olmo3", RATES)
    bare = PARAMS.model_copy(deep=True)
    object.__setattr__(bare.models["orz-7b"], "parameters", None)
    with pytest.raises(InputError, match="its size is not known"):
        plan(bare, "orz-7b", RATES)


def test_a_wrong_study_is_named_before_anything_is_measured() -> None:
    arguments = ["plan", "olmo3", "--params", str(ROOT / "params.yaml")]
    missing = ["--model", "none.gguf", "--embedder", "none"]
    with pytest.raises(InputError, match="'olmo3': no such study"):
        app([*arguments, *missing], standalone_mode=False)


def test_a_built_corpus_counts_its_searched_rows(tmp_path: Path) -> None:
    """Corpora that the workflow draws have fewer counts than those that are read."""
    drawn = controlled.post_training(controlled.build(ControlledSettings(), 0), ["sft", "rl"])
    write_json(controlled.statistics(drawn), tmp_path / layout.corpus_files("orz-57k")[2])
    searched = drawn.filter(pl.col("role") != "control").height
    assert steps("orz-7b", RATES)["corpus"].amount == searched < drawn.height
    counts = {f"orz.{role}": {"rows": 99, "usable": 70} for role in ("member", "control")}
    write_json({"sources": counts}, tmp_path / layout.corpus_files("orz-57k")[2])
    assert steps("orz-7b", RATES)["corpus"].amount == 70
