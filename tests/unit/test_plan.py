"""The plan of a study against sums by hand."""

from pathlib import Path

import pytest

from alignment_extraction.cli import app
from alignment_extraction.files import InputError
from alignment_extraction.machine import Rates
from alignment_extraction.plan import Step, plan, table
from alignment_extraction.settings import config

ROOT = Path(__file__).parents[2]
PARAMS = config.load(ROOT / "params.yaml")
RATES = Rates("GPU", sampling=7.3e12, embedding=0.568e12, products=1e12, pairs=1e6)
"""1,000 tokens/s of a 7.3B model, 1,000 texts/s of bge-m3."""


def steps(name: str, rates: Rates, folder: Path) -> dict[str, Step]:
    return {step.name: step for step in plan(PARAMS, name, rates, folder)}


def test_olmo(tmp_path: Path) -> None:
    # 1,000,000 samples of the paper's prefix and three cells of 10,000, of 512 tokens at most.
    found = steps("olmo2-7b", RATES, tmp_path)
    assert found["generate"].amount == 1_030_000 * 512
    assert found["generate"].jobs == 200 + 3 * 2
    assert found["generate"].hours == pytest.approx(1_030_000 * 512 / 1000 / 3600)
    rows = sum(source.rows or 0 for source in PARAMS.corpora["tulu3-olmo2"].sources)
    assert rows > 900_000
    texts = rows + 1_030_000
    assert found["embed"].amount == texts
    assert found["embed"].hours == pytest.approx(texts / 1000 / 3600)
    assert found["embed"].disk == texts * 1024 * 4
    assert found["search"].amount == rows * 1_030_000
    assert found["search"].device == "GPU"
    # Two models of 4.85 bits a weight.
    assert found["models"].disk == pytest.approx(2 * 7.3e9 * 4.85 / 8)
    assert 4e9 < found["generate"].memory < 80e9


def test_a_machine_twice_as_fast_takes_half_as_long(tmp_path: Path) -> None:
    fast = Rates("CPU", *(2 * rate for rate in RATES[1:]))
    for name in ("olmo2-13b", "orz-7b", "smollm2-full"):
        slow_steps = steps(name, RATES, tmp_path)
        for step, quick in steps(name, fast, tmp_path).items():
            if step in ("generate", "embed", "search", "strings", "likelihood"):
                assert quick.hours == pytest.approx(slow_steps[step].hours / 2), (name, step)


def test_the_table_has_sums(tmp_path: Path) -> None:
    lines = table(plan(PARAMS, "orz-7b", RATES, tmp_path)).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("all")][:2] == ["CPU", "GPU"]
    hours = sum(
        step.hours for step in plan(PARAMS, "orz-7b", RATES, tmp_path) if step.device == "GPU"
    )
    assert any(f"{hours:,.2f}" in line for line in lines if line.startswith("all"))


def test_what_it_cannot_know_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such study"):
        plan(PARAMS, "olmo3", RATES, tmp_path)
    bare = PARAMS.model_copy(deep=True)
    object.__setattr__(bare.models["orz-7b"], "parameters", None)
    with pytest.raises(InputError, match="its size is not known"):
        plan(bare, "orz-7b", RATES, tmp_path)


def test_a_wrong_study_is_named_before_anything_is_measured() -> None:
    arguments = ["plan", "olmo3", "--params", str(ROOT / "params.yaml")]
    missing = ["--model", "none.gguf", "--embedder", "none"]
    with pytest.raises(InputError, match="'olmo3': no such study"):
        app([*arguments, *missing], standalone_mode=False)
