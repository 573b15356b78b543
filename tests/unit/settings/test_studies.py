"""Studies: which cells they sample, and mistakes in them."""

from pathlib import Path
from typing import Any

import pytest

from alignment_extraction.settings import config
from alignment_extraction.settings.studies import Cell, StudySettings

ROOT = Path(__file__).parents[3]
STUDY = {"title": "x", "models": ["a"], "corpus": "c", "embedder": "e", "prefixes": ["user", "bos"]}


def test_cells_and_overrides() -> None:
    study = config.load(ROOT / "params.yaml").studies["controlled"]
    cells = list(study.cells())
    assert len(cells) == len(study.models) * len(study.prefixes) + 5  # extra cells
    headline = Cell("sft-q8", "user", 0)
    assert study.cell_sampling(headline).samples == 10_000
    assert study.cell_sampling(Cell("sft-q8", "full", 0)).samples == 500


def test_extra_cells_come_last_and_leave_the_others_as_they_are() -> None:
    plain = StudySettings.model_validate({**STUDY, "sampling": {"samples": 10}})
    extra = [
        {"models": ["b"], "prefixes": ["user"], "sampling": {"samples": 3}},
        {"models": ["a"], "prefixes": ["user"], "name": "t0.7", "sampling": {"temperature": 0.7}},
    ]
    override = {"models": ["a"], "prefixes": ["user"], "sampling": {"samples": 99}}
    study = StudySettings.model_validate(
        {
            **STUDY,
            "sampling": {"samples": 10},
            "overrides": [override],
            "extra_cells": extra,
            "controls": {"models": ["b"]},
        }
    )
    cells = list(study.cells())
    assert cells[:2] == list(plain.cells())
    assert cells[2:] == [Cell("b", "user", 0), Cell("a", "user-t0.7", 0)]
    assert study.sampled_models == ("a", "b")
    assert [study.template_prefix(cell.prefix) for cell in cells] == ["user", "bos", "user", "user"]
    assert study.prefix_text("user-t0.7") is None
    # Overrides are of the grid alone.
    assert [study.cell_sampling(cell).samples for cell in cells] == [99, 10, 3, 10]
    assert [study.cell_sampling(cell).temperature for cell in cells] == [1, 1, 1, 0.7]
    assert study.most_sampled() == cells[:1]


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"models": ["a"], "prefixes": ["user"]}, "a at prefix user is there already"),
        ({"models": ["b"], "prefixes": ["full"]}, "'full' is not in `prefixes`"),
        ({"models": ["b"], "prefixes": ["user"], "sampling": {"x": 1}}, "sampling.x: unknown key"),
    ],
)
def test_mistakes_in_extra_cells(extra: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        StudySettings.model_validate({**STUDY, "extra_cells": [extra]})


def test_controls_are_of_the_study() -> None:
    with pytest.raises(ValueError, match=r"controls\.models\.0: .b. is in no cell"):
        StudySettings.model_validate({**STUDY, "controls": {"models": ["b"]}})
