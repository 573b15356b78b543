"""Forms of the same weights: what each changes, by other ways of counting it."""

from pathlib import Path

import numpy as np
import pytest

from alignment_extraction.engine import quantisation as module
from alignment_extraction.engine.model import Model
from alignment_extraction.engine.quantisation import Form, fastest, measure, next_token, quantise
from alignment_extraction.engine.sampling import sample
from alignment_extraction.engine.scoring import score
from alignment_extraction.files import InputError
from tests.tiny_models import make_tiny_gguf


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model in F16, Q4_0, Q8_0, and Q8_0 made of the Q4_0."""
    folder = tmp_path_factory.mktemp("forms")
    made = {"F16": make_tiny_gguf(folder / "f16.gguf", seed=3, hidden=128, half=True)}
    for name, source, kind in (
        ("Q4_0", "F16", "Q4_0"),
        ("Q8_0", "F16", "Q8_0"),
        ("Q8_0 of Q4_0", "Q4_0", "Q8_0"),
    ):
        made[name] = folder / f"{name}.gguf"
        quantise(made[source], made[name], kind, threads=1)
    return made


@pytest.fixture(scope="module")
def prefix(files: dict[str, Path]) -> list[int]:
    with Model(files["F16"], threads=1) as model:
        return model.tokenize("<|im_start|>user\n")


def test_a_finer_form_changes_less(files: dict[str, Path], prefix: list[int]) -> None:
    forms = measure([files[name] for name in ("F16", "Q8_0", "Q4_0")], prefix, study=64, threads=1)
    exact, fine, coarse = forms
    assert (exact.mean_change, exact.largest_change, exact.first_token) == (0, 0, 0)
    assert 0 < fine.mean_change < 0.1 * coarse.mean_change
    assert fine.mean_change < fine.largest_change < coarse.largest_change
    assert 0 < fine.first_token < coarse.first_token < 1
    assert all(form.tokens_per_second > 0 for form in forms)


def test_a_file_quantised_again_is_still_the_same_model(
    files: dict[str, Path], prefix: list[int]
) -> None:
    coarse, again = measure([files["Q4_0"], files["Q8_0 of Q4_0"]], prefix, study=64, threads=1)
    from_exact = measure([files["F16"], files["Q4_0"]], prefix, study=64, threads=1)[1]
    # Both compute with inputs in 8 bits, which costs more than the rounding of the weights.
    assert again.mean_change < 0.3 * from_exact.mean_change
    assert again.first_token < coarse.noise


def test_changes_are_those_of_the_first_files_own_samples(
    files: dict[str, Path], prefix: list[int]
) -> None:
    exact, found = measure(
        [files["F16"], files["Q4_0"]], prefix, study=30, samples=8, max_tokens=5, seed=4, threads=1
    )
    with Model(files["F16"], threads=1) as first, Model(files["Q4_0"], threads=1) as other:
        eog, first.eog = first.eog, frozenset()
        texts = sample(first, prefix, 8, seed=4, max_tokens=5)["question_tokens"].to_list()
        first.eog = eog
        # Token by token, each with the whole text before it as its context.
        changes = []
        for text in texts:
            for i, token in enumerate(text):
                context = [*prefix, *text[:i]]
                changes.append(
                    abs(
                        np.log(
                            next_token(first, context)[token] / next_token(other, context)[token]
                        )
                    )
                )
        distance = np.abs(next_token(first, prefix) - next_token(other, prefix)).sum() / 2
    assert len(changes) == 40
    assert found.mean_change == pytest.approx(np.mean(changes), rel=1e-3)
    assert found.largest_change == pytest.approx(np.max(changes), rel=1e-3)
    assert found.first_token == pytest.approx(distance, rel=1e-6)
    # The noise of thirty draws, by drawing.
    with Model(files["F16"], threads=1) as first:
        p = next_token(first, prefix)
    draws = np.random.default_rng(0).multinomial(30, p, size=4000) / 30
    assert exact.noise == pytest.approx(np.abs(draws - p).sum(axis=1).mean() / 2, rel=0.1)


def test_next_token_is_what_scoring_gives(files: dict[str, Path], prefix: list[int]) -> None:
    with Model(files["F16"], threads=1) as model:
        found = next_token(model, prefix)
        scores = score(model, [(prefix, [token]) for token in range(50)]).log_probabilities
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.log(found[:50]), scores, atol=1e-4)


def test_the_fastest_is_one_that_a_sample_cannot_tell_apart() -> None:
    def form(name: str, rate: float, distance: float) -> Form:
        return Form(Path(name), rate, 0.0, 0.0, distance, 0.2)

    forms = [form("own", 100, 0), form("same", 200, 0.1), form("other", 900, 0.3)]
    assert fastest(forms).path == Path("same")
    assert fastest(forms[::2]).path == Path("own")


def test_forms_of_other_models_are_refused(
    files: dict[str, Path], prefix: list[int], tmp_path: Path
) -> None:
    other = make_tiny_gguf(tmp_path / "other.gguf", vocab=600)
    with pytest.raises(InputError, match="different vocabularies"):
        measure([files["F16"], other], prefix, study=64, threads=1)


def test_quantising_again_gives_the_same_bytes(files: dict[str, Path], tmp_path: Path) -> None:
    quantise(files["Q4_0"], tmp_path / "again.gguf", "Q8_0", threads=2)
    assert (tmp_path / "again.gguf").read_bytes() == files["Q8_0 of Q4_0"].read_bytes()
    assert set(module.FTYPES) > {"F16", "Q8_0", "Q4_K_M"}
