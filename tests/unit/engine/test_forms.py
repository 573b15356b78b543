"""Another form of the same weights: what it is worth, and when it is taken."""

from pathlib import Path

import numpy as np
import pytest

from alignment_extraction.engine.forms import FAST, Form, faster_form, measure, next_token
from alignment_extraction.engine.model import Model
from alignment_extraction.engine.quantisation import quantise
from alignment_extraction.engine.scoring import score
from tests.tiny_models import make_tiny_gguf


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forms")
    return make_tiny_gguf(folder / "f16.gguf", seed=3, hidden=256, half=True)


TEXTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]


def measured(source: Path, **options: float) -> Form:
    with Model(source, threads=1) as model:
        return measure(model, [1, 4], TEXTS, **options)  # type: ignore[arg-type]


def test_a_form_reads_as_it_scores(source: Path) -> None:
    form = measured(source)
    with Model(source, threads=1) as model:
        right = score(model, [([1, 4], text) for text in TEXTS]).sums()
        first = score(model, [([1, 4], [token]) for token in range(50)]).sums()
        assert next_token(model, [1, 4])[:50] == pytest.approx(np.exp(first), rel=1e-4)
        # What ends a turn is as it was.
        assert model.eog
    np.testing.assert_allclose(form.log_likelihoods, right, rtol=1e-5)
    assert form.first.sum() == pytest.approx(1)
    assert min(form.read, form.drawn) > 0
    assert len(measured(source, seconds=0.0).log_likelihoods) == 0


def test_a_form_is_taken_if_it_is_faster_and_the_same(source: Path, tmp_path: Path) -> None:
    form = measured(source)
    slow = form._replace(read=0.0, drawn=0.0)
    found = faster_form(source, slow, [1, 4], TEXTS, samples=100, threads=1)
    assert found is not None
    change = np.abs(found.log_likelihoods - form.log_likelihoods)
    assert 0 < change.max() < 0.5
    # What is in that form already stays as it is.
    quantise(source, tmp_path / "q8.gguf", FAST)
    already = measured(tmp_path / "q8.gguf")._replace(read=0.0, drawn=0.0)
    assert faster_form(tmp_path / "q8.gguf", already, [1, 4], TEXTS, threads=1) is None
    fast = form._replace(drawn=1e12)
    assert faster_form(source, fast, [1, 4], TEXTS, threads=1) is None
    # So many samples could tell the two apart.
    assert faster_form(source, slow, [1, 4], TEXTS, samples=10**12, threads=1) is None
