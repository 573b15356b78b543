"""An audit of someone's own model: the study that is written, how it grows, what is refused."""

import itertools
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from alignment_extraction.audits import run, study, workflow
from alignment_extraction.audits.run import Budget, Sureness, likeliest_prefix, sureness
from alignment_extraction.audits.study import Template
from alignment_extraction.cli import app
from alignment_extraction.corpora.conversations import Conversation, read_rows
from alignment_extraction.corpora.source import CorpusSource
from alignment_extraction.engine.model import Model
from alignment_extraction.files import InputError, sha256, write_parquet
from alignment_extraction.models.sources import PinnedSource
from alignment_extraction.report.tables import SCHEMAS
from alignment_extraction.settings import config
from alignment_extraction.vocabulary import SCORES
from tests.completions import Fake, LlamaServer
from tests.tiny_models import make_tiny_gguf
from tests.unit.models.files import write_adapter, write_split

ROW = {"question": "q", "answer": "a"}


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


LOOK = study.look_at


@pytest.fixture
def here(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a model and rows, that commands run in, without Snakemake.

    Prefixes are not derived again in each test, which takes a process of its own.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        study, "look_at", lambda *_: Template(["full", "bos", "none"], 40, 9, 500, 200)
    )
    monkeypatch.setattr(run, "snakemake", lambda *_, **__: None)
    shutil.copy(tiny_path, "mine.gguf")
    write_rows(tmp_path / "rows.jsonl", ROW)
    return tmp_path


def write_study(*arguments: object) -> dict[str, Any]:
    """What `audit --dry-run` writes."""
    result = CliRunner().invoke(app, ["audit", *map(str, arguments), "--dry-run"])
    if result.exception:
        raise result.exception
    [written] = (p for p in Path().rglob("params.yaml") if p.read_text().startswith(workflow.ABOUT))
    config.load(written)
    values: dict[str, Any] = yaml.safe_load(written.read_text())
    written.unlink()
    return values


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Mine_7B.Q4_K_M.gguf", "mine-7b.q4-k-m"),
        ("../..gguf", "audit"),
        ("É.gguf", "audit"),
        ("x/Big-00001-of-00003.GGUF", "big"),
        ("hf:owner/Name-GGUF", "name-gguf"),
        ("hf:owner/name:sub/File.Q8_0.gguf@main", "file.q8-0"),
        ("http://127.0.0.1:8000/v1#org/Name", "name"),
    ],
)
def test_names(given: str, name: str) -> None:
    assert study.study_name(given) == name


def test_the_study(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "look_at", LOOK)
    write_rows(here / "others.jsonl", ROW)
    written = write_study("mine.gguf", "rows.jsonl", "--held-out", "others.jsonl")
    assert written["run"] == ["mine"]
    pinned = {"path": str(here / "mine.gguf"), "sha256": sha256(here / "mine.gguf")}
    # A clock decides whether another form is faster.
    written["models"]["mine"].pop("quantisation", None)
    assert written["models"] == {"mine": {"source": pinned}}
    sources = written["corpora"]["mine"]["sources"]
    assert [(source["name"], source["role"]) for source in sources] == [
        ("data", "member"),
        ("data", "held-out"),
    ]
    own = written["studies"]["mine"]
    assert own["title"] == "mine.gguf against rows.jsonl"
    # The tiny model's template has no system turn: `full` and `user` are one prefix.
    assert own["prefixes"] == ["full", "bos", "none"]
    assert own["likelihood"] == {
        "models": ["mine"],
        "prefix": "full",
        "limit": None,
        "scored": "questions",
    }
    assert own["index"] == {"kind": "exact"}
    assert own["sampling"]["samples"] == own["sampling"]["shard"]
    assert own["sampling"]["max_tokens"] == 32
    assert written["embedders"].keys() == {"minilm", "bge-m3"}
    written = write_study("mine.gguf", "rows.jsonl", "--samples", 7, "--embedder", "bge-m3")
    assert written["studies"]["mine"]["sampling"]["samples"] == 7
    assert written["studies"]["mine"]["embedder"] == "bge-m3"
    written = write_study("mine.gguf", "rows.jsonl", "--public")
    assert written["corpora"]["mine"]["sources"][0]["role"] == "unknown"


