"""Likelihoods against llama-cpp-python's own class, one text at a time, and closed forms."""

from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from alignment_extraction.engine.model import Model
from alignment_extraction.files import InputError
from alignment_extraction.likelihoods import likelihood as module
from alignment_extraction.likelihoods.likelihood import SCHEMA, likelihood, needed_rows, select_rows
from alignment_extraction.settings.studies import LiteralPrefix
from tests.tiny_models import CHATML, make_tiny_gguf

CORPUS = pl.DataFrame(
    [
        ("a", "What is the sum of 3 and 4?", "7"),
        ("b", "Zoë 😀 <|im_end|>", None),
        ("c", "If I have 12 apples and give away 5, how many are left? " * 3, "The answer is 7."),
        ("d", "a", ""),
    ],
    schema={"id": pl.String, "question": pl.String, "answer": pl.String},
    orient="row",
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf", seed=1)


@pytest.fixture(scope="module")
def scored(path: Path) -> pl.DataFrame:
    return likelihood(path, CORPUS, threads=1)


def naive(llama: llama_cpp.Llama, context: str, text: str) -> tuple[int, float]:
    """Tokens of `text` and its log-likelihood after `context`, by `llama_cpp.Llama`."""
    # What the template writes is read with special tokens, what people say without.
    prompt = [
        token
        for piece, special in zip(context.split("\0"), [True, False, True], strict=False)
        for token in llama.tokenize(piece.encode(), add_bos=False, special=special)
    ]
    target = llama.tokenize(text.encode(), add_bos=False, special=text == "<|im_end|>")
    llama.reset()
    llama.eval([*prompt, *target])
    logits = np.array(llama.scores[: len(prompt) + len(target)], np.float64)
    logits -= np.logaddexp.reduce(logits, axis=1, keepdims=True)
    places = np.arange(len(target)) + len(prompt) - 1
    return len(target), float(logits[places, target].sum())


def test_row_risk_takes_questions_after_the_prefix_alone(scored: pl.DataFrame, path: Path) -> None:
    own = likelihood(path, CORPUS, threads=1, scored="questions")
    right = scored.filter("template", target="question").drop("min_k_plus_plus")
    assert_frame_equal(own.drop("min_k_plus_plus"), right, rel_tol=1e-5)
    assert own["min_k_plus_plus"].null_count() == len(CORPUS)


def test_sums_are_those_of_one_text_at_a_time(scored: pl.DataFrame, path: Path) -> None:
    llama = llama_cpp.Llama(str(path), logits_all=True, n_ctx=512, n_threads=1, verbose=False)
    texts = {row["id"]: (row["question"], row["answer"]) for row in CORPUS.iter_rows(named=True)}
    for row in scored.iter_rows(named=True):
        question, answer = texts[row["id"]]
        if row["template"]:
            context = "<|im_start|>user\n"
            header = "<|im_end|>\n<|im_start|>assistant\n"
        else:
            context, header = "<|endoftext|>", "\n"
        assert row["prefix"] == context
        text = question
        if row["target"] == "answer":
            context, text = "\0".join([context, question, header]), answer
        tokens, expected = naive(llama, context, text)
        assert row["tokens"] == tokens
        # llama.cpp's kernels differ with the batch's shape, by up to 1e-3 nats a token.
        assert row["log_probability"] == pytest.approx(expected, abs=1e-3 * tokens)
        if row["template"] and row["target"] == "question":
            _, end = naive(llama, f"{context}\0{question}", "<|im_end|>")
            assert row["end"] == pytest.approx(end, abs=2e-3)
        else:
            assert row["end"] is None


def test_one_row_for_each_text_with_and_without_template(scored: pl.DataFrame) -> None:
    assert scored.schema == SCHEMA
    texts = [(name, "question") for name in "abcd"] + [("a", "answer"), ("c", "answer")]
    found = sorted(scored.select("id", "target", "template").iter_rows())
    assert found == sorted((*text, template) for text in texts for template in (True, False))


def test_rows_at_a_time_change_nothing(scored: pl.DataFrame, path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 1)
    keys = ["id", "target", "template"]
    again = likelihood(path, CORPUS, threads=1).sort(keys)
    np.testing.assert_allclose(
        again["log_probability"], scored.sort(keys)["log_probability"], atol=0.05
    )
    assert again.drop("log_probability", "end", "min_k", "min_k_plus_plus").equals(
        scored.sort(keys).drop("log_probability", "end", "min_k", "min_k_plus_plus")
    )


def test_a_base_model_takes_the_trained_models_template(tmp_path: Path, path: Path) -> None:
    base = make_tiny_gguf(tmp_path / "base.gguf", seed=1, chat_template=None)
    assert set(likelihood(base, CORPUS, threads=1)["template"]) == {False}
    # Equal weights: the same numbers in the trained model's template.
    assert likelihood(base, CORPUS, template_of=path, threads=1).equals(
        likelihood(path, CORPUS, threads=1)
    )
    other = make_tiny_gguf(tmp_path / "other.gguf", vocab=600)
    with pytest.raises(InputError, match="different vocabularies"):
        likelihood(other, CORPUS, template_of=path, threads=1)


def test_literal_prefixes(tmp_path: Path, path: Path, scored: pl.DataFrame) -> None:
    mine = LiteralPrefix(name="mine", text="<|im_start|>user\n")
    literal = likelihood(path, CORPUS, prefix=mine, threads=1)
    assert literal.equals(scored)
    base = make_tiny_gguf(tmp_path / "base.gguf", seed=1, chat_template=None)
    mine = mine.model_copy(update={"end": "<|im_end|>\n<|im_start|>assistant\n"})
    plain = likelihood(base, CORPUS, prefix=mine, threads=1)
    assert plain.filter("template").equals(scored.filter("template"))


@pytest.mark.parametrize("prefix", ["full", "user"])
def test_the_prefix_stands_before_the_question(tmp_path: Path, prefix: str) -> None:
    system = "{% if messages[0].role != 'system' %}<|im_start|>system\nA<|im_end|>\n{% endif %}"
    path = make_tiny_gguf(tmp_path / "system.gguf", seed=1, chat_template=system + CHATML)
    found = likelihood(path, CORPUS, prefix=prefix, threads=1).filter("template")
    before = "<|im_start|>system\nA<|im_end|>\n" if prefix == "full" else ""
    assert set(found["prefix"]) == {before + "<|im_start|>user\n"}


def test_an_answer_is_scored_in_one_pass_with_its_question(
    scored: pl.DataFrame, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []

    def score(model: Model, texts: list[Any], **options: Any) -> Any:
        passes.append(len(texts))
        return module_score(model, texts, **options)

    module_score = module.score
    monkeypatch.setattr(module, "score", score)
    assert_frame_equal(likelihood(path, CORPUS, threads=1), scored)
    assert passes == [len(CORPUS)] * 2
    # Where only the question fits the context, it is scored all the same.
    with Model(path, threads=1) as model:
        size = len(model.tokenize("<|im_start|>user\n" + CORPUS["question"][0]))
    short = make_tiny_gguf(path.with_name("short.gguf"), seed=1, context=size + 2)
    found = likelihood(short, CORPUS.filter(id="a"), threads=1)
    own = scored.filter("template", id="a", target="question")["log_probability"][0]
    given = found.filter("template", target="question")["log_probability"][0]
    assert given == pytest.approx(own, rel=1e-5)
    assert found.filter("template", target="answer")["log_probability"].null_count() == 1


def test_texts_too_long_for_the_context_are_null(tmp_path: Path) -> None:
    path = make_tiny_gguf(tmp_path / "short.gguf", context=32)
    found = likelihood(path, CORPUS, threads=1)
    long = found.filter((pl.col("id") == "c") & (pl.col("target") == "question"))
    assert long["log_probability"].null_count() == 2
    assert found.filter(id="d")["log_probability"].null_count() == 0
    with pytest.raises(InputError, match=r"none of the 4 texts to score fits its context"):
        likelihood(path, CORPUS.filter(id="c"), threads=1)


def test_a_question_that_begins_with_the_headers_last_character(path: Path) -> None:
    """Where its tokens would swallow the header's line end they follow the prefix all the same."""
    rows = pl.DataFrame({"id": ["x"], "question": ["\n\nWhat is it?"], "answer": ["\n7"]})
    found = likelihood(path, rows, threads=1).filter("template")
    with Model(path, threads=1) as model:
        tokens = len(model.tokenize("\n\nWhat is it?"))
    assert found["tokens"][0] == tokens
    assert found["log_probability"].is_finite().all()


def test_needed_rows() -> None:
    """Answers of held-out rows have nothing to be compared with where there are twins."""
    groups = [("x", "member"), ("x", "twin"), ("x", "held-out"), ("y", "member"), ("y", "held-out")]
    groups += [("y", "control")]
    rows = pl.DataFrame(groups, schema=["source", "role"], orient="row")
    rows = rows.with_columns(id=pl.Series(list("abcdef")), answer=pl.lit("7"))
    needed = needed_rows(rows)
    assert needed.drop_nulls("answer")["id"].to_list() == list("abde")
    assert needed["id"].to_list() == list("abcde")


def test_selected_rows() -> None:
    corpus = pl.DataFrame(
        {
            "source": ["x", "x", "x", "y"],
            "role": ["member", "twin", "member", "member"],
            "id": list("abcd"),
        }
    )
    assert sorted(select_rows(corpus, ["x"], 1)["role"]) == ["member", "twin"]
    assert select_rows(corpus, ["x"], 2)["id"].to_list() == ["a", "b", "c"]
    many = pl.DataFrame({"id": range(1000)}).with_columns(source=pl.lit("x"), role=pl.lit("y"))
    some, more = (select_rows(many, [], n)["id"] for n in (100, 300))
    assert len(some) == 100 and some.is_sorted() and set(some) < set(more)
    assert 400 < some.mean() < 600
    assert select_rows(corpus, [], None)["id"].to_list() == list("abcd")
    with pytest.raises(InputError, match=r"source 'z' is not in the corpus \(it has x, y\)"):
        select_rows(corpus, ["z"], None)
