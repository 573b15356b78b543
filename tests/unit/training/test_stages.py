"""What the stages share: which rows are trained on, which checkpoints belong to a run."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import polars as pl
import pytest

from alignment_extraction.files import InputError
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.training import fitting, stages
from alignment_extraction.training.fitting import Run
from tests.toy_training import TOY, toy_corpus


def test_members_are_what_is_trained_on() -> None:
    rows = stages.members(toy_corpus(), "sft")
    assert set(rows["role"]) == {"member"}
    assert set(rows["source"]) == {"sft"}
    with pytest.raises(InputError, match="no member rows of source 'other'"):
        stages.members(toy_corpus(), "other")


def test_stages_start_from_earlier_ones_and_know_what_they_saw() -> None:
    names = list(stages.STAGES)
    for place, stage in enumerate(stages.STAGES.values()):
        assert stage.starts_from is None or stage.starts_from in names[:place]
        assert set(stage.sections) <= set(TOY.model_dump())
        assert not toy_corpus().filter(source=stage.source, role="member").is_empty()
    repeats = [stage for stage in stages.STAGES.values() if stage.repeat]
    assert len(repeats) == 12 and {stage.starts_from for stage in repeats} == {"base"}
    for stage in repeats:
        first = stages.STAGES[stage.name.removesuffix(f"-seed{stage.repeat}")]
        assert stage == first._replace(name=stage.name, repeat=stage.repeat)
    assert stages.STAGES["base"].trained_on == ("pretraining",)
    assert stages.STAGES["sft"].trained_on == ("pretraining", "sft")
    assert stages.STAGES["rl-prompt-loss"].trained_on == ("pretraining", "rl")


def test_a_repeat_has_another_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def run(settings: TrainingSettings, *_: object) -> None:
        seeds.append(settings.seed)
        raise InterruptedError

    monkeypatch.setattr(fitting, "Run", run)
    given = TOY.model_copy(update={"seed": 5})
    for name in ("rl", "rl-seed1", "sft-on-prompts-seed2"):
        with pytest.raises(InterruptedError):
            stages.train(name, toy_corpus(), tmp_path, given, tmp_path)
    assert seeds == [5, 6, 7]


def test_the_list_of_stages_is_light() -> None:
    code = "import alignment_extraction.training.stages, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_only_the_same_inputs_share_a_folder_of_checkpoints(tmp_path: Path) -> None:
    start = tmp_path / "base.gguf"

    def folder(seed: int, rows: list[str], content: str, stage: str = "rl") -> Path:
        start.write_text(content)
        settings = TOY.model_copy(update={"seed": seed})
        own = Run(settings, start, start, tmp_path / "new.gguf", tmp_path)
        return own.folder(pl.DataFrame({"text": rows}), stage)

    runs = [(1, ["a"], "x"), (2, ["a"], "x"), (1, ["b"], "x"), (1, ["a"], "y"), (1, ["a"], "x")]
    folders = [folder(*run) for run in runs] + [folder(1, ["a"], "x", "other")]
    assert folders[0] == folders[4]
    assert len(set(folders)) == 5
    assert folders[0].parent == tmp_path


def test_the_stages_settings_reach_the_trainer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").touch()
    run = Run(TOY, tmp_path / "tokenizer.json", None, tmp_path / "new.gguf", tmp_path)
    arguments = run.arguments(TOY.base)
    assert arguments["learning_rate"] == TOY.base.learning_rate
    assert arguments["save_steps"] == TOY.base.checkpoint_steps
    assert arguments["seed"] == TOY.seed
    assert run.beside("curves") == tmp_path / "new-curves.parquet"


class _Trainer:
    """What `fit` needs of a trainer: it notes whether it was told to go on."""

    class state:  # noqa: N801
        log_history: ClassVar = [{"loss": 1.0, "step": 1}]

    def __init__(self, folder: Path) -> None:
        self.args = SimpleNamespace(output_dir=str(folder))

    def train(self, *, resume_from_checkpoint: bool) -> None:
        self.resumed = resume_from_checkpoint


@pytest.mark.parametrize("content", [None, "", '{"global_step": 2'])
def test_a_checkpoint_that_was_cut_off_is_not_gone_on_from(
    tmp_path: Path, content: str | None
) -> None:
    folder = tmp_path / "run"
    whole, cut_off = folder / "checkpoint-2", folder / "checkpoint-4"
    for checkpoint in (whole, cut_off):
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.safetensors").write_text("weights")
    (whole / "trainer_state.json").write_text("{}")
    if content is not None:
        (cut_off / "trainer_state.json").write_text(content)
    kept: list[str] = []
    trainer = _Trainer(folder)
    trainer.train = lambda *, resume_from_checkpoint: kept.extend(  # type: ignore[method-assign]
        [*sorted(path.name for path in folder.iterdir()), str(resume_from_checkpoint)]
    )
    fitting.fit(trainer)
    assert kept == ["checkpoint-2", "True"]
    assert list(tmp_path.iterdir()) == []


def test_training_starts_anew_if_no_checkpoint_is_whole(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoint-4").mkdir(parents=True)
    trainer = _Trainer(tmp_path / "run")
    fitting.fit(trainer)
    assert trainer.resumed is False