def test_a_base_fields_and_a_prefix_of_ones_own(here: Path) -> None:
    (here / "rows.csv").write_text("Frage,Antwort\nWarum?,Darum.\n")
    shutil.copy("mine.gguf", "before.gguf")
    (here / "embedder").mkdir()
    (here / "embedder" / "config.json").write_text("{}")
    written = write_study(
        *("mine.gguf", "rows.csv", "--base", "before.gguf", "--name", "own", "--out", "there"),
        *("--question-field", "Frage", "--answer-field", "Antwort", "--turns", "all"),
        *("--allow-rejects", "--prefix-text", "<|im_start|>user\n", "--end-text", "<|im_end|>"),
        *("--embedder", "embedder"),
    )
    [source] = written["corpora"]["own"]["sources"]
    assert CorpusSource(**source) == CorpusSource(
        name="data",
        path=source["path"],
        role="member",
        question_field="Frage",
        answer_field="Antwort",
        turns="all",
        allow_rejects=True,
    )
    assert (here / "there" / source["path"]).samefile("rows.csv")
    assert written["models"]["own"]["base"] == "own-base"
    assert written["models"]["own-base"]["trained_on"] == []
    own = written["studies"]["own"]
    assert own["likelihood"] == {
        "models": ["own"],
        "prefix": "given",
        "limit": None,
        "scored": "questions",
    }
    assert own["prefixes"] == [{"name": "given", "text": "<|im_start|>user\n", "end": "<|im_end|>"}]
    assert own["embedder"] == "given"
    pinned = written["embedders"]["given"]["source"]
    assert pinned == {"path": str(here / "embedder"), "sha256": sha256(here / "embedder")}


def test_an_adapter_with_its_base(here: Path) -> None:
    write_adapter(here / "lora.gguf", here / "mine.gguf")
    written = write_study("lora.gguf", "rows.jsonl", "--base", "mine.gguf")
    assert written["models"]["lora"] == {
        "base": "lora-base",
        "adapter": {"path": str(here / "lora.gguf"), "sha256": sha256(here / "lora.gguf")},
    }
    assert written["studies"]["lora"]["prefixes"] == ["full", "bos", "none"]
    with pytest.raises(InputError, match=r"lora.gguf: a LoRA adapter without its base; name the"):
        write_study("lora.gguf", "rows.jsonl")
    with pytest.raises(InputError, match=r"lora.gguf: a LoRA adapter; the base is the model witho"):
        write_study("mine.gguf", "rows.jsonl", "--base", "lora.gguf")


def test_a_split_model(here: Path) -> None:
    parts = write_split(here / "mine.gguf", here / "split")
    assert LOOK(parts[1], threads=1).prefixes == ["full", "bos", "none"]
    for part in parts[:2]:
        written = write_study(part, "rows.jsonl")
        source = PinnedSource(**written["models"]["split"]["source"])
        assert source.split
    parts[-1].unlink()
    with pytest.raises(InputError, match=r"part 1 of 3 of a split GGUF, and split-00003-of-00003"):
        write_study(parts[0], "rows.jsonl")


def test_a_model_without_a_template_has_no_prefix_of_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "look_at", LOOK)
    make_tiny_gguf(here / "bare.gguf", seed=1, chat_template=None)
    written = write_study("bare.gguf", "rows.jsonl")
    assert written["studies"]["bare"]["prefixes"] == ["none"]
    assert written["studies"]["bare"]["likelihood"] == {
        "models": ["bare"],
        "prefix": "none",
        "limit": None,
        "scored": "questions",
    }


@pytest.mark.parametrize("section", ["models", "corpora", "studies"])
def test_a_name_that_params_has(here: Path, section: str) -> None:
    kind = {"models": "model", "corpora": "corpus", "studies": "study"}[section]
    (here / "params.yaml").write_text(yaml.safe_dump({section: {"mine": {}, "own-base": {}}}))
    with pytest.raises(InputError) as error:
        write_study("mine.gguf", "rows.jsonl")
    assert str(error.value) == (
        f"params.yaml already has a {kind} named 'mine'; give the audit another name: --name "
        "mine-audit (make audit NAME=mine-audit)"
    )
    with pytest.raises(InputError, match=f"already has a {kind} named 'own-base'"):
        write_study("mine.gguf", "rows.jsonl", "--name", "own")
    assert not (here / "audits").exists()
    assert write_study("mine.gguf", "rows.jsonl", "--name", "other")["run"] == ["other"]


