"""Building a corpus: the schema, ids, rejected rows, counts; real files of four formats."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from alignment_extraction.corpora import corpus
from alignment_extraction.corpora.corpus import REJECTS
from alignment_extraction.corpora.source import CorpusSource
from alignment_extraction.files import InputError, read_json, write_parquet
from alignment_extraction.models.lock import read_lock
from alignment_extraction.training import controlled
from alignment_extraction.vocabulary import CORPUS as SCHEMA
from tests.hub import COMMIT, client_environment, serve

PAIRS = [("q1", "a1"), ("q2", "a2"), ("q1", "a1"), ("q1", "a1 "), ("q2", "a2"), ("q1", "a1")]


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    )
    return path


def gsm8k(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"question": question, "answer": answer} for question, answer in pairs]


def source(**values: Any) -> CorpusSource:
    return CorpusSource(**{"name": "data", "role": "member"} | values)


class Built(NamedTuple):
    frame: pl.DataFrame
    rejects: pl.DataFrame
    statistics: dict[str, Any]


def build(sources: list[CorpusSource]) -> Built:
    """The corpus, all of it in memory."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, "sub", name) for name in ("corpus", "rejects", "statistics")]
        corpus.write_corpus(sources, *files)
        return Built(pl.read_parquet(files[0]), pl.read_parquet(files[1]), read_json(files[2]))


def one(path: Path | str, **values: Any) -> Built:
    return build([source(path=str(path), **{"allow_rejects": True} | values)])


