"""Likelihoods against llama-cpp-python's own class, one text at a time, and closed forms."""

import json
from pathlib import Path

import llama_cpp
import numpy as np
import polars as pl
import pytest

from alignment_extraction.engine.model import Model
from alignment_extraction.files import InputError
from alignment_extraction.likelihoods.likelihood import compare, counts_above, select_rows, shifts
from alignment_extraction.vocabulary import CORPUS as SCHEMA
from tests.tiny_models import CHATML, make_tiny_gguf


def make_corpus(rows: list[tuple[str, str, str | None]], splits: list[str]) -> pl.DataFrame:
    """Rows of source and role given by the split's name: `rl.member`, `rl.fresh-instance`, ..."""
    return pl.DataFrame(
        [
            {
                "id": name,
                "source": split.split(".")[0],
                "role": "member" if split.endswith("member") else "held-out",
                "split": split.partition(".")[2] or None,
                "repetitions": 1,
                "question": question,
                "answer": answer,
            }
            for (name, question, answer), split in zip(rows, splits, strict=True)
        ],
        schema=SCHEMA,
    )


CORPUS = make_corpus(
    [
        ("a", "What is the sum of 3 and 4?", "7"),
        ("b", "Zoë 😀 <|im_end|>", None),
        ("c", "If I have 12 apples and give away 5, how many are left? " * 3, "The answer is 7."),
        ("d", "a", ""),
    ],
    ["rl.member", "rl.member", "rl.fresh-instance", "rl.held-out-template"],
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return (
        make_tiny_gguf(folder / "before.gguf", seed=1),
        make_tiny_gguf(folder / "after.gguf", seed=2),
    )


@pytest.fixture(scope="module")
def compared(paths: tuple[Path, Path]) -> pl.DataFrame:
    return compare(*paths, CORPUS, threads=1)


def naive(path: Path, context: str, text: str) -> tuple[int, float]:
    """Tokens of `text` and its log-likelihood after `context`, by `llama_cpp.Llama`."""
    llama = llama_cpp.Llama(
        str(path), logits_all=True, n_ctx=512, n_threads=1, vocab_only=False, verbose=False
    )
    # What the template writes is read with special tokens, what people say without.
    prompt = [
        token
        for piece, special in zip(context.split("\0"), [True, False, True], strict=False)
        for token in llama.tokenize(piece.encode(), add_bos=False, special=special)
    ]
    target = llama.tokenize(text.encode(), add_bos=False, special=False)
    llama.eval([*prompt, *target])
    logits = np.array(llama.scores[: len(prompt) + len(target)], np.float64)
    logits -= np.logaddexp.reduce(logits, axis=1, keepdims=True)
    places = np.arange(len(target)) + len(prompt) - 1
    return len(target), float(logits[places, target].sum())


@pytest.mark.parametrize("side", ["before", "after"])
def test_sums_are_those_of_one_text_at_a_time(
    compared: pl.DataFrame, paths: tuple[Path, Path], side: str
) -> None:
    path = paths[side == "after"]
    texts = {row["id"]: (row["question"], row["answer"]) for row in CORPUS.iter_rows(named=True)}
    for row in compared.iter_rows(named=True):
        question, answer = texts[row["id"]]
        if row["template"]:
            context = "<|im_start|>user\n"
            header = "<|im_end|>\n<|im_start|>assistant\n"
        else:
            context, header = "<|endoftext|>", "\n"
        text = question
        if row["target"] == "answer":
            context, text = "\0".join([context, question, header]), answer
        tokens, expected = naive(path, context, text)
        assert row["tokens"] == tokens
        # llama.cpp's kernels differ with the batch's shape, by up to 1e-3 nats a token.
        assert row[side] == pytest.approx(expected, abs=1e-3 * tokens)


def test_one_row_for_each_text_with_and_without_template(compared: pl.DataFrame) -> None:
    found = set(compared.select("id", "target", "template").iter_rows())
    texts = [("a", "question"), ("b", "question"), ("c", "question"), ("d", "question")]
    texts += [("a", "answer"), ("c", "answer")]
    assert found == {(*text, template) for text in texts for template in (True, False)}
    assert compared.height == len(found)
    groups = dict(compared.select("id", "group").iter_rows())
    assert groups == {
        "a": "rl.member",
        "b": "rl.member",
        "c": "rl.fresh-instance",
        "d": "rl.held-out-template",
    }
    assert set(compared.filter(id="a")["role"]) == {"member"}


def test_a_model_against_itself_does_not_shift(paths: tuple[Path, Path]) -> None:
    same = compare(paths[0], paths[0], CORPUS, threads=2)
    assert (same["before"] == same["after"]).all()


@pytest.mark.parametrize("with_template", ["neither", "before", "after"])
def test_models_without_a_chat_template(
    tmp_path: Path, paths: tuple[Path, Path], with_template: str
) -> None:
    bare = make_tiny_gguf(tmp_path / "bare.gguf", seed=3, chat_template=None)
    other = make_tiny_gguf(tmp_path / "other.gguf", seed=4, chat_template=None)
    pairs = {"neither": (bare, other), "before": (paths[0], bare), "after": (bare, paths[1])}
    found = compare(*pairs[with_template], CORPUS, threads=1)
    assert set(found["template"]) == ({False} if with_template == "neither" else {True, False})
    assert found["before"].null_count() == found["after"].null_count() == 0


def test_the_template_is_that_of_the_model_after_training(
    tmp_path: Path, paths: tuple[Path, Path]
) -> None:
    shouting = make_tiny_gguf(
        tmp_path / "x.gguf",
        seed=1,
        chat_template=CHATML.replace("'<|im_start|>'", "'<|im_start|>A'"),
    )
    # Equal weights: only the template can tell them apart, and both sides get the same.
    found = compare(paths[0], shouting, CORPUS, threads=1)
    assert (found["before"] == found["after"]).all()
    plain = compare(shouting, paths[0], CORPUS, threads=1)
    questions = found["template"] & (found["target"] == "question")
    difference = (found["before"] - plain["before"]).filter(questions)
    assert (difference.abs() > 0.01).all()
    bare = ~found["template"]
    np.testing.assert_allclose(
        found["before"].filter(bare), plain["before"].filter(bare), rtol=1e-4
    )


def test_different_vocabularies(tmp_path: Path, paths: tuple[Path, Path]) -> None:
    other = make_tiny_gguf(tmp_path / "other.gguf", vocab=600)
    with pytest.raises(InputError, match="different vocabularies"):
        compare(paths[0], other, CORPUS)


def test_texts_longer_than_the_context_are_null(tmp_path: Path, paths: tuple[Path, Path]) -> None:
    with Model(paths[0]) as model:
        longest = max(len(model.tokenize(text)) for text in CORPUS["question"])
    short = make_tiny_gguf(tmp_path / "short.gguf", seed=1, context=longest - 1)
    found = compare(short, paths[1], CORPUS, threads=1)
    expected = compare(paths[0], paths[1], CORPUS, threads=1)
    assert set(found.filter(pl.col("before").is_null())["id"]) == {"c"}
    assert found["after"].null_count() == 0
    fits = found["before"].is_not_null()
    np.testing.assert_allclose(
        found["before"].filter(fits), expected["before"].filter(fits), atol=1e-4
    )
    # And they count nowhere.
    assert "rl.fresh-instance" not in shifts(found, 0)["group"]
    assert "rl.fresh-instance" not in counts_above(found, [-10.0])["group"]


def test_no_text_fits(tmp_path: Path) -> None:
    path = make_tiny_gguf(tmp_path / "short.gguf", context=2)
    with pytest.raises(InputError, match="none of the 4 texts to score fits its context of 2 tok"):
        compare(path, path, CORPUS.head(1))


def test_select_rows() -> None:
    rows = [(str(i), "q", None) for i in range(9)]
    corpus = make_corpus(rows, ["rl.member", "rl.fresh-instance", "sft.member"] * 3)
    assert select_rows(corpus, [], None).equals(corpus)
    assert select_rows(corpus, ["rl"], 2)["id"].to_list() == ["0", "1", "3", "4"]
    with pytest.raises(InputError, match=r"source 'x' is not in the corpus \(it has rl, sft\)"):
        select_rows(corpus, ["x"], None)


def likelihoods(changes: dict[str, list[float]], tokens: int = 4) -> pl.DataFrame:
    """One row for each change (nats a token) of each group, from -2 nats a token."""
    rows = [
        {
            "id": f"{group}/{i}",
            "group": group,
            "role": "member" if group.endswith("member") else "held-out",
            "template": True,
            "target": "question",
            "tokens": tokens,
            "before": -2.0 * tokens,
            "after": (-2.0 + change) * tokens,
        }
        for group, values in changes.items()
        for i, change in enumerate(values)
    ]
    return pl.DataFrame(rows)


def test_shift_and_excess_are_differences_of_means() -> None:
    member, fresh = [0.5, 0.7, 0.9], [0.1, 0.3]
    table = shifts(likelihoods({"rl.member": member, "rl.fresh-instance": fresh}), seed=0)
    rows = {row["group"]: row for row in table.iter_rows(named=True)}
    own = rows["rl.member"]
    assert (own["n"], own["before"]) == (3, pytest.approx(-2))
    assert own["after"] == pytest.approx(-2 + np.mean(member))
    assert own["shift"] == pytest.approx(np.mean(member))
    assert own["excess"] == pytest.approx(np.mean(member) - np.mean(fresh))
    assert own["control"] == "rl.fresh-instance"
    assert min(member) <= own["shift_low"] < own["shift"] < own["shift_high"] <= max(member)
    assert own["excess_low"] < own["excess"] < own["excess_high"]
    assert rows["rl.fresh-instance"]["shift"] == pytest.approx(np.mean(fresh))
    names = ("control", "excess", "excess_low", "excess_high")
    assert [rows["rl.fresh-instance"][name] for name in names] == [None] * 4


@pytest.mark.parametrize(
    ("held_out", "control", "excess"),
    [
        ({"rl.fresh-instance": 0.1, "rl.held-out-template": 0.3}, "rl.fresh-instance", 0.9),
        ({"rl.a": 0.1, "rl.b": 0.3, "sft.c": 0.5}, "rl.a, rl.b", 0.8),
        ({"gsm8k-test": 0.4}, "gsm8k-test", 0.6),
        ({"x.a": 0.0, "y": 0.5}, "x.a, y", 0.75),
        ({}, None, None),
    ],
)
def test_the_closest_held_out_groups_are_the_control(
    held_out: dict[str, float], control: str | None, excess: float | None
) -> None:
    groups = {group: [change] * 5 for group, change in held_out.items()}
    table = shifts(likelihoods({"rl.member": [1.0] * 5, **groups}), seed=0)
    row = table.filter(group="rl.member").row(0, named=True)
    assert row["control"] == control
    assert row["excess"] == (None if excess is None else pytest.approx(excess))


def test_excess_covers_at_its_level() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for run in range(100):
        table = shifts(
            likelihoods(
                {
                    "rl.member": rng.normal(0.3, 0.5, 60).tolist(),
                    "rl.fresh-instance": rng.normal(0.1, 0.5, 60).tolist(),
                }
            ),
            seed=run,
        )
        row = table.filter(group="rl.member").row(0, named=True)
        covered += row["excess_low"] <= 0.2 <= row["excess_high"]
    assert covered >= 87  # 95 of 100, less three standard errors and the bootstrap's shortfall


def test_shifts_are_seeded() -> None:
    values = np.random.default_rng(0).normal(size=30).tolist()
    frame = likelihoods({"rl.member": values, "rl.fresh-instance": values[::2]})
    assert shifts(frame, 1).equals(shifts(frame, 1))
    assert not shifts(frame, 1).equals(shifts(frame, 2))


def test_counts_above_thresholds() -> None:
    frame = likelihoods({"rl.member": [0.0, 0.5, 1.0], "rl.fresh-instance": [0.25]})
    table = counts_above(frame, [-6.0, -8.0, -4.0])
    assert table.filter(group="rl.member").select("threshold", "n", "before", "after").rows() == [
        (-8, 3, 3, 3),
        (-6, 3, 0, 2),
        (-4, 3, 0, 1),
    ]
    per_token = counts_above(frame, [-1.75], per_token=True)
    assert per_token.select("group", "threshold", "n", "before", "after").rows() == [
        ("rl.fresh-instance", -1.75, 1, 0, 1),
        ("rl.member", -1.75, 3, 0, 2),
    ]


def test_smollm2_on_gsm8k_does_not_shift_against_itself(
    smollm2_path: Path, shared_data: Path
) -> None:
    rows, splits = [], []
    for split in ("train", "test"):
        path = shared_data / f"gsm8k_{split}.jsonl"
        if not path.exists():
            pytest.skip(f"{path.name} is missing in the shared data")
        for i, line in enumerate(path.read_text().splitlines()[:10]):
            entry = json.loads(line)
            # Two answers alone, and nothing long: the model has 135M parameters.
            answer = entry["answer"][:40] if i == 0 else None
            rows.append((f"{split}/{i}", entry["question"][:60], answer))
            splits.append("gsm8k.member" if split == "train" else "gsm8k.test")
    found = compare(smollm2_path, smollm2_path, make_corpus(rows, splits))
    assert found.height == 22 * 2
    assert (found["before"] == found["after"]).all()
    # English under a small model that has learnt it; chance would be -10.8 nats a token.
    assert -5 < (found["before"] / found["tokens"]).mean() < -1
    table = shifts(found, seed=0)
    values = table.filter(role="member").select(
        "shift", "shift_low", "shift_high", "excess", "excess_low", "excess_high"
    )
    assert (values.to_numpy() == 0).all()
    assert set(table["control"].drop_nulls()) == {"gsm8k.test"}