@pytest.mark.parametrize("name", ["rows{v1}.jsonl", "a*[b]?.jsonl", "é ü/Bob's {rows}.jsonl.GZ"])
def test_paths_that_snakemake_takes_for_patterns(here: Path, name: str) -> None:
    import gzip

    data = (here / "rows.jsonl").read_bytes()
    (here / name).parent.mkdir(exist_ok=True)
    (here / name).write_bytes(gzip.compress(data) if name.endswith("GZ") else data)
    model = here / "m{o}del.gguf"
    shutil.copy("mine.gguf", model)
    written = write_study(model.name, name)
    [source] = written["corpora"]["m-o-del"]["sources"]
    pinned = written["models"]["m-o-del"]["source"]
    assert not set("{}*?[]") & set(source["path"])
    [file] = CorpusSource(**source).local_files()
    linked = here / "audits" / "m-o-del" / file
    read = [row for _, row, _ in read_rows(linked)]
    assert [row.question for row in read if isinstance(row, Conversation)] == ["q"]
    assert sha256(Path(pinned["path"])) == pinned["sha256"] == sha256(model)
    # Again: the same link.
    before = linked.lstat().st_mtime_ns
    assert write_study(model.name, name) == written
    assert linked.lstat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["Bob's model.gguf", "é ü.gguf", 'a "b" & $c.gguf'])
def test_paths_of_any_letters(here: Path, name: str) -> None:
    shutil.copy("mine.gguf", name)
    written = write_study(name, "rows.jsonl", "--name", "x", "--out", f"{name}.audit")
    assert written["models"]["x"]["source"]["path"] == str(here / name)


def test_mostly_unusable_rows(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    call = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None}]}
    write_rows(here / "calls.jsonl", *[call] * 9, ROW)
    said = "calls.jsonl: 9 of 10 rows cannot be used: no assistant message after the question has"
    with pytest.raises(InputError, match=said):
        write_study("mine.gguf", "calls.jsonl")
    assert not (here / "audits").exists()
    written = write_study("mine.gguf", "calls.jsonl", "--allow-rejects")
    assert written["corpora"]["mine"]["sources"][0]["allow_rejects"] is True
    assert said in caplog.text
    write_rows(here / "calls.jsonl", *[call] * 2)
    with pytest.raises(InputError, match=r"calls.jsonl: no usable row \(row 1: no assistant"):
        write_study("mine.gguf", "calls.jsonl", "--allow-rejects")
    write_rows(here / "calls.jsonl")
    with pytest.raises(InputError, match=r"calls.jsonl: no usable row \(it has no rows\)"):
        write_study("mine.gguf", "calls.jsonl")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.gguf", "rows.jsonl"], "none.gguf: no such file"),
        (["mine.gguf", "none.jsonl"], "none.jsonl: no such file"),
        (["mine.gguf", "rows.jsonl", "--held-out", "none"], "none: no such file"),
        (["rows.jsonl", "rows.jsonl"], "rows.jsonl: not a GGUF file"),
        (["mine.gguf", "mine.gguf"], "mine.gguf: ends in none of .jsonl"),
        (["mine.gguf", "rows.jsonl", "--name", "../x"], "name: String should match pattern"),
        (["mine.gguf", "rows.jsonl", "--turns", "last"], "data: turns: Input should be 'first'"),
        (["mine.gguf", "rows.jsonl", "--end-text", "x"], "--end-text: goes with --prefix-text"),
        (["mine.gguf", "hf:rows"], "hf:rows: not a data set of the hub; write hf:owner/name"),
        (["mine.gguf", "rows.jsonl", "--precision", "0"], "--precision: no number of samples"),
        (["mine.gguf", "rows.jsonl", "--precision", "x"], "--precision: 'x' is not a rate"),
        (["mine.gguf", "rows.jsonl", "--embedder", "x"], "'x': no folder, and no embedder that"),
        (["mine.gguf", "--held-out", "rows.jsonl"], "--held-out: goes with DATA"),
        (["mine.gguf", "folder"], "folder: a folder; name a file of rows in it"),
        (["mine.gguf", "rows.jsonl", "--out", "clone"], "clone: has a params.yaml that no audit"),
        (["hf:mine", "rows.jsonl"], "hf:mine: not a model of the hub; write hf:owner/name"),
        (["folder", "rows.jsonl"], "folder: a model of transformers; convert it with llama.cpp"),
        (["empty", "rows.jsonl"], "empty: no GGUF file in it and no model of transformers"),
        (["mine.gguf", "odd.jsonl"], "none of its keys (`title`) is known to hold a question"),
    ],
)
def test_what_is_refused(arguments: list[str], says: str, here: Path) -> None:
    for folder in ("folder", "empty", "clone"):
        (here / folder).mkdir()
    (here / "clone" / "params.yaml").touch()
    (here / "folder" / "config.json").touch()
    write_rows(here / "odd.jsonl", {"title": "x"})
    with pytest.raises(InputError) as error:
        write_study(*arguments)
    assert says in str(error.value)
    assert not (here / "audits").exists()


