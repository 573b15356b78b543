"""Reading published formats: every row of a file is a conversation or is refused with a reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignment_extraction.corpora.formats import (
    ADAPTERS,
    EXCERPT,
    Conversation,
    FileFormat,
    RowError,
    generate_rows,
    read_rows,
)
from alignment_extraction.files import InputError
from alignment_extraction.training.tasks import verify

Read = Callable[..., list[tuple[int, Conversation | RowError]]]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def write_and_read(
        data: bytes, form: FileFormat, name: str = "rows.jsonl"
    ) -> list[tuple[int, Conversation | RowError]]:
        path = tmp_path / name
        path.write_bytes(data)
        return [(number, row) for number, row in read_rows(path, form)]

    return write_and_read


def lines(*rows: Any) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


# Usable rows ------------------------------------------------------------------------------------

TURNS = [{"role": "system", "content": "Be brief."}, user("Hi"), assistant("Hello"), user("Bye")]
TRUTH = {"value": "4", "pass_at_n": 0.75}
USABLE: list[tuple[FileFormat, Any, Conversation]] = [
    ("messages", {"messages": TURNS}, Conversation(TURNS, "Hi", "Hello", None)),
    (
        "messages",
        {"messages": [assistant("Welcome"), user("Hi")], "source": "x", "id": 3, "gone": None},
        Conversation([assistant("Welcome"), user("Hi")], "Hi", None, '{"id": 3, "source": "x"}'),
    ),
    (
        "orz",
        [{"from": "human", "value": "2+2?"}, {"from": "assistant", "ground_truth": TRUTH}],
        Conversation([user("2+2?"), assistant("4")], "2+2?", "4", '{"pass_at_n": 0.75}'),
    ),
    (
        "gsm8k",
        {"question": "48/2?", "answer": "It is <<48/2=24>>24.\n#### 24"},
        Conversation(
            [user("48/2?"), assistant("It is <<48/2=24>>24.\n#### 24")],
            "48/2?",
            "It is <<48/2=24>>24.\n#### 24",
            None,
        ),
    ),
    (
        "alpaca",
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        Conversation([user("Add.\n1, 2"), assistant("3")], "Add.\n1, 2", "3", None),
    ),
    (
        "alpaca",
        {"instruction": "Say hi.", "input": " ", "response": "Hi", "output": None},
        Conversation([user("Say hi."), assistant("Hi")], "Say hi.", "Hi", None),
    ),
    (
        "alpaca",
        {"instruction": "Say nothing.", "output": "", "score": float("nan")},
        Conversation([user("Say nothing."), assistant("")], "Say nothing.", None, None),
    ),
]


@pytest.mark.parametrize(("form", "row", "expected"), USABLE)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "array.json"])
def test_usable_rows(
    read: Read, form: FileFormat, row: Any, expected: Conversation, name: str
) -> None:
    if name == "array.json":
        data = json.dumps([row, row], indent=1).encode()
    else:
        data = b"\xef\xbb\xbf" + lines(row, row) + b"\r\n\n"
    if isinstance(row, list) and name == "rows.json":
        # Lines of arrays look like one array; they need the other ending.
        with pytest.raises(InputError, match=r"rows.json, line 2: not JSON \(Extra data"):
            read(data, form, name)
        return
    assert read(data, form, name) == [(1, expected), (2, expected)]


def test_parquet(tmp_path: Path) -> None:
    rows = [row for form, row, _ in USABLE if form == "messages"]
    path = tmp_path / "rows.parquet"
    pl.DataFrame(rows * 700, strict=False).write_parquet(path)
    found = list(read_rows(path, "messages"))
    assert [number for number, _ in found] == list(range(1, 1401))
    expected = [conversation for form, _, conversation in USABLE if form == "messages"]
    assert [row for _, row in found] == expected * 700


def test_numbers_that_json_lacks_become_null_in_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    frame = {"question": ["a"], "answer": ["b"], "score": [float("nan")], "day": ["2020-01-02"]}
    pl.DataFrame(frame).with_columns(pl.col("day").str.to_date()).write_parquet(path)
    [(_, row)] = read_rows(path, "gsm8k")
    assert isinstance(row, Conversation)
    assert row.metadata == '{"day": "2020-01-02", "score": null}'
    path = path.with_suffix(".jsonl")
    path.write_text('{"question": "a", "answer": "b", "x": 1e999, "y": Infinity}')
    [(_, row)] = read_rows(path, "gsm8k")
    assert isinstance(row, Conversation)
    assert row.metadata == '{"x": null}'


# Refused rows -----------------------------------------------------------------------------------

HUMAN = {"from": "human", "value": "q"}
REFUSED: list[tuple[FileFormat, Any, str]] = [
    ("messages", [], "the row is a list, not an object with keys"),
    ("messages", "text", "the row is text, not an object with keys"),
    ("messages", 3, "the row is a number, not an object with keys"),
    ("messages", None, "the row is null, not an object with keys"),
    ("messages", True, "the row is a boolean, not an object with keys"),
    ("messages", {}, "`messages` of the row is no list of messages"),
    ("messages", {"messages": []}, "`messages` of the row is no list of messages"),
    ("messages", {"messages": ["hi"]}, "message 1 is text, not an object with keys"),
    ("messages", {"messages": [user("q"), {"role": "user"}]}, "message 2 has no `content`"),
    (
        "messages",
        {"messages": [user("q"), {"role": "assistant", "content": [1]}]},
        "`content` of message 2 is a list, not text",
    ),
    ("messages", {"messages": [assistant("a")]}, "it has no user message"),
    ("messages", {"messages": [user(" \n"), assistant("a")]}, "its question is blank"),
    (
        "messages",
        {"messages": [user("q"), assistant("\ud800")]},
        "it holds half of a surrogate pair, which is not Unicode",
    ),
    ("orz", {"from": "human"}, "the row is not a list of two turns"),
    ("orz", [HUMAN], "the row is not a list of two turns"),
    ("orz", [HUMAN, 1], "turn 2 is a number, not an object with keys"),
    ("orz", [HUMAN, HUMAN], "its turns are not `from` a human and then an assistant"),
    ("orz", [HUMAN, {"from": "assistant"}], "`ground_truth` is null, not an object with keys"),
    (
        "orz",
        [HUMAN, {"from": "assistant", "ground_truth": {"value": 4}}],
        "`value` of `ground_truth` is a number, not text",
    ),
    ("gsm8k", {"question": "q"}, "the row has no `answer`"),
    ("gsm8k", {"question": 1, "answer": "a"}, "`question` of the row is a number, not text"),
    ("alpaca", {"instruction": "i"}, "the row has no `output`"),
    ("alpaca", {"instruction": "", "input": "x", "output": "a"}, "its question is blank"),
    (
        "alpaca",
        {"instruction": "i", "input": {}, "output": "a"},
        "`input` of the row is an object, not text",
    ),
]


@pytest.mark.parametrize(("form", "row", "reason"), REFUSED)
def test_refused_rows(read: Read, form: FileFormat, row: Any, reason: str) -> None:
    for name in ("rows.jsonl", "array.json"):
        data = lines(row) if name == "rows.jsonl" else json.dumps([row]).encode()
        [(number, error)] = read(data, form, name)
        assert (number, str(error)) == (1, reason)
        assert isinstance(error, RowError)
        shown = json.dumps(row, ensure_ascii=False)
        assert error.excerpt == shown.replace("\ud800", "?")


def test_lines_that_are_not_json_are_numbered_and_shown(read: Read) -> None:
    good = {"question": "q", "answer": "a"}
    bad = [b"{", b"\xff\xfe", b'{"question": "' + b"x" * 300, b"[" * 10**5, b"1" * 5000]
    data = b"\n\n".join([*bad, lines(good)])
    found = read(data, "gsm8k")
    assert [number for number, _ in found] == [1, 3, 5, 7, 9, 11]
    assert isinstance(found.pop()[1], Conversation)
    for (_, error), line in zip(found, bad, strict=True):
        assert isinstance(error, RowError)
        assert str(error).startswith("the line is not JSON (")
        assert error.excerpt == line.decode("utf-8", "replace")[:EXCERPT]


def test_what_is_nested_too_deeply_is_refused(read: Read) -> None:
    depth = 960  # the parser takes it, the writer of the metadata does not
    nested = b'{"question": "q", "answer": "a", "x": ' + b"[" * depth + b"]" * depth + b"}"
    [(_, row)] = read(nested, "gsm8k")
    assert isinstance(row, Conversation) or "nested too deeply" in str(row) or "JSON" in str(row)


# Files ------------------------------------------------------------------------------------------


def test_an_array_that_is_cut_off(read: Read) -> None:
    whole = json.dumps([{"question": "q", "answer": "a"}] * 3, indent=1)
    with pytest.raises(InputError, match=r"rows.json, line 11: not JSON \(.*cut off or damaged"):
        read(whole[: whole.rindex('"answer"')].rstrip().encode(), "gsm8k", "rows.json")


def test_an_array_that_is_not_text(read: Read) -> None:
    with pytest.raises(InputError, match=r"rows.json: not JSON \('utf-8' codec"):
        read(b'["\xff"]', "gsm8k", "rows.json")
    with pytest.raises(InputError, match=r"rows.json: not JSON \(maximum recursion"):
        read(b"[" * 10**5, "gsm8k", "rows.json")


def test_files_that_cannot_be_read(read: Read, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rows.csv: ends in none of .jsonl, .json, .parquet"):
        read(b"", "gsm8k", "rows.csv")
    for name in ("gone.jsonl", "gone.json", "gone.parquet"):
        with pytest.raises(InputError, match=f"{name}: cannot be read .No such file"):
            list(read_rows(tmp_path / name, "gsm8k"))
    with pytest.raises(InputError, match=r"my file: cannot be read \(Is a directory"):
        (tmp_path / "folder.jsonl").mkdir()
        list(read_rows(tmp_path / "folder.jsonl", "gsm8k", "my file"))


def test_a_damaged_parquet_file(read: Read, tmp_path: Path) -> None:
    frame = pl.DataFrame({"question": ["q" * 9, "r" * 9] * 999, "answer": ["a", "b"] * 999})
    frame.write_parquet(tmp_path / "whole.parquet")
    whole = bytearray((tmp_path / "whole.parquet").read_bytes())
    for damaged in (whole[:-9], b"PAR1", whole[:4] + b"\xff" * 60 + whole[64:]):
        with pytest.raises(InputError, match=r"after row 0: not readable as Parquet"):
            read(bytes(damaged), "gsm8k", "rows.parquet")


# Properties -------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OFTEN_TEXT = st.one_of(TEXT, st.just("q"), VALUES)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]) | VALUES, "content": OFTEN_TEXT}
)
TRUTHS = VALUES | st.fixed_dictionaries({"value": OFTEN_TEXT}, optional={"pass_at_n": VALUES})
ROWS = st.one_of(
    VALUES,
    st.fixed_dictionaries({"messages": VALUES | st.lists(MESSAGE)}, optional={"source": VALUES}),
    st.fixed_dictionaries({"question": OFTEN_TEXT, "answer": OFTEN_TEXT, "x": VALUES}),
    st.fixed_dictionaries(
        {"instruction": OFTEN_TEXT},
        optional={"input": OFTEN_TEXT, "output": OFTEN_TEXT, "response": OFTEN_TEXT},
    ),
    st.tuples(
        st.fixed_dictionaries({"from": st.just("human") | VALUES, "value": OFTEN_TEXT}),
        st.fixed_dictionaries({"from": st.just("assistant") | VALUES, "ground_truth": TRUTHS}),
    ),
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ROWS, max_size=5), st.sampled_from(sorted(ADAPTERS)), st.booleans())
def test_every_row_is_used_or_refused(
    read: Read, rows: list[Any], form: FileFormat, array: bool
) -> None:
    data = json.dumps(rows).encode() if array else lines(*rows)
    found = read(data, form, "rows.json" if array else "rows.jsonl")
    assert [number for number, _ in found] == list(range(1, len(rows) + 1))
    for _, row in found:
        if isinstance(row, RowError):
            assert str(row)
            assert len(row.excerpt) <= EXCERPT
            row.excerpt.encode()
            continue
        assert row.question.strip()
        assert {"role": "user", "content": row.question} in row.messages
        assert row.answer is None or {"role": "assistant", "content": row.answer} in row.messages
        assert row.metadata is None or json.loads(row.metadata, parse_constant=pytest.fail)
        pl.DataFrame([row._asdict()]).write_ndjson()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=60), st.sampled_from(["rows.jsonl", "rows.json", "rows.parquet"]))
def test_any_bytes_are_read_or_refused(read: Read, data: bytes, name: str) -> None:
    try:
        found = read(data, "gsm8k", name)
    except InputError as error:
        assert name in str(error)
    else:
        assert all(isinstance(row, RowError) for _, row in found)


# Generated problems -----------------------------------------------------------------------------


def test_generated_problems_depend_on_the_seed_and_can_be_verified() -> None:
    first = list(generate_rows("chain_sum", 20, {"max_terms": 3}, seed=1))
    assert first == list(generate_rows("chain_sum", 20, {"max_terms": 3}, seed=1))
    assert first != list(generate_rows("chain_sum", 20, {"max_terms": 3}, seed=2))
    assert [number for number, _ in first] == list(range(1, 21))
    for _, row in first:
        assert isinstance(row, Conversation)
        assert row.metadata is not None
        assert verify(f"#### {row.answer}", row.metadata) == 1.0
        assert verify("#### 1e9", row.metadata) < 1.0


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("no_such_set", {}, "no_such_set.*; correct its name or options"),
        ("chain_sum", {"max_term": 3}, "unexpected keyword argument 'max_term'"),
        ("chain_sum", {"max_terms": 0}, "cannot make the data set 'chain_sum'"),
    ],
)
def test_data_sets_that_reasoning_gym_refuses(
    name: str, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        next(generate_rows(name, 1, options, 0))


def test_a_generator_that_fails_costs_its_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from reasoning_gym.arithmetic.chain_sum import ChainSumDataset

    generate = ChainSumDataset.__getitem__

    def fail_once(self: Any, index: int) -> Any:
        return 1 // 0 if index == 1 else generate(self, index)

    monkeypatch.setattr(ChainSumDataset, "__getitem__", fail_once)
    rows = [row for _, row in generate_rows("chain_sum", 3, {}, 0)]
    assert [isinstance(row, Conversation) for row in rows] == [True, False, True]
    assert str(rows[1]).startswith("the generator failed (integer division")
