"""Rows of files as conversations: fields by name, turns, trees; every row is used or refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignment_extraction.corpora.conversations import Conversation, read_rows
from alignment_extraction.corpora.rows import EXCERPT, RowError

Read = Callable[..., list[tuple[int, Any]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def write_and_read(data: bytes | list[Any], name: str = "x.jsonl", **options: Any) -> Any:
        path = tmp_path / name
        if not isinstance(data, bytes):
            data = "\n".join(json.dumps(row) for row in data).encode()
        path.write_bytes(data)
        return [(number, row) for number, row, _ in read_rows(path, **options)]

    return write_and_read


def turns(*texts: str | None) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]}


def pairs(found: list[tuple[int, Any]]) -> list[Any]:
    return [
        (row.question, row.answer) if isinstance(row, Conversation) else str(row)
        for _, row in found
    ]


# Fields -----------------------------------------------------------------------------------------


def test_fields_by_name(read: Read) -> None:
    rows = [{"in": {"q": ["x", "Why?"]}, "Out": "So.", "question": "other"}, {"in": {"q": []}}]
    found = read(rows, question_field="in.q.1", answer_field="out")
    assert pairs(found) == [("Why?", "So."), "the row has no `in.q.1`"]
    assert json.loads(found[0][1].metadata) == {"in": rows[0]["in"], "question": "other"}
    # One of the two, the other under a known name; a question will do where no answer is named.
    assert pairs(read([{"q": "Why?", "output": "So."}], question_field="q")) == [("Why?", "So.")]
    assert pairs(read([{"q": "Why?"}], question_field="q")) == [("Why?", None)]
    row = {"instruction": "Why?", "input": "It is.", "gold": "So.", "output": "No."}
    assert pairs(read([row], answer_field="gold")) == [("Why?\nIt is.", "So.")]
    assert pairs(read([{"q": "Why?"}], question_field="q", answer_field="a")) == [
        "the row has no `a`"
    ]
    assert pairs(read([{"turns": turns("Why?", "So.")["messages"]}], question_field="turns")) == [
        ("Why?", "So.")
    ]


def test_fields_of_a_table(read: Read) -> None:
    data = b"Frage;Antwort\nWarum?;Darum.\n"
    found = read(data, "x.csv", question_field="Frage", answer_field="Antwort")
    assert pairs(found) == [("Warum?", "Darum.")]
    assert found[0][1].metadata is None


# Turns ------------------------------------------------------------------------------------------


def test_all_user_turns(read: Read) -> None:
    row = turns("q1", "a1", "q2", "a2", "q3")
    row["messages"].insert(0, {"role": "system", "content": "s"})
    assert pairs(read([row])) == [("q1", "a1")]
    found = read([row, turns("r", None)], turns="all")
    assert [number for number, _ in found] == [1, 1, 1, 2]
    assert pairs(found) == [
        *(("q1", "a1"), ("q2", "a2"), ("q3", None)),
        "no assistant message after the question has text",
    ]
    # Together they are the conversation.
    assert [turn for _, one in found[:3] for turn in one.messages] == row["messages"]
    # Turns that cannot be rows cost the others nothing.
    assert pairs(read([turns("q1", None, "", "x", "q2", "a2")], turns="all")) == [("q2", "a2")]
    two = [{"role": "user", "content": text} for text in ("q1", "q2")]
    two.append({"role": "assistant", "content": "a2"})
    assert pairs(read([{"messages": two}], turns="all")) == [("q1", None), ("q2", "a2")]
    assert pairs(read([{"messages": two}])) == [("q1", "a2")]


# OpenAssistant ----------------------------------------------------------------------------------


def message(tree: str, name: str, parent: str | None, text: str, **more: Any) -> dict[str, Any]:
    role = "prompter" if parent is None or parent.startswith("a") else "assistant"
    about = {"message_tree_id": tree, "message_id": name, "parent_id": parent}
    return {**about, "text": text, "role": role, **more}


def test_single_messages_are_put_into_trees(read: Read) -> None:
    rows = [
        message("t", "q", None, "Name a tree."),
        message("t", "a1", "q", "Pine.", rank=1),
        message("t", "a0", "q", "Oak.", rank=0),
        message("t", "q2", "a0", "And?"),
        {"question": "other", "answer": "row"},
        message("u", "b", None, "Why?"),
        message("v", "a3", "gone", "No root."),
    ]
    found = read(rows)
    assert [number for number, _ in found] == [1, 5, 6, 7]
    assert pairs(found) == [
        *(("Name a tree.", "Oak."), ("other", "row"), ("Why?", None)),
        "it has no user message",
    ]
    assert [turn["content"] for turn in found[0][1].messages] == ["Name a tree.", "Oak.", "And?"]
    # One that replies to itself, or to what comes later, hangs nothing up.
    odd = [message("t", "q", "q", "a"), message("t", "x", "y", "b"), message("t", "y", "x", "c")]
    assert len(read(odd)) == 1
    assert pairs(read(rows[:1], question_field="text")) == [("Name a tree.", None)]


# Metadata and refusals --------------------------------------------------------------------------


def test_numbers_that_json_lacks_become_null_in_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    frame = {"question": ["a"], "answer": ["b"], "score": [float("nan")], "day": ["2020-01-02"]}
    pl.DataFrame(frame).with_columns(pl.col("day").str.to_date()).write_parquet(path)
    [(_, row, _)] = read_rows(path)
    assert isinstance(row, Conversation)
    assert row.metadata == '{"day": "2020-01-02", "score": null}'
    path = path.with_suffix(".jsonl")
    path.write_text('{"question": "a", "answer": "b", "x": 1e999, "y": Infinity}')
    [(_, row, _)] = read_rows(path)
    assert isinstance(row, Conversation)
    assert row.metadata == '{"x": null}'


def test_refused_rows_keep_their_place_and_are_shown(read: Read) -> None:
    rows = [{"messages": []}, {"question": "é" * 300, "answer": True}, turns("q", "a")]
    found = read(rows)
    assert [number for number, _ in found] == [1, 2, 3]
    for (_, error), row in zip(found, rows[:2], strict=False):
        assert error.excerpt == json.dumps(row, ensure_ascii=False)[:EXCERPT]
    [(_, error)] = read(b'question,answer\n"\xff",a\n', "x.csv")
    assert str(error).endswith("that are not Unicode; save it as UTF-8")


def test_what_is_nested_too_deeply_is_refused(read: Read) -> None:
    depth = 960  # the parser takes it, the writer of the metadata does not
    nested = b'{"question": "q", "answer": "a", "x": ' + b"[" * depth + b"]" * depth + b"}"
    [(_, row)] = read(nested)
    assert isinstance(row, Conversation) or "nested too deeply" in str(row) or "JSON" in str(row)


# Properties -------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OFTEN_TEXT = st.one_of(TEXT, st.just("q"), VALUES)
PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": OFTEN_TEXT}), max_size=2)
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]) | VALUES,
        "content": OFTEN_TEXT | PARTS,
    }
)
SHARED = st.fixed_dictionaries(
    {"from": st.sampled_from(["human", "gpt", "system"]) | VALUES, "value": OFTEN_TEXT}
)
TRUTHS = VALUES | st.fixed_dictionaries({"value": OFTEN_TEXT}, optional={"pass_at_n": VALUES})
NODE = st.fixed_dictionaries(
    {
        "message_tree_id": st.sampled_from("tu"),
        "message_id": st.sampled_from("abc"),
        "parent_id": st.none() | st.sampled_from("abc"),
        "role": st.sampled_from(["prompter", "assistant"]),
        "text": OFTEN_TEXT,
        "rank": st.none() | st.integers(0, 2),
    }
)
LISTS = st.lists(MESSAGE, max_size=4) | st.lists(SHARED, max_size=4) | st.lists(TEXT, max_size=3)
KEYS = ["prompt", "chosen", "completion", "instruction", "input", "context", "output", "text"]
ROWS = st.one_of(
    VALUES,
    LISTS,
    st.fixed_dictionaries({"messages": VALUES | LISTS}, optional={"source": VALUES}),
    st.fixed_dictionaries({"conversations": LISTS}, optional={"system": VALUES}),
    st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, OFTEN_TEXT | LISTS)),
    NODE,
    st.tuples(
        st.fixed_dictionaries({"from": st.just("human") | VALUES, "value": OFTEN_TEXT}),
        st.fixed_dictionaries({"from": st.just("assistant") | VALUES, "ground_truth": TRUTHS}),
    ),
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ROWS, max_size=5), st.booleans(), st.booleans())
def test_every_row_is_used_or_refused(
    tmp_path: Path, rows: list[Any], array: bool, every: bool
) -> None:
    path = tmp_path / ("rows.json" if array else "rows.jsonl")
    path.write_text(json.dumps(rows) if array else "\n".join(map(json.dumps, rows)))
    found = list(read_rows(path, turns="all" if every else "first"))
    single = [isinstance(row, dict) and "message_tree_id" in row for row in rows]
    expected = [
        number
        for number, row in enumerate(rows, 1)
        if not (
            number > 1
            and single[number - 1]
            and single[number - 2]
            and rows[number - 2]["message_tree_id"] == row["message_tree_id"]
        )
    ]
    assert [number for number, _, turn in found if turn == 1] == expected
    for _, row, _ in found:
        if isinstance(row, RowError):
            assert str(row)
            assert len(row.excerpt) <= EXCERPT
            row.excerpt.encode()
            continue
        assert row.question.strip()
        assert not row.messages or {"role": "user", "content": row.question} in row.messages
        assert row.answer is None or {"role": "assistant", "content": row.answer} in row.messages
        assert row.metadata is None or json.loads(row.metadata, parse_constant=pytest.fail)
        pl.DataFrame([row._asdict()]).write_ndjson()