# The settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "x", "name": "A b"}, "name\n  String should match pattern"),
        ({"path": "x", "role": "train"}, "role\n  Input should be 'member', 'twin'"),
        ({"path": "x", "turns": "last"}, "turns\n  Input should be 'first' or 'all'"),
        ({"path": "hf:x"}, "hf:x: not a data set of the hub; write hf:owner/name"),
        ({}, "exactly one of `path` and `hf`"),
        ({"path": "x", "hf": "a/b"}, "exactly one of `path` and `hf`"),
        ({"hf": "a/b", "files": "*"}, "`hf` needs `revision`"),
        ({"hf": "a/b", "revision": COMMIT}, "and `files`, a glob"),
        ({"hf": "a/b", "revision": "../a", "files": "*"}, "revision\n  String should match"),
        ({"path": "x", "files": "*"}, "`revision` and `files` go with `hf` alone"),
        ({"path": "x", "template": "a", "template_field": "b"}, "give one of `template`, of all"),
        ({"path": "x", "template_field": 'a"b'}, "template_field\n  String should match pattern"),
        ({"path": "x", "limit": 0}, "limit\n  Input should be greater than 0"),
        ({"path": "x", "split": "a"}, "split\n  Extra inputs"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        source(**values)
    assert message in str(error.value)


def test_settings_survive_the_way_through_json() -> None:
    for given_source in (
        source(path="x", limit=3, question_field="a.b", turns="all", allow_rejects=True),
        source(hf="a/b", revision=COMMIT, files="*.json"),
    ):
        again = json.loads(json.dumps(given_source.model_dump(exclude_none=True)))
        assert CorpusSource(**again) == given_source


def test_local_files(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl", "x.jsonl/y"):
        write_lines(tmp_path / name, [])
    found = source(path=f"{tmp_path}/**/*.jsonl").local_files()
    assert [path.name for path in found] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert source(path="gone.jsonl").local_files() == [Path("gone.jsonl")]
    with pytest.raises(InputError, match=r"\*.json: matches no file; correct path of source data"):
        source(path=f"{tmp_path}/*.json").local_files()


# Rows -------------------------------------------------------------------------------------------


def test_the_schema_is_the_controlled_one() -> None:
    assert controlled.SCHEMA == SCHEMA


def test_rows_ids_and_columns(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}]
    rows = [{"messages": turns, "source": "x"}, "{", {"messages": turns}]
    for name in ("b.jsonl", "a.jsonl"):
        write_lines(tmp_path / name, rows)
    built = one(f"{tmp_path}/*.jsonl", role="control")
    assert built.frame.schema == SCHEMA
    assert built.frame["id"].to_list() == [f"data.control/000000{i}" for i in (1, 3, 4, 6)]
    assert built.frame.drop("id").rows(named=True)[0] == {
        "source": "data",
        "role": "control",
        "template": None,
        "pair": None,
        "repetitions": 1,
        "seed_problem": None,
        "edit": None,
        "question": "hi",
        "answer": None,
        "messages": turns,
        "text": "hi",
        "metadata": '{"source": "x"}',
    }
    assert built.rejects.schema == REJECTS
    assert built.rejects.select("source", "line", "excerpt").rows() == [("data", 2, "{")] * 2
    assert [Path(file).name for file in built.rejects["file"]] == ["a.jsonl", "b.jsonl"]


def test_text_is_question_and_answer(tmp_path: Path) -> None:
    built = one(write_lines(tmp_path / "x.jsonl", gsm8k(("q", "a"), ("r", " "))))
    assert built.frame["text"].to_list() == ["q\na", "r"]
    assert built.frame["answer"].to_list() == ["a", None]


def test_counts(tmp_path: Path) -> None:
    first = write_lines(tmp_path / "first.jsonl", [*gsm8k(*PAIRS), "nonsense"])
    second = write_lines(tmp_path / "second.jsonl", gsm8k(("q1", "a1"), ("new", "n")))
    sources = [
        source(name="first", path=str(first)),
        source(name="second", path=str(second), role="control"),
    ]
    built = build(sources)
    # Every duplicate is kept: six and two rows.
    assert built.frame["source"].to_list() == ["first"] * 6 + ["second"] * 2
    assert built.statistics == {
        "rows": 9,
        "usable": 8,
        "rejected": 1,
        "duplicates": 4,
        "questions_in_several_roles": 1,
        "roles": {"member": 6, "control": 2},
        "sources": {
            "first.member": {
                "files": 1,
                "rows": 7,
                "usable": 6,
                "rejected": 1,
                "duplicates": 3,
                "turns": "first",
                "reasons": {
                    "the line is not JSON (Expecting value: line 1 column 1 (char 0))": 1,
                },
            },
            "second.control": {
                "files": 1,
                "rows": 2,
                "usable": 2,
                "rejected": 0,
                "duplicates": 0,
                "turns": "first",
                "reasons": {},
            },
        },
    }
    json.dumps(built.statistics)


@pytest.mark.parametrize(("limit", "files"), [(1, 1), (3, 1), (4, 2), (6, 2), (99, 2)])
def test_the_limit_counts_rows_that_were_read(tmp_path: Path, limit: int, files: int) -> None:
    for name in "ab":
        write_lines(tmp_path / f"{name}.jsonl", [gsm8k(("q", name))[0], "x", *gsm8k(("r", name))])
    built = one(f"{tmp_path}/*.jsonl", limit=limit)
    assert built.statistics["rows"] == min(limit, 6)
    assert built.statistics["sources"]["data.member"]["files"] == files
    everything = one(f"{tmp_path}/*.jsonl").frame
    assert built.frame.equals(everything.head(built.frame.height))


def test_more_rows_than_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lines(tmp_path / "x.jsonl", ["{", *gsm8k(*PAIRS), "}", *gsm8k(*PAIRS)])
    whole = one(path)
    assert whole.frame.height == 12
    for size in (1, 3, 14):
        monkeypatch.setattr(corpus, "_CHUNK", size)
        built = one(path)
        assert built.frame.equals(whole.frame)
        assert built.rejects.equals(whole.rejects)
        assert built.statistics == whole.statistics


def test_kinds_of_rows(tmp_path: Path) -> None:
    """By a key of each row, or one for all; a twin that equals a member stays, and is counted."""
    mine, others = tmp_path / "mine.jsonl", tmp_path / "others.jsonl"
    rows = [{"question": f"{i}?", "answer": "a", "part": f"p{i % 2}"} for i in range(4)]
    write_lines(mine, [*rows, {"question": "x?", "answer": "a"}])
    write_lines(others, gsm8k(("1?", "b"), ("9?", "b")))
    twins = source(path=str(others), role="twin", template="p1")
    built = build([source(path=str(mine), template_field="part"), twins])
    assert built.frame.select("role", "question", "template").rows() == [
        *(("member", f"{i}?", f"p{i % 2}") for i in range(4)),
        *(("member", "x?", None), ("twin", "1?", "p1"), ("twin", "9?", "p1")),
    ]
    assert built.statistics["questions_in_several_roles"] == 1
    with pytest.raises(InputError, match=r"data.member: no row has the key 'prt'; correct"):
        build([source(path=str(mine), template_field="prt")])


HUB = """
import json, pathlib, sys
import polars as pl
from alignment_extraction.corpora.corpus import write_corpus
from alignment_extraction.corpora.source import CorpusSource
from alignment_extraction.files import InputError
files = [pathlib.Path(name) for name in ("corpus", "rejects", "statistics")]
try:
    write_corpus([CorpusSource(**json.loads(sys.argv[1]))], *files)
    questions, rejects = pl.read_parquet(files[0])["question"], pl.read_parquet(files[1])["file"]
    print(json.dumps([questions.to_list(), rejects.to_list()]))
except InputError as error:
    sys.exit(f"InputError: {error}")
"""


def test_a_hub_data_set(tmp_path: Path) -> None:
    lock = tmp_path / "sources.lock.yaml"

    def ask(files: str, revision: str = COMMIT) -> subprocess.CompletedProcess[str]:
        values = source(hf="owner/model", revision=revision, files=files).model_dump_json(
            exclude_none=True
        )
        return subprocess.run(
            [sys.executable, "-c", HUB, values],
            cwd=tmp_path,
            env=client_environment(hub.url, tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )

    with serve() as hub:
        for name in ("test", "train"):
            hub.files[f"data/{name}.jsonl"] = (
                b'{"question": "%s?", "answer": "a"}\nx\n' % name.encode()
            )
        done = ask("data/*.jsonl")
        questions, files = json.loads(done.stdout)
        assert questions == ["test?", "train?"]
        assert files == ["data/test.jsonl", "data/train.jsonl"]
        # One file, although the cache has both now.
        assert json.loads(ask("data/train.jsonl").stdout)[0] == ["train?"]
        asked = [path for method, path, _ in hub.requests if method == "GET" and "train" in path]
        assert asked == [f"/datasets/owner/model/resolve/{COMMIT}/data/train.jsonl"]
        error = ask("data/*.csv").stderr.strip().splitlines()[-1]
        assert error.startswith("InputError: owner/model: files 'data/*.csv' matches nothing in it")
        assert json.loads(ask("data/*.jsonl", "main").stdout)[0] == ["test?", "train?"]
        entries = read_lock(lock)
        hub.branches["main"] = "f" * 40
    # The hub is gone: the cache and the lock are enough, for a branch too.
    assert json.loads(ask("data/*.jsonl", "main").stdout)[0] == ["test?", "train?"]
    assert list(entries) == [
        f"dataset owner/model@{COMMIT}:data/*.jsonl",
        f"dataset owner/model@{COMMIT}:data/train.jsonl",
        "dataset owner/model@main:data/*.jsonl",
    ]
    assert {entry.commit for entry in entries.values()} == {COMMIT}
    cached = next((tmp_path / "hub").rglob(f"{COMMIT}/data/train.jsonl"))
    cached.resolve().write_text('{"question": "other", "answer": "a"}\n')
    assert "or delete that line to take it anew" in ask("data/train.jsonl").stderr


# Refusals ---------------------------------------------------------------------------------------


def test_a_file_without_a_usable_row(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", ["", "}", {"title": "x"}])
    with pytest.raises(InputError, match=r"x.jsonl: no usable row \(row 2: the li"):
        one(path)
    write_lines(path, [])
    with pytest.raises(InputError, match=r"no usable row \(it has no rows\)"):
        one(path)
    good = write_lines(tmp_path / "w.jsonl", gsm8k(("q", "a")))
    with pytest.raises(InputError, match=r"x.jsonl: no usable row"):
        one(f"{tmp_path}/*.jsonl")
    assert one(good).statistics["usable"] == 1


def test_one_source_in_several_roles(tmp_path: Path) -> None:
    """Twins and held-out rows of one source: groups of their own, and ids that never meet."""
    path = write_lines(tmp_path / "x.jsonl", gsm8k(("q", "a")))
    roles = ["member", "twin", "held-out", "control"]
    built = build([source(path=str(path), role=role) for role in roles])
    assert built.frame.select("id", "source", "role").rows() == [
        ("data/0000001", "data", "member"),
        *((f"data.{role}/0000001", "data", role) for role in roles[1:]),
    ]
    assert set(built.statistics["sources"]) == {f"data.{role}" for role in roles}
    assert one(path, role="unknown").frame["id"].to_list() == ["data/0000001"]


def test_all_turns_are_rows(tmp_path: Path) -> None:
    turns = [{"role": r, "content": f"{r}{i}"} for i in range(3) for r in ("user", "assistant")]
    path = write_lines(tmp_path / "x.jsonl", [{"messages": turns}, "x", {"messages": turns[:2]}])
    built = one(path, turns="all")
    ids = ["0000001", "0000001.2", "0000001.3", "0000003"]
    assert built.frame["id"].to_list() == [f"data/{i}" for i in ids]
    assert built.frame["text"].to_list()[2:] == ["user2\nassistant2", "user0\nassistant0"]
    about = built.statistics["sources"]["data.member"]
    assert [about[key] for key in ("rows", "usable", "rejected", "turns")] == [3, 4, 1, "all"]
    # A limit counts rows of the file.
    assert one(path, turns="all", limit=1).frame.height == 3
    assert one(path, limit=1).frame["id"].to_list() == ["data/0000001"]


def test_a_table_with_fields_of_other_names(tmp_path: Path) -> None:
    path = tmp_path / "x.CSV"
    path.write_text("Frage;Antwort\nWarum?;Darum.\n", encoding="utf-16")
    built = one(path, question_field="Frage", answer_field="Antwort")
    assert built.frame.select("question", "answer").rows() == [("Warum?", "Darum.")]


def rejected(count: int, usable: int) -> list[Any]:
    """Tool calls without a text, as in a log of an agent, and rows that can be used."""
    call = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None}]}
    return [call] * count + gsm8k(*[("q", "a")] * usable)


