"""What a row of each published format is: question, answer, turns, what else it holds; refusals."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alignment_extraction.corpora.conversations import Conversation, conversations, read_rows
from alignment_extraction.corpora.formats import at, parse
from alignment_extraction.corpora.rows import RowError
from alignment_extraction.corpora.transcript import transcript


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


Q, A = "Name a tree.", "Oak."
HUMAN = {"from": "human", "value": Q}
GPT = {"from": "gpt", "value": A}
TURNS = [{"role": "system", "content": "Be brief."}, user(Q), assistant(A), user("Bye")]
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]}
HH = f"\n\nHuman: {Q}\n\nAssistant: "
# What every one of these says: Q, then A. The last column is the metadata.
USABLE: dict[str, tuple[Any, Any]] = {
    "chat": ({"messages": TURNS}, None),
    "chat, greeting first": (
        {"messages": [assistant("Hi"), user(Q), assistant(A)], "id": 3, "gone": None},
        {"id": 3},
    ),
    "chat as JSON in a column": ({"messages": json.dumps(TURNS), "n": 1}, {"n": 1}),
    "WildChat": ({"conversation": [{**user(Q), "lang": "en"}, assistant(A)]}, None),
    "ShareGPT": ({"conversations": [HUMAN, GPT], "id": "x"}, {"id": "x"}),
    "ShareGPT with system": ({"conversations": [HUMAN, GPT], "system": "Be brief."}, None),
    "ShareGPT, role and content": ({"conversations": [user(Q), assistant(A)]}, None),
    "ShareGPT, other names": (
        {"conversations": [{"from": "User", "value": Q}, {"from": "chatgpt", "value": A}]},
        None,
    ),
    "content parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": Q}]}, assistant(A)]},
        None,
    ),
    "content parts with an image": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": Q}]},
                {"role": "assistant", "content": ["Oak", "."]},
            ]
        },
        None,
    ),
    "tool calls": (
        {"messages": [user(Q), CALL, {"role": "tool", "content": "5"}, assistant(A)], "tools": []},
        {"tools": []},
    ),
    "tool calls without content": (
        {"messages": [user(Q), {"role": "assistant", "tool_calls": []}, assistant(A)]},
        None,
    ),
    "UltraChat": ({"id": "0", "data": [Q, A, "And?", "Ash."]}, {"id": "0"}),
    "UltraChat 200k": (
        {"prompt": Q, "prompt_id": "0", "messages": [user(Q), assistant(A)]},
        {"prompt": Q, "prompt_id": "0"},
    ),
    "prompt and completion": ({"prompt": Q, "completion": f" {A}"}, None),
    "prompt and response": ({"prompt": Q, "response": A}, None),
    "prompt and completion, turns": ({"prompt": [user(Q)], "completion": [assistant(A)]}, None),
    "preferences": ({"prompt": Q, "chosen": A, "rejected": "No."}, {"rejected": "No."}),
    "preferences, turns": (
        {"prompt": [user(Q)], "chosen": [assistant(A)], "rejected": [assistant("No.")]},
        {"rejected": [assistant("No.")]},
    ),
    "preferences, whole": (
        {"prompt": Q, "chosen": [user(Q), assistant(A)], "rejected": [user(Q), assistant("No.")]},
        {"rejected": [user(Q), assistant("No.")]},
    ),
    "preferences, no prompt": (
        {"chosen": [user(Q), assistant(A)], "rejected": [user(Q), assistant("No.")]},
        {"rejected": [user(Q), assistant("No.")]},
    ),
    "Orca preferences": (
        {"system": "", "question": Q, "chosen": A, "rejected": "No."},
        {"rejected": "No.", "system": ""},
    ),
    "HH-RLHF": ({"chosen": HH + A, "rejected": HH + "No."}, {"rejected": HH + "No."}),
    "HH-RLHF, longer": ({"chosen": HH + A + "\n\nHuman: And?\n\nAssistant: Ash."}, None),
    "HH-RLHF prompts": ({"prompt": HH, "chosen": A}, None),
    "Alpaca": (
        {"instruction": Q, "input": "", "output": A, "text": "Below is ..."},
        {"text": "Below is ..."},
    ),
    "Dolly": (
        {"instruction": Q, "context": "", "response": A, "category": "open_qa"},
        {"category": "open_qa"},
    ),
    "self-instruct": (
        {"instruction": Q, "instances": [{"input": "", "output": A}], "id": "s0"},
        {"id": "s0", "instances": [{"input": "", "output": A}]},
    ),
    "OpenOrca": (
        {"system_prompt": "Be brief.", "question": Q, "response": A, "id": "1"},
        {"id": "1"},
    ),
    "Magpie": (
        {"conversations": [HUMAN, GPT], "instruction": Q, "response": A},
        {"instruction": Q, "response": A},
    ),
    "GSM8K": ({"question": Q, "answer": A}, None),
    "problem, solution, answer": (
        {"problem": Q, "solution": "Think.", "answer": A},
        {"solution": "Think."},
    ),
    "problem and solution": ({"problem": Q, "solution": A}, None),
    "capitals": ({"Question": Q, "Response": A, "Complex_CoT": "Hm."}, {"Complex_CoT": "Hm."}),
    "verl": (
        {"data_source": "own", "prompt": [user(Q)], "reward_model": {"ground_truth": A}},
        {"data_source": "own", "reward_model": {"ground_truth": A}},
    ),
    "ORZ training": (
        [HUMAN, {"from": "assistant", "ground_truth": {"value": A, "n": 1}}],
        {"n": 1},
    ),
    "ORZ evaluation": ({"prompt": [{"from": "user", "value": Q}], "final_answer": A}, None),
    "a list of turns": ([HUMAN, GPT], None),
    "OpenAssistant tree": (
        {
            "message_tree_id": "t",
            "prompt": {
                "role": "prompter",
                "text": Q,
                "replies": [
                    {"role": "assistant", "text": "Pine.", "rank": 1, "replies": []},
                    {"role": "assistant", "text": A, "rank": 0, "replies": []},
                ],
            },
        },
        {"message_tree_id": "t"},
    ),
    "Guanaco": ({"text": f"### Human: {Q}### Assistant: {A}### Human: And?"}, None),
    "Alpaca's template": (
        {"text": f"Below is a task.\n\n### Instruction:\n{Q}\n\n### Response:\n{A}"},
        None,
    ),
    "ChatML": (
        {"text": f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n{A}<|im_end|>\n"},
        None,
    ),
    "Llama 2": ({"text": f"<s>[INST] {Q} [/INST] {A} </s>"}, None),
    "Llama 3": (
        {
            "text": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
            f"{Q}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n{A}<|eot_id|>"
        },
        None,
    ),
    "Zephyr": ({"text": f"<|user|>\n{Q}</s>\n<|assistant|>\n{A}</s>"}, None),
}


@pytest.mark.parametrize("name", USABLE)
@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_usable_rows(tmp_path: Path, name: str, ending: str) -> None:
    row, metadata = USABLE[name]
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        if isinstance(row, list):
            pytest.skip("a row of Parquet has names")
        if any(
            isinstance(turn.get("content"), list)
            for turn in row.get("messages", [])
            if isinstance(turn, dict)
        ):
            pytest.skip("a column of Parquet has one type")
        pl.DataFrame([row] * 2, strict=False).write_parquet(path)
    else:
        lines = [json.dumps(row)] * 2
        path.write_text("\n".join(lines) if ending == "jsonl" else f"[{', '.join(lines)}]")
    for place, (number, found, _) in enumerate(read_rows(path), 1):
        assert number == place
        assert isinstance(found, Conversation), found
        assert (found.question, found.answer) == (Q, A)
        assert {"role": "user", "content": Q} in found.messages
        assert found.messages[1 + found.messages.index(user(Q))]["role"] == "assistant"
        if ending != "parquet":
            assert json.loads(found.metadata or "null") == metadata


def only(row: Any) -> Conversation:
    [found] = conversations(parse(row))
    return found


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"instruction": "Add.", "input": "1, 2", "output": "3"}, "Add.\n1, 2"),
        (
            {"instruction": "When?", "context": "It began in June.", "response": "June"},
            "When?\nIt began in June.",
        ),
        ({"question": "When?", "context": "In June.", "answer": "June"}, "When?\nIn June."),
        ({"input": "When?", "output": "June"}, "When?"),
        ({"instruction": "Add.", "instances": [{"input": "1", "output": "2"}]}, "Add.\n1"),
    ],
)
def test_the_context_belongs_to_the_question(row: Any, question: str) -> None:
    found = only(row)
    assert found.question == question
    assert found.metadata is None or "instances" in row


def test_the_system_turn_comes_first() -> None:
    for row in ("ShareGPT with system", "OpenOrca"):
        assert only(USABLE[row][0]).messages == TURNS[:3]
    assert only({"messages": TURNS, "system": "Other."}).messages == TURNS


def test_numbers_are_answers() -> None:
    assert only({"problem": "2+2?", "answer": 4}).answer == "4"
    truth = {"from": "assistant", "ground_truth": {"value": 0.5}}
    assert only([HUMAN, truth]).answer == "0.5"


def test_blank_answers_are_none() -> None:
    assert only({"instruction": Q, "output": " "}).answer is None
    assert only({"messages": [user(Q)]}).answer is None
    assert only({"messages": [user(Q), CALL, assistant("")]}).answer is None
    assert only({"prompt": [user(Q)]}).answer is None


def test_a_bare_text() -> None:
    found = only({"text": "Once upon a time.", "url": "x"})
    assert found == Conversation([], "Once upon a time.", None, '{"url": "x"}')
    # A heading is no marker of a turn.
    assert only({"text": "### Response: none"}).messages == []


def test_a_prompt_that_speaks_of_turns_is_no_transcript() -> None:
    prompt = "Explain what this does:\n### Instruction:\nAdd."
    assert only({"prompt": prompt, "completion": "It adds."}).question == prompt
    assert transcript("She said: Human: no") is None
    assert transcript("A preface.\n\nHuman: no") is None


REFUSED: list[tuple[Any, str]] = [
    ("text", "the row is text, not an object with keys"),
    (3, "the row is a number, not an object with keys"),
    (None, "the row is null, not an object with keys"),
    (True, "the row is a boolean, not an object with keys"),
    ([], "the row is not a list of turns"),
    ([1], "message 1 is a number, not an object with keys"),
    ([HUMAN, 1], "message 2 is a number, not an object with keys"),
    ([HUMAN, {"from": "assistant"}], "message 2 has no `content`"),
    ([GPT], "it has no user message"),
    ({"messages": []}, "`messages` of the row is no list of messages"),
    ({"messages": "none"}, "`messages` of the row is no list of messages"),
    ({"messages": [user(Q), "hi"]}, "message 2 is text, not an object with keys"),
    ({"messages": [user(Q), {"content": A}]}, "message 2 has no `role`"),
    (
        {"messages": [user(Q), {"role": 1, "content": A}]},
        "`role` of message 2 is a number, not text",
    ),
    ({"messages": [user(Q), {"role": "assistant"}]}, "message 2 has no `content`"),
    (
        {"messages": [user(Q), {"role": "assistant", "content": [1]}]},
        "`content` of message 2 is a list, not text",
    ),
    ({"messages": [assistant(A)]}, "it has no user message"),
    ({"messages": [user(" \n"), assistant(A)]}, "its question is blank"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, assistant(A)]},
        "its question is blank",
    ),
    ({"messages": [user(Q), CALL]}, "no assistant message after the question has text"),
    (
        {"messages": [user(Q), assistant("\ud800")]},
        "it holds bytes or half of a surrogate pair that are not Unicode; save it as UTF-8",
    ),
    ({"conversations": [GPT]}, "it has no user message"),
    ({"data": [" ", A]}, "its question is blank"),
    ({"prompt": Q, "completion": True}, "`completion` of the row is a boolean, not text"),
    ({"prompt": [1], "completion": A}, "message 1 is a number, not an object with keys"),
    ({"prompt": Q, "chosen": {"a": 1}}, "`chosen` of the row is an object, not text"),
    ({"chosen": [1]}, "message 1 is a number, not an object with keys"),
    ({"instruction": "", "input": "x", "output": "a"}, "its question is blank"),
    ({"instruction": Q, "input": {}, "output": "a"}, "`input` of the row is an object, not text"),
    (
        {"instruction": Q, "context": ["x"], "response": "a"},
        "`context` of the row is a list, not text",
    ),
    (
        {"instruction": Q, "instances": [{"input": "", "output": 1j}]},
        "`instances.0.output` of the row is no JSON value, not text",
    ),
    (
        {"prompt": [user(Q)], "reward_model": {"ground_truth": {}}},
        "`reward_model.ground_truth` of the row is an object, not text",
    ),
    ({"prompt": {"text": None, "role": "prompter", "replies": []}}, "message 1 has no `content`"),
    ({"text": " "}, "its question is blank"),
]


@pytest.mark.parametrize(("row", "reason"), REFUSED)
def test_refused_rows(row: Any, reason: str) -> None:
    with pytest.raises(RowError) as error:
        conversations(parse(row))
    assert str(error.value) == reason


@pytest.mark.parametrize(
    "row", [{}, {"title": "x", "url": "y"}, {"question": Q}, {"instruction": Q, "instances": [1]}]
)
def test_keys_that_no_format_has_are_named(row: dict[str, str]) -> None:
    keys = ", ".join(f"`{key}`" for key in row) or "it has none"
    with pytest.raises(RowError) as error:
        parse(row)
    assert str(error.value).startswith(f"none of its keys ({keys}) is known to hold a question")
    assert str(error.value).endswith("name them: --question-field KEY --answer-field KEY")


def test_dotted_paths() -> None:
    row = {"a.b": 1, "A": {"b": [{"C": 2}, 3]}, "n": None}
    assert [at(row, path) for path in ("a.b", "a.B.0.c", "a.b.1", "a.b.2")] == [1, 2, 3, None]
    assert [at(row, path) for path in ("n", "n.x", "z", "a.b.x", "")] == [None] * 5
