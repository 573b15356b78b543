"""params.yaml: every mistake is one line that names the key; the shipped file is valid."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_extraction.files import InputError
from alignment_extraction.settings import config

ROOT = Path(__file__).parents[3]
VALUES = yaml.safe_load((ROOT / "params.yaml").read_text())


def changed(path: str, value: Any) -> dict[str, Any]:
    """The shipped values with one key set (or removed, for `...`)."""
    values = copy.deepcopy(VALUES)
    at: Any = values
    *parents, last = path.split("/")
    for key in parents:
        at = at[int(key) if isinstance(at, list) else key]
    if value is ...:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return values


def test_shipped_params_are_valid() -> None:
    params = config.load(ROOT / "params.yaml")
    assert params.run == ("controlled",)
    assert params.studies["smollm2"].prefix_names == ("full", "user", "bos")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("sede", 1, "sede: unknown key"),
        (
            "studies/smollm2/sampling/tempreature",
            1,
            "studies.smollm2.sampling.tempreature: unknown",
        ),
        ("seed", "three", "seed: Input should be a valid integer"),
        ("seed", -1, "seed: Input should be greater than or equal to 0"),
        ("run", ["nothing"], "run.0: 'nothing' is not in `studies`"),
        ("run", [], "run: "),
        ("studies/smollm2/models", ["gpt"], "studies.smollm2.models.0: 'gpt' is not in `models`"),
        ("studies/smollm2/corpus", "x", "studies.smollm2.corpus: 'x' is not in `corpora`"),
        ("studies/smollm2/embedder", "x", "studies.smollm2.embedder: 'x' is not in `embedders`"),
        ("studies/smollm2/title", ..., "studies.smollm2.title: missing"),
        ("studies/smollm2/prefixes", ["user", "user"], "two prefixes have one name"),
        ("studies/smollm2/prefixes", ["usr"], "studies.smollm2.prefixes.0"),
        (
            "studies/smollm2/thresholds",
            {"embedding": 1.5},
            "studies.smollm2.thresholds.embedding: Input should be less than or equal to 1",
        ),
        (
            "studies/smollm2/thresholds",
            {"string": -1.01},
            "studies.smollm2.thresholds.string: Input should be greater than or equal to -1",
        ),
        ("studies/smollm2/parts", ["answer"], "parts: `answer` needs `sampling.answer: true`"),
        ("models/smollm2", {}, "models.smollm2: give either `source` (with its sha256) or `tr"),
        ("models/smollm2/source/sha256", ..., "models.smollm2.source.sha256: missing"),
        ("models/smollm2/source/sha256", "abc", "models.smollm2.source.sha256"),
        ("models/smollm2/quantisation", "Q8_0", "`quantisation` applies to `trained` models only"),
        ("models/Bad Name", {"trained": "sft"}, "not 'Bad Name'"),
        ("corpora/controlled/controlled", False, "give either `sources` or `controlled: true`"),
        (
            "studies/controlled/likelihood/0/after",
            "x",
            "likelihood.0.after: 'x' is not in `models`",
        ),
        ("studies/controlled/overrides/0/models", ["x"], "overrides.0.models: 'x' is not in"),
        ("studies/controlled/overrides/0/prefixes", ["x"], "overrides.0.prefixes: 'x' is not in"),
        (
            "studies/controlled/overrides/0/sampling",
            {"sample": 3},
            "overrides.0.sampling.sample: unknown key",
        ),
        ("train", {"rl": {"generations": 7}}, "train.rl: batch_size = 64 is not a multiple"),
        ("controlled", {"sft_templates": 0}, "controlled.sft_templates"),
    ],
)
def test_mistakes_are_one_line_that_names_the_key(path: str, value: Any, says: str) -> None:
    with pytest.raises(InputError) as error:
        config.validate(changed(path, value))
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("params.yaml: ")
    assert says in message


def test_two_sources_of_one_name() -> None:
    sources = VALUES["corpora"]["published"]["sources"]
    with pytest.raises(InputError, match=r"corpora.published: two sources have one name"):
        config.validate(changed("corpora/published/sources", [sources[0], sources[0]]))


def test_more_mistakes_are_counted() -> None:
    values = changed("sede", 1) | {"seed": "x"}
    with pytest.raises(InputError, match=r"\(1 more after this one\)"):
        config.validate(values)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_a_study_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "studies:\n  a: {}\n  b: {}\n  a: {}\n")
    with pytest.raises(InputError, match=r"line 4: 'a' is given twice"):
        config.load(path)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        config.load(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="not valid YAML"):
        config.load(write(tmp_path, "a: [1"))
    with pytest.raises(InputError, match=r"params\.yaml: "):
        config.load(write(tmp_path, "just text"))


def test_cells_and_overrides() -> None:
    study = config.load(ROOT / "params.yaml").studies["controlled"]
    cells = list(study.cells())
    assert len(cells) == len(study.models) * len(study.prefixes) + 5  # extra cells
    headline = config.Cell("sft-q8", "user", 0)
    assert study.cell_sampling(headline).samples == 10_000
    assert study.cell_sampling(config.Cell("sft-q8", "full", 0)).samples == 500


def test_literal_prefix() -> None:
    literal = {"name": "paper", "text": "<|user|>"}
    params = config.validate(changed("studies/smollm2/prefixes", ["user", literal]))
    study = params.studies["smollm2"]
    assert study.prefix_names == ("user", "paper")
    assert study.prefix_text("paper") == "<|user|>"
    assert study.prefix_text("user") is None


def test_groups() -> None:
    params = config.load(ROOT / "params.yaml")
    assert params.corpora["reasoning-gym"].groups == ("reasoning-gym",)
    assert "sft.held-out-template" in params.corpora["controlled"].groups


STUDY = {"title": "x", "models": ["a"], "corpus": "c", "embedder": "e", "prefixes": ["user", "bos"]}


def test_extra_cells_come_last_and_leave_the_others_as_they_are() -> None:
    plain = config.StudySettings.model_validate({**STUDY, "sampling": {"samples": 10}})
    extra = [
        {"models": ["b"], "prefixes": ["user"], "sampling": {"samples": 3}},
        {"models": ["a"], "prefixes": ["user"], "name": "t0.7", "sampling": {"temperature": 0.7}},
    ]
    override = {"models": ["a"], "prefixes": ["user"], "sampling": {"samples": 99}}
    study = config.StudySettings.model_validate(
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
    assert cells[2:] == [config.Cell("b", "user", 0), config.Cell("a", "user-t0.7", 0)]
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
        config.StudySettings.model_validate({**STUDY, "extra_cells": [extra]})


def test_controls_are_of_the_study() -> None:
    with pytest.raises(ValueError, match=r"controls\.models\.0: .b. is in no cell"):
        config.StudySettings.model_validate({**STUDY, "controls": {"models": ["b"]}})


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("studies/smollm2/controls", {"corpus": "x"}, "controls.corpus: 'x' is not in `corpora`"),
        ("studies/smollm2/second_embedder", {"embedder": "x"}, "'x' is not in `embedders`"),
        ("studies/smollm2/contamination", {"groups": ["x"]}, "groups.0: 'x' is not in `groups`"),
        ("studies/smollm2/contamination", {}, "give `sources` or `groups`"),
        ("embedders/minilm/tokenizer", "x", "embedders.minilm.tokenizer: 'x' is not in"),
    ],
)
def test_mistakes_beside_the_rates(path: str, value: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        config.validate(changed(path, value))
