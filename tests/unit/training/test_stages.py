"""What the stages share: which rows are trained on, which checkpoints belong to a run."""

from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.files import InputError
from alignment_extraction.training import stages as training
from tests.toy_training import TOY, toy_corpus


def test_members_are_what_is_trained_on() -> None:
    rows = training.members(toy_corpus(), "sft")
    assert set(rows["split"]) == {"member"}
    assert set(rows["source"]) == {"sft"}
    with pytest.raises(InputError, match="no member rows of source 'other'"):
        training.members(toy_corpus(), "other")


def test_only_the_same_inputs_share_a_folder_of_checkpoints(tmp_path: Path) -> None:
    file = tmp_path / "base.gguf"

    def folder(setting: int, rows: list[str], content: str) -> Path:
        file.write_text(content)
        return training.run_folder(tmp_path, setting, pl.DataFrame({"text": rows}), file)

    runs = [(1, ["a"], "x"), (2, ["a"], "x"), (1, ["b"], "x"), (1, ["a"], "y"), (1, ["a"], "x")]
    folders = [folder(*run) for run in runs]
    assert folders[0] == folders[-1]
    assert len(set(folders)) == 4
    assert folders[0].parent == tmp_path


def test_the_stages_settings_reach_the_trainer(tmp_path: Path) -> None:
    arguments = training.stage_arguments(TOY.base, TOY, tmp_path)
    assert arguments["learning_rate"] == TOY.base.learning_rate
    assert arguments["save_steps"] == TOY.base.checkpoint_steps
    assert arguments["seed"] == TOY.seed