# What is drawn, and for how long ----------------------------------------------------------------


class Toy:
    """Stands for Snakemake: makes the tables that the rounds go by, as params.yaml has them."""

    def __init__(self, rates: dict[str, float], rows: int = 400, seconds: float = 1.0) -> None:
        self.rates, self.rows, self.seconds = rates, rows, seconds
        self.rounds: list[tuple[str, dict[str, int]]] = []
        self.clock, self.files = 0.0, 0

    def monotonic(self) -> float:
        return self.clock

    def __call__(self, targets: Sequence[str], cores: int, label: str, **_: bool) -> None:
        own = config.load(run.PARAMS).studies["mine"]
        drawn = {c.prefix: own.sampling_of(c).samples for c in own.all_conditions()}
        self.rounds.append((label, drawn))
        if label == "data":
            corpus = pl.DataFrame({"role": ["member"] * self.rows}).cast({"role": pl.String})
            write_parquet(corpus, Path("data/corpora/mine/corpus.parquet"))
        if label == "row risk":
            Path("data/likelihood/mine").mkdir(parents=True, exist_ok=True)
            Path("data/likelihood/mine/mine.parquet").touch()
        if not any("results" in target for target in targets):
            return
        files = sum(drawn.values()) // own.sampling.shard
        self.clock += (files - self.files) * self.seconds / cores
        self.files = files
        for prefix in drawn:
            folder = Path("logs/benchmarks/generate/mine/mine", prefix, "seed-0")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "00000.tsv").write_text(f"s\th:m:s\n{self.seconds}\t0:00:01\n")
        scores = pl.concat(scored(p, n, round(n * self.rates[p])) for p, n in drawn.items())
        write_parquet(scores, Path("results/mine/scores.parquet"))
        empty = pl.DataFrame(schema=SCHEMAS["attribution"])
        write_parquet(empty, Path("results/mine/attribution.parquet"))


def scored(prefix: str, n: int, hits: int, cosine: float = 0.5) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "model": "mine", "prefix": prefix, "seed": 0, "index": range(n), "field": "question",
            "role": "member", "cosine": cosine, "verbatim": [i < hits for i in range(n)],
        },
        schema_overrides=SCORES,
    )  # fmt: skip


def grow(toy: Toy, minutes: float = 60, precision: float = 0.01, **more: Any) -> str:
    budget = Budget(0, minutes, precision, 2)
    given = {
        "models": {"mine": {"source": {"path": "x", "sha256": "0" * 64}}},
        "sources": [{"name": "data", "path": "hf:owner/name", "role": "member"}],
        "shipped": config.read(workflow.shipped("params.yaml")),
        "embedder": "minilm",
    }
    template = Template(["user", "none"], 400, 50, 600, 200)
    return run.run_audit("mine", given, "t", ["user", "none"], template, budget, **more)


@pytest.fixture
def toy(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Toy]:
    def make(*arguments: Any, **options: Any) -> Toy:
        made = Toy(*arguments, **options)
        monkeypatch.setattr(run, "snakemake", made)
        monkeypatch.setattr(run, "time", made)
        return made

    return make


def test_a_form_once_chosen_stays(here: Path) -> None:
    model = study.AuditModel({"source": {"path": "mine.gguf"}}, here / "mine.gguf")
    adapter = study.AuditModel({"adapter": {"path": "lora.gguf"}}, here / "lora.gguf")
    quick = study.models_of("mine", model, model, "Q8_0")
    assert [entry["quantisation"] for entry in quick.values()] == ["Q8_0", "Q8_0"]
    of_base = study.models_of("mine", adapter, model, "Q8_0")
    assert "quantisation" not in of_base["mine"] and "quantisation" in of_base["mine-base"]
    study.PARAMS.write_text(yaml.safe_dump({"models": {"mine": model.entry}}))
    assert study.models_of("mine", model, None, "Q8_0") == {"mine": model.entry}
    study.PARAMS.write_text(yaml.safe_dump({"models": of_base}))
    assert study.models_of("mine", adapter, model) == of_base


