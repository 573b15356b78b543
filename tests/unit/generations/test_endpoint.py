"""Sampling through a server against sampling in this process, and servers that misbehave."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2_contingency

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.request import SCHEMA
from alignment_extraction.engine.sampling import sample
from alignment_extraction.engine.scoring import score
from alignment_extraction.files import InputError
from alignment_extraction.generations.endpoint import Endpoint
from alignment_extraction.generations.sampler import LlamaCpp, Sampler
from alignment_extraction.generations.server import KEY, Server
from alignment_extraction.settings.studies import LiteralPrefix
from tests.completions import Fake, Fault, LlamaServer

PREFIX, HEADER = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
MINE = LiteralPrefix(name="mine", text=PREFIX, end=HEADER)


@pytest.fixture(scope="module")
def llama_server(tiny_path: Path) -> Iterator[LlamaServer]:
    with LlamaServer(tiny_path) as server:
        yield server


def connect(url: str, **options: float) -> Endpoint:
    options = {"first_wait": 0.01, "tries": 4, "in_flight": 4} | options
    return Endpoint(Server(url, "tiny", **options))  # type: ignore[arg-type]


def draw(sampler: Endpoint, samples: int, **options: Any) -> pl.DataFrame:
    return sampler.draw(prefix=PREFIX, samples=samples, **options)


def same_distribution(first: list[str], second: list[str]) -> float:
    """p-value of a chi-square test of homogeneity; texts seen less than 10 times are pooled."""
    total = Counter(first) + Counter(second)
    names = [name for name, count in total.items() if count >= 10]
    tables = []
    for texts in (first, second):
        counts = Counter(texts)
        known = [counts[name] for name in names]
        tables.append([*known, len(texts) - sum(known)])
    table = np.array(tables)
    return float(chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue)


# A real server ---------------------------------------------------------------------------------


def test_a_real_server_draws_from_the_same_distribution(
    llama_server: LlamaServer, tiny: Model
) -> None:
    prefix = tiny.tokenize(PREFIX)
    with connect(llama_server.url) as sampler:
        found = draw(sampler, 500, seed=1, max_tokens=1)
        about = sampler.about(PREFIX)
    own = LlamaCpp(tiny).draw(prefix=prefix, samples=4000, seed=2, max_tokens=1)
    assert found.schema == own.schema == pl.Schema(SCHEMA)
    assert found["index"].to_list() == list(range(500))
    assert about["server"] == "me" and about["server_version"] not in ("", "unknown")
    # That server goes on until the bytes of a character are whole: such tokens count as one kind.
    firsts, values = [], []
    for frame in (found, own):
        ascii_alone = frame["question"].str.contains(r"^[ -~]+$")
        value = frame["question_log_likelihood"].fill_null(0.0)
        whole = ascii_alone & (value > -9)  # not several tokens
        firsts.append(pl.select(pl.when(whole).then(frame["question"]).otherwise(pl.lit("")))[:, 0])
        values.append(value.filter(whole).to_numpy())
    assert same_distribution(*map(list, firsts)) > 1e-3
    error = np.sqrt(sum(v.var() / len(v) for v in values))
    assert abs(values[0].mean() - values[1].mean()) < 4 * error < 0.5
    stops = [(frame["question_finish"] == "stop").mean() for frame in (found, own)]
    assert abs(stops[0] - stops[1]) < 4 * np.sqrt(0.06 * 0.94 / 500)
    # It can fail: the tail cut off, as that server does unless it is told otherwise.
    cut = sample(tiny, prefix, 500, seed=3, max_tokens=1, top_k=40, top_p=0.95, min_p=0.05)
    assert same_distribution(list(cut["question"]), list(firsts[1])) < 1e-6


def test_a_real_server_answers_its_own_questions(llama_server: LlamaServer, tiny: Model) -> None:
    turns = {"max_tokens": 40, "max_answer_tokens": 5}
    with connect(llama_server.url) as sampler:  # which takes texts alone
        turns |= sampler.asked(MINE, answers=True)
        found = sampler.draw(samples=12, seed=4, **turns)
        again = sampler.draw(samples=4, seed=4, first=8, **turns)
    stopped = found["question_finish"] == "stop"
    assert stopped.any() and (found["answer"].is_not_null() == stopped).all()
    assert found["question_tokens"].is_null().all()
    # A sample is the same whatever is drawn beside it.
    assert found[8:].equals(again)


def test_a_server_that_is_killed_ends_the_run_and_one_that_comes_back_does_not(
    tiny_path: Path,
) -> None:
    with LlamaServer(tiny_path) as server, connect(server.url) as sampler:
        whole = draw(sampler, 30, seed=5, max_tokens=8)
        server.process.kill()
        server.process.wait()
        with pytest.raises(
            InputError, match=r"no answer in 4 tries \(the last: ConnectError\); see"
        ):
            draw(sampler, 30, seed=5, max_tokens=8)
        # Patient enough for a server that has to start.
        sampler._server._tries, sampler._server._first_wait = 60, 0.5
        again = LlamaServer(tiny_path, server.port)
        starter = threading.Timer(0.5, again.__enter__)
        starter.start()
        try:
            resumed = draw(sampler, 10, first=20, seed=5, max_tokens=8)
        finally:
            starter.join()
            again.__exit__(None, None, None)
    assert resumed.equals(whole[20:])


# A server that speaks as vLLM does -------------------------------------------------------------


def test_token_ids_go_out_and_come_back(tiny: Model) -> None:
    prefix, header = tiny.tokenize(PREFIX), tiny.tokenize(HEADER)
    turns = {"max_tokens": 30, "max_answer_tokens": 6}
    with Fake(tiny).running() as fake, connect(fake.url) as sampler:
        turns |= sampler.asked(MINE, answers=True)
        found = sampler.draw(samples=21, seed=6, first=5, **turns)
        assert sampler.about(PREFIX) == {
            "sampler": "endpoint",
            "server": "vllm",
            "server_version": "0.26.0",
            "endpoint": fake.url,
            "model": "tiny",
            "model_sha256": "not known, as a server has it",
            "samples_per_request": "8",
            "prefix": PREFIX,
        }
        again = sampler.draw(samples=3, seed=6, first=16, **turns)
    assert found["index"].to_list() == list(range(5, 26))
    assert found[11:14].equals(again)
    assert (found["answer"].is_not_null() == (found["question_finish"] == "stop")).all()
    for row in found.iter_rows(named=True):
        assert tiny.detokenize(row["question_tokens"]) == row["question"]
        assert not tiny.eog.intersection(row["question_tokens"])
    asked = [body for body in fake.requests if body["max_tokens"] == 30]
    assert {body["n"] for body in asked} == {8}
    assert all(body["prompt"] == prefix for body in asked)
    for body in asked:
        assert body["temperature"] == 1 and body["top_p"] == 1 and body["top_k"] == -1
        assert body["repetition_penalty"] == 1
        assert body["stop"] == ["<|im_end|>"] and body["stop_token_ids"] == [tiny.eos]
    answers = [body for body in fake.requests if body["max_tokens"] == 6]
    assert answers and not any("stop" in body for body in answers)
    texts = {tuple(tiny.tokenize(text)) for text in found["question"]}
    for body in answers:
        middle = body["prompt"][len(prefix) : -len(header)]
        assert body["prompt"][: len(prefix)] == prefix and tuple(middle) in texts
        assert body["prompt"][-len(header) :] == header


def test_a_literal_asks_as_the_chat_template_does(tiny: Model) -> None:
    with Fake(tiny).running() as fake, connect(fake.url) as sampler:
        expected = LlamaCpp(tiny).asked("user", answers=True)
        found = sampler.asked(MINE, answers=True)
    assert tiny.tokenize(found["prefix"]) == expected["prefix"]
    assert tiny.tokenize(found["answer_header"]) == expected["answer_header"]
    assert found["end_text"] == "<|im_end|>" and found["tails"] == ("", "")


def test_a_headers_last_space_is_the_words(tiny: Model) -> None:
    plain = LiteralPrefix(name="mine", text="Q: ", end="\n\nA: ")
    with Fake(tiny).running() as fake, connect(fake.url) as sampler:
        asked = sampler.asked(plain, answers=True)
    assert (asked["prefix"], asked["answer_header"]) == ("Q:", "\n\nA:")
    assert asked["leads"] == (" ", " ") and asked["tails"] == ("\n\n", "")
    assert asked["end_text"] == "A:"


def test_likelihood_by_prompt_log_probabilities(tiny: Model) -> None:
    rows = ["What is the sum of 3 and 4?", "", "user", "word " * 600]
    texts = [(PREFIX, row, "<|im_end|>") for row in rows]
    with Fake(tiny).running() as fake, connect(fake.url) as sampler:
        found, lengths, ends = sampler.score(texts)
    tokens = [tiny.tokenize(row) for row in rows[:3]]
    assert lengths.tolist() == [*map(len, tokens), -1]  # the last is longer than the context
    assert ends.tolist() == [1, 1, 1, 0]
    own = score(tiny, [(tiny.tokenize(PREFIX), [*target, tiny.eos or 0]) for target in tokens])
    np.testing.assert_array_equal(found.offsets[:4], own.offsets)
    np.testing.assert_allclose(found.log_probabilities, own.log_probabilities, atol=1e-4)


def test_what_a_server_does_not_tell(llama_server: LlamaServer) -> None:
    with connect(llama_server.url) as sampler:
        with pytest.raises(InputError, match="gives no prompt_logprobs, so it cannot score"):
            sampler.score([("a", "b", "")])
        with pytest.raises(InputError, match="'user' cannot be derived without the model's file"):
            sampler.asked("user", answers=False)
        with pytest.raises(InputError, match="no answer can be drawn, as the assistant's header"):
            sampler.asked(LiteralPrefix(name="mine", text=PREFIX), answers=True)


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(429, retry_after="0"), Fault(429)],
        [Fault(500), Fault(503, body="<html>")],
        [Fault(body="no JSON")],
        [Fault(cut=True)],
        [Fault(seconds=8.0)],
    ],
    ids=["429", "500", "garbage", "cut", "slow"],
)
def test_passing_trouble_changes_no_sample(tiny: Model, faults: list[Fault]) -> None:
    with Fake(tiny).running() as fake, connect(fake.url) as sampler:
        right = draw(sampler, 40, seed=7, max_tokens=10)
    with Fake(tiny).running() as fake, connect(fake.url, timeout=4.0) as sampler:
        draw(sampler, 1, seed=0, max_tokens=1)
        fake.faults = list(faults)
        assert draw(sampler, 40, seed=7, max_tokens=10).equals(right)


def test_no_more_requests_at_once_than_asked_for(tiny: Model) -> None:
    faults = [Fault(seconds=0.05)] * 14
    with (
        Fake(tiny, faults=faults).running() as fake,
        connect(fake.url, in_flight=3) as sampler,
    ):
        seen: list[tuple[int, int]] = []
        draw(
            sampler,
            96,
            seed=0,
            max_tokens=2,
            progress=lambda done, tokens: seen.append((done, tokens)),
        )
    assert fake.most == 3
    assert seen[-1][0] == 96 and seen[-1][1] > 96


def test_trouble_that_does_not_pass(tiny: Model) -> None:
    with Fake(tiny).running() as fake, connect(fake.url) as sampler:
        draw(sampler, 1, seed=0, max_tokens=1)
        fake.faults, before = [Fault(500)] * 1000, len(fake.requests)
        start = time.monotonic()
        with pytest.raises(InputError, match=r"no answer in 4 tries \(the last: HTTP 500\); see"):
            draw(sampler, 4000, seed=0, max_tokens=1)
        # Of 500 requests few were begun.
        assert len(fake.requests) - before < 100 and time.monotonic() - start < 20


# Servers that are refused ----------------------------------------------------------------------


def test_chat_alone_is_refused(tiny: Model) -> None:
    with (
        Fake(tiny, chat_only=True).running() as fake,
        connect(fake.url) as sampler,
        pytest.raises(
            InputError, match=r"has no completions \(HTTP 404\), only chat perhaps, which"
        ),
    ):
        draw(sampler, 1, seed=0, max_tokens=1)


def test_a_server_that_adds_a_template_is_refused(tiny: Model) -> None:
    with (
        Fake(tiny, added=9).running() as fake,
        connect(fake.url) as sampler,
        pytest.raises(InputError, match="tokens in front of the model where the prompt has"),
    ):
        draw(sampler, 1, seed=0, max_tokens=1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"x": 1}, "an answer without `choices`"),
        (
            {"choices": [{"text": "a", "finish_reason": "content_filter"}] * 8},
            "by 'content_filter'",
        ),
        ({"choices": [{"text": "a", "finish_reason": "stop"}]}, "gave 1 of 8 completions"),
    ],
)
def test_answers_of_another_kind(tiny: Model, body: object, message: str) -> None:
    with Fake(tiny).running() as fake, connect(fake.url) as sampler:
        draw(sampler, 1, seed=0, max_tokens=1)
        fake.faults = [Fault(body=body)]
        with pytest.raises(InputError, match=message):
            draw(sampler, 1, seed=0, max_tokens=1)


def test_the_key_comes_from_the_environment_and_shows_nowhere(
    tiny: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Fake(tiny, key="right-key", faults=[Fault(500)]).running() as fake:
        monkeypatch.setenv(KEY, "wrong-key")
        with pytest.raises(InputError, match=f"refuses access .HTTP 401.; put its key into {KEY}"):
            connect(fake.url)
        monkeypatch.setenv(KEY, "right-key")
        with connect(fake.url) as sampler:
            draw(sampler, 1, seed=0, max_tokens=1)
            said = caplog.text + str(sampler.about(PREFIX))
        assert set(fake.keys) == {"Bearer right-key"}
    assert "again in" in said
    assert "right-key" not in said and "wrong-key" not in said


def test_a_model_that_is_not_served(tiny: Model) -> None:
    message = r"serves no model 'other' \(it has tiny\); correct"
    with Fake(tiny).running() as fake, pytest.raises(InputError, match=message):
        Server(fake.url, "other")
    with pytest.raises(InputError, match=r"no answer in 2 tries \(the last: ConnectError\)"):
        Server("http://127.0.0.1:9/v1", "tiny", tries=2, first_wait=0.01)


def test_both_are_samplers(tiny: Model) -> None:
    first: Sampler = LlamaCpp(tiny, slots=8)
    prefix = tiny.tokenize(PREFIX)
    assert first.about(prefix)["prefix"] == PREFIX
    frame = first.draw(prefix=prefix, samples=9, seed=8, max_tokens=5)
    assert frame.equals(sample(tiny, prefix, 9, seed=8, max_tokens=5, slots=8))