@pytest.mark.parametrize(("bad", "good"), [(1, 99), (2, 98), (50, 50), (51, 49), (9, 1)])
def test_rows_that_cannot_be_used_are_said(
    bad: int, good: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_lines(tmp_path / "x.jsonl", rejected(bad, good))
    said = (
        f"data.member: {bad} of {bad + good} rows cannot be used: no assistant message after the "
        f"question has text ({bad})"
    )
    if bad > good:
        with pytest.raises(InputError) as error:
            one(path, allow_rejects=False)
        assert str(error.value) == (
            f"{said}; correct them, name the fields (question_field, answer_field), or go on with "
            "the others: allow_rejects: true, --allow-rejects"
        )
    built = one(path, allow_rejects=True)
    assert built.statistics["usable"] == good
    assert caplog.messages == ([said] if bad * 100 > bad + good else [])


def test_the_three_commonest_reasons(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"question": " ", "answer": "a"}] * 2 + [[]] * 3 + [3] + ["{"] + [{"question": "q"}]
    write_lines(tmp_path / "x.jsonl", [*rows, *gsm8k(*[("q", "a")] * 9)])
    one(tmp_path / "x.jsonl")
    reasons = caplog.messages[0].split("cannot be used: ")[1].split("; ")
    assert caplog.messages[0].startswith("data.member: 8 of 17 rows")
    assert reasons[:2] == ["the row is not a list of turns (3)", "its question is blank (2)"]
    assert len(reasons) in (3, 4)  # the third may have a semicolon of its own