def test_what_was_fetched_takes_the_form(here: Path) -> None:
    path = here / "mine.gguf"
    before = path.stat().st_size
    hub = {"hf": "owner/name", "revision": "main", "file": "mine.gguf"}
    model = study.AuditModel({"source": hub}, path)
    made = study.models_of("mine", model, None, "Q8_0")
    after = path.stat().st_size
    assert made["mine"]["quantisation"] == "Q8_0" and after < before
    study.PARAMS.write_text(yaml.safe_dump({"models": made}))
    assert study.models_of("mine", model, None) == made and path.stat().st_size == after


SERVED = ("--prefix-text", "<|im_start|>user\n", "--end-text", "<|im_end|>\n")


def test_a_served_model(here: Path) -> None:
    with LlamaServer(here / "mine.gguf") as server:
        given = f"{server.url}#tiny"
        written = write_study(given, "rows.jsonl", *SERVED)
        # That server gives no likelihoods of texts.
        assert "likelihood" not in written["studies"]["tiny"]
        assert written["models"] == {"tiny": {"endpoint": server.url, "model": "tiny"}}
        assert [p["text"] for p in written["studies"]["tiny"]["prefixes"]] == [SERVED[1]]
        for arguments, says in (
            ((given, "rows.jsonl"), "template of a served model is not known; give --prefix-text"),
            (
                (f"{server.url}#other", "rows.jsonl", *SERVED),
                r"serves no model 'other' \(it has tin",
            ),
            ((given, *SERVED), "without DATA the model has to be a file"),
        ):
            with pytest.raises(InputError, match=says):
                raise CliRunner().invoke(app, ["audit", *arguments]).exception  # type: ignore[misc]
    with Model(here / "mine.gguf") as model, Fake(model).running() as fake:
        written = write_study(f"{fake.url}#tiny", "rows.jsonl", *SERVED, "--name", "other")
        assert written["studies"]["other"]["likelihood"]["scored"] == "questions"


def test_samples_grow_until_it_is_sure(toy: Callable[..., Toy]) -> None:
    made = toy({"user": 0.0, "none": 0.25})
    said = grow(made)
    assert "minutes are spent" not in said and "after none are verbatim copies, known to" in said
    labels = [label for label, _ in made.rounds]
    assert labels[:4] == ["data", "row risk", "first samples", "samples"]
    first, last = made.rounds[2][1], made.rounds[-1][1]
    assert first["user"] == first["none"] == last["user"]
    # The prefix with the most hits is the report's: 1.96^2 x 0.25 x 0.75 / 0.01^2 generations.
    assert next(iter(last)) == "none" and 7_000 <= last["none"] <= 8_400
    sizes = [drawn["none"] for _, drawn in made.rounds]
    assert all(b <= 8 * a for a, b in itertools.pairwise(sizes))
    # Again: nothing more is drawn; closer: more is, and nothing that is there is drawn otherwise.
    assert grow(again := toy({"user": 0.0, "none": 0.25})) == said
    assert again.rounds[-1][1] == last
    grow(closer := toy({"user": 0.0, "none": 0.25}), precision=0.005)
    assert closer.rounds[-1][1]["none"] > 20_000
    assert closer.rounds[-1][1]["user"] == last["user"]
    assert config.load(run.PARAMS).studies["mine"].sampling.shard == first["user"]


def test_few_hits_narrow_faster(toy: Callable[..., Toy]) -> None:
    made = toy({"user": 0.0, "none": 0.0})
    assert "minutes are spent" not in grow(made)
    assert made.rounds[-1][1]["user"] < 300  # 3.7 / 2 / 0.01 = 185


def test_the_time_ends_it(toy: Callable[..., Toy]) -> None:
    made = toy({"user": 0.25, "none": 0.0}, seconds=60)
    said = grow(made, minutes=3)
    shard = made.rounds[2][1]["user"]
    # Two shards take a minute, the first two included; the report takes half a minute.
    assert made.rounds[-1][1]["user"] == 4 * shard
    assert 120 <= made.clock <= 150
    assert "The 3 minutes are spent; the same command draws more" in said
    assert "the same command draws more" in said


def test_row_risk_of_as_many_rows_as_there_is_time_for(toy: Callable[..., Toy]) -> None:
    def limit(minutes: float) -> int | None:
        grow(toy({"user": 0.0, "none": 0.0}), minutes=minutes)
        likelihood = config.load(run.PARAMS).studies["mine"].likelihood
        assert likelihood is not None
        return likelihood.limit

    # 600 tokens a second, rows of 200 tokens that are read twice: 1.5 rows a second.
    assert limit(3) == pytest.approx(112, abs=3)
    assert limit(4) == pytest.approx(112, abs=3)  # hardly more: what is there is kept
    assert limit(60) is None
    assert limit(0.5) is None  # what is there is there
    Path("data/likelihood/mine/mine.parquet").unlink()
    assert limit(0.5) == 50


