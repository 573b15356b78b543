"""params.yaml: every mistake is one line that names the key; the shipped file is valid."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_extraction.files import InputError
from alignment_extraction.settings import config
from alignment_extraction.settings.config import ModelSettings
from alignment_extraction.settings.studies import LiteralPrefix

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
    assert params.studies["smollm2-published"].prefix_names == ("full", "user", "bos")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("sede", 1, "sede: unknown key"),
        (
            "studies/smollm2-published/sampling/tempreature",
            1,
            "studies.smollm2-published.sampling.tempreature: unknown",
        ),
        ("seed", "three", "seed: Input should be a valid integer"),
        ("seed", -1, "seed: Input should be greater than or equal to 0"),
        (
            "models/sft-f16",
            {"endpoint": "http://127.0.0.1/v1", "model": "m"},
            "'sft-f16' is served, so its prefix 'user' has to be a literal {name, text, end}",
        ),
        ("run", ["nothing"], "run.0: 'nothing' is not in `studies`"),
        ("run", [], "run: "),
        (
            "studies/smollm2-published/models",
            ["gpt"],
            "studies.smollm2-published.models.0: 'gpt' is not in `models`",
        ),
        (
            "studies/smollm2-published/corpus",
            "x",
            "studies.smollm2-published.corpus: 'x' is not in `corpora`",
        ),
        (
            "studies/smollm2-published/embedder",
            "x",
            "studies.smollm2-published.embedder: 'x' is not in `embedders`",
        ),
        ("studies/smollm2-published/title", ..., "studies.smollm2-published.title: missing"),
        ("studies/smollm2-published/prefixes", ["user", "user"], "'user' is given twice"),
        ("studies/smollm2-published/prefixes", ["usr"], "studies.smollm2-published.prefixes.0"),
        (
            "studies/smollm2-published/thresholds",
            {"semantic": 1.5},
            "published.thresholds.semantic: Input should be less than or equal to 1",
        ),
        (
            "studies/smollm2-published/thresholds",
            {"string": -1.01},
            "published.thresholds.string: Input should be greater than or equal to -1",
        ),
        (
            "studies/smollm2-published/fields",
            ["answer"],
            "fields: `answer` needs `sampling.answer: true`",
        ),
        ("models/smollm2", {}, "models.smollm2: give one of `source` (with its sha256), `tr"),
        ("models/smollm2/source/sha256", ..., "smollm2.source: `path` and `pypi` need `sha256`"),
        ("models/smollm2/source/sha256", "abc", "models.smollm2.source.sha256"),
        ("models/smollm2-tuned/quantisation", "Q8_0", "an adapter has its base's"),
        ("models/Bad Name", {"trained": "sft"}, "not 'Bad Name'"),
        (
            "corpora/controlled/controlled",
            [],
            "give one of `sources`, `controlled` and `conversations: true`",
        ),
        (
            "studies/controlled/likelihood/models",
            ["x"],
            "likelihood.models.0: 'x' is not in `models`",
        ),
        ("models/smollm2/base", "x", "models.smollm2.base: 'x' is not in `models`"),
        (
            "models/sft-q8/trained_on",
            ["sft", "stf"],
            "models.sft-q8.trained_on: 'stf' is not in `sources` (conversations, ",
        ),
        (
            "studies/controlled/likelihood/sources",
            ["x"],
            "studies.controlled.likelihood.sources.0: 'x' is not in `sources`",
        ),
        ("studies/controlled/conditions/0/models", ["x"], "conditions.0.models: 'x' is not in"),
        ("studies/controlled/conditions/0/prefixes", ["x"], "conditions.0.prefixes: 'x' is not"),
        (
            "studies/controlled/conditions/0/sampling",
            {"sample": 3},
            "conditions.0.sampling: sample: unknown key",
        ),
        (
            "studies/smollm2-published/fields",
            ["both"],
            "fields: `both` needs `sampling.answer: true`",
        ),
        (
            "studies/smollm2-published/seeds",
            [0, 0],
            "seeds: 0 is given twice; remove or rename one",
        ),
        (
            "studies/smollm2-published/seeds",
            [-1],
            "seeds.0: Input should be greater than or equal to 0",
        ),
        (
            "studies/smollm2-published/index",
            {"search_k": 0},
            "index.search_k: Input should be greater than 0",
        ),
        ("studies/smollm2-published/index", {"kind": "faiss"}, "index.kind"),
        ("studies/smollm2-published/sampling", {"slots": 1000}, "sampling.slots"),
        ("train", {"rl": {"generations": 7}}, "train: rl.batch_size = 64 is not a multiple"),
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


def test_two_sources_of_one_name_and_role() -> None:
    sources = VALUES["corpora"]["published"]["sources"]
    with pytest.raises(InputError, match=r"corpora.published: two sources have one name and role"):
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
    with pytest.raises(InputError, match=r"params\.yaml, line 4: 'a' is given twice"):
        config.load(path)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        config.load(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="not valid YAML"):
        config.load(write(tmp_path, "a: [1"))
    with pytest.raises(InputError, match=r"params\.yaml: "):
        config.load(write(tmp_path, "just text"))


def test_literal_prefix() -> None:
    literal = {"name": "paper", "text": "<|user|>"}
    params = config.validate(changed("studies/smollm2-published/prefixes", ["user", literal]))
    study = params.studies["smollm2-published"]
    assert study.prefix_names == ("user", "paper")
    assert study.prefix_named("paper") == LiteralPrefix(name="paper", text="<|user|>")


def test_groups_and_sources() -> None:
    params = config.load(ROOT / "params.yaml")
    assert params.corpora["smol-smoltalk"].groups == ("smoltalk.member", "smoltalk.held-out")
    assert "sft.twin" in params.corpora["controlled"].groups
    trained = params.trained_on("controlled")
    assert (trained["base-q8"], trained["sft-q8"], trained["rl-q8"]) == ((), ("sft",), ("rl",))
    assert params.trained_on("smollm2-published")["smollm2"] == ()


def test_served_models() -> None:
    url = "http://127.0.0.1:8000/v1"
    served = ModelSettings.model_validate({"endpoint": url, "model": "org/name"})
    assert served.served == (url, "org/name") and served.sha256 is None
    for values, message in (
        ({"endpoint": url}, "`endpoint` and `model`"),
        ({"endpoint": url, "model": "m", "trained": "sft"}, "give one of"),
        ({"endpoint": "http://me:key@host/v1", "model": "m"}, "ENDPOINT_API_KEY"),
    ):
        with pytest.raises(InputError, match=f"models.smollm2: .*{message}") as error:
            config.validate(changed("models/smollm2", values))
        assert "me:key" not in str(error.value)