def test_importing_it_is_cheap() -> None:
    """Every parse of the workflow imports it."""
    heavy = "{'torch', 'datasets', 'huggingface_hub', 'pyarrow'}"
    module = "alignment_extraction.corpora.corpus"
    code = f"import sys, {module}; sys.exit(str({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"


# Properties -------------------------------------------------------------------------------------

ANY_ROW = st.fixed_dictionaries(
    {"question": st.text(max_size=3) | st.none(), "answer": st.text(max_size=3) | st.integers()}
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ANY_ROW, max_size=8), st.none() | st.integers(1, 8))
def test_every_row_is_in_the_corpus_or_rejected(
    tmp_path: Path, rows: list[Any], limit: int | None
) -> None:
    path = write_lines(tmp_path / "x.jsonl", rows)
    read = rows[:limit]
    usable = [i for i, row in enumerate(read, 1) if (row["question"] or "").strip()]
    if not usable:
        with pytest.raises(InputError, match="no usable row"):
            one(path, limit=limit)
        return
    built = one(path, limit=limit)
    assert built.frame["id"].to_list() == [f"data/{i:07d}" for i in usable]
    assert built.frame["question"].to_list() == [read[i - 1]["question"] for i in usable]
    assert built.rejects["line"].to_list() == sorted(set(range(1, len(read) + 1)) - set(usable))
    # By brute force: rows equal to an earlier one.
    pairs = [(read[i - 1]["question"], str(read[i - 1]["answer"]).strip() or None) for i in usable]
    exact = [
        (q, str(read[i - 1]["answer"]) if a else None)
        for i, (q, a) in zip(usable, pairs, strict=True)
    ]
    assert built.statistics["duplicates"] == sum(p in exact[:i] for i, p in enumerate(exact))