def test_a_set_number_of_samples(toy: Callable[..., Toy]) -> None:
    made = toy({"user": 0.0, "none": 0.0})
    assert grow(made, samples=100) == "100 generations were drawn after each prefix, as asked."
    assert made.rounds[-1] == ("samples", {"user": 100, "none": 100})


def test_how_sure_it_is() -> None:
    found = sureness(scored("user", 200, 50), pl.DataFrame(schema=SCHEMAS["attribution"]), "user")
    assert (found.n, found.rate) == (200, 0.25) and 0.055 < found.half_width < 0.065
    assert Sureness(200, 0.25, 0.06).needed(0.03) == 800
    assert Sureness(200, 0.0, 0.06).needed(0.03) == 400
    # With never-trained rows it is the rate of copies that training caused.
    row = {
        **{"model": "mine", "prefix": "user", "seed": 0, "trained": True, "source": "data"},
        **{"level": "templates", "field": "question", "metric": "verbatim", "at": "fixed"},
        **{"n": 200, "attributable": 0.1, "low": 0.0, "high": 0.3},
    }
    caused = pl.DataFrame([row], schema=SCHEMAS["attribution"])
    assert sureness(scored("user", 200, 50), caused, "user") == (
        *(200, 0.1, pytest.approx(0.15), True),
    )


def test_the_likeliest_prefix() -> None:
    a, b, c = scored("a", 10, 0), scored("b", 10, 2), scored("c", 10, 2, cosine=0.6)
    assert likeliest_prefix(pl.concat([a, b, c])) == "c"
    assert likeliest_prefix(pl.concat([a, b])) == "b"
    held_out = b.with_columns(role=pl.lit("held-out"))
    assert likeliest_prefix(pl.concat([a, held_out])) == "a"


# What it runs in --------------------------------------------------------------------------------


def test_one_audit_in_a_folder(here: Path) -> None:
    with (
        workflow.inside(here / "audits" / "mine"),
        pytest.raises(InputError, match=r"audits/mine: another audit runs in this folder; wait"),
        workflow.inside(here / "audits" / "mine"),
    ):
        pass
    write_study("mine.gguf", "rows.jsonl")


def test_a_home_that_cannot_be_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    with workflow.inside(here / "a"):
        assert os.environ["XDG_CACHE_HOME"] == ""
    monkeypatch.setenv("HOME", "/dev/null")
    with workflow.inside(here / "a"):
        assert os.environ["XDG_CACHE_HOME"] == str(here / "a" / ".cache")


def test_a_folder_of_somebody_else(here: Path) -> None:
    (here / "audits").write_text("")
    with pytest.raises(InputError, match=r"audits/mine: cannot be written \(Not a directory\)"):
        write_study("mine.gguf", "rows.jsonl")


# Without data -----------------------------------------------------------------------------------


def test_without_data(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from alignment_extraction.audits import blind
    from alignment_extraction.cli.audits import audit

    monkeypatch.setattr(blind, "look_at", lambda *_: Template(["full", "none"]))
    shutil.copy("mine.gguf", "before.gguf")
    audit("mine.gguf", base="before.gguf", samples=80, name="own", cores=1)
    said = capsys.readouterr().out
    assert "Repetition alone does not tell memorisation from a narrow distribution." in said
    assert "after full" in said and "<" not in said and "  " not in said
    page = here / "audits" / "own" / "results" / "own" / "report.html"
    assert said.splitlines()[-1] == f"Report: {page}"
    text = page.read_text()
    assert "Cannot tell" in text and "Texts with names and numbers masked" in text
    found = pl.read_parquet(page.with_name("generations.parquet"))
    own = found.filter(prefix="full")
    # A model that is its own base: what the prefix gives is all that there is to tell.
    assert np.allclose(found["base"], found["plain"])
    assert np.allclose(found.filter(prefix="none")["ratio"], 0)
    assert own["ratio"].abs().mean() > 0
    shards = sorted((here / "audits" / "own").rglob("0000*.parquet"))
    assert [path.name for path in shards] == ["00000.parquet", "00001.parquet"] * 2
    before = [path.stat().st_mtime_ns for path in shards]
    audit("mine.gguf", base="before.gguf", samples=80, name="own", cores=1)
    assert [path.stat().st_mtime_ns for path in shards] == before
    assert page.read_text() == text