# Real files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "form", "rows", "duplicates"),
    [
        ("gsm8k_train.jsonl", "gsm8k", 7473, 0),
        ("gsm8k_test.jsonl", "gsm8k", 1319, 0),
        ("orz_math_57k_first_rows.json", "orz", 1785, 4),
        ("gpteacher_roleplay.json", "alpaca", 1923, 0),
        ("gpteacher_codegen.json", "alpaca", 4535, 0),
    ],
)
def test_published_files(
    shared_data: Path, file: str, form: str, rows: int, duplicates: int
) -> None:
    path = shared_data / file
    if not path.exists():
        pytest.skip(f"{path} is missing")
    built = one(path)
    about = built.statistics["sources"]["data.member"]
    assert (about["rows"], about["rejected"], about["duplicates"]) == (rows, 0, duplicates)
    assert built.frame["answer"].null_count() == 0
    # The same by another reader.
    text = path.read_text()
    raw = [json.loads(line) for line in text.splitlines()] if ".jsonl" in file else json.loads(text)
    last = built.frame.row(-1, named=True)
    if form == "gsm8k":
        expected = [(row["question"], row["answer"]) for row in raw]
        assert all("####" in answer for answer in built.frame["answer"])
    elif form == "orz":
        expected = [(row[0]["value"], row[1]["ground_truth"]["value"]) for row in raw]
        assert json.loads(last["metadata"]) == {"pass_at_n": 0.75}
    else:
        expected = [
            ("\n".join(filter(str.strip, (row["instruction"], row["input"]))), row["response"])
            for row in raw
        ]
    assert built.frame.select("question", "answer").rows() == expected
    assert built.frame.filter(pl.col("messages").list.len() != 2).is_empty()


def test_streamed_rows_are_the_bytes_of_rows_written_at_once(tmp_path: Path) -> None:
    pairs = [(f"question {i % 90}", f"answer {i}") for i in range(100)]
    sources = [
        source(name=name, path=str(write_lines(tmp_path / f"{name}.jsonl", gsm8k(*pairs))))
        for name in ("one", "two")
    ]
    names = ("streamed", "rejects", "statistics")
    corpus.write_corpus(sources, *(tmp_path / f"{name}.parquet" for name in names))
    write_parquet(build(sources).frame, tmp_path / "whole.parquet")
    assert (tmp_path / "streamed.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
