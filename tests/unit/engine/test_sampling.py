"""Sampling: against llama_cpp.Llama, exact probabilities, and itself in other arrangements."""

import doctest
import itertools
import signal
from pathlib import Path

import llama_cpp
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from alignment_extraction.engine import sampling
from alignment_extraction.engine.context import Context
from alignment_extraction.engine.model import Model
from alignment_extraction.engine.request import SCHEMA
from alignment_extraction.engine.sampling import sample
from alignment_extraction.engine.scoring import score
from alignment_extraction.files import InputError
from tests.tiny_models import (
    END_OF_TEXT,
    END_OF_TURN,
    START_OF_TURN,
    make_tiny_gguf,
    quantize,
    tiny_tokenizer,
    tiny_weights,
    write_llama_gguf,
)

HEADER = "<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def prefix(tiny: Model):
    return tiny.tokenize("<|im_start|>user\n")


@pytest.fixture
def plain_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples drawn without flash attention, which on a CPU adds up in half precision."""

    def context(model: Model, **options: object) -> Context:
        return Context(model, **{**options, "flash_attention": False})

    monkeypatch.setattr(sampling, "Context", context)


def peer(path: Path, **options):
    """llama-cpp-python's own class, with flash attention as the sampler has it."""
    options = {"n_ctx": 512, "n_threads": 1, "flash_attn": True, **options}
    return llama_cpp.Llama(str(path), verbose=False, **options)


def scripted(path: Path, script: dict[int, int], vocab: int = 512, boost: float = 60.0) -> Path:
    """A model that follows each token of `script` with the given one, almost surely.

    Its layers add nothing, so the hidden state is the last token's embedding, which is made the
    output row of the token to come.
    """
    weights = tiny_weights(hidden=128, layers=1, vocab=vocab)
    for name, value in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            value[:] = 0
    rng = np.random.default_rng(5)
    output = rng.choice([-1.0, 1.0], (vocab, 128)).astype(np.float32)
    embedding = rng.choice([-1.0, 1.0], (vocab, 128)).astype(np.float32)
    for token, following in script.items():
        embedding[token] = output[following]
    weights["model.embed_tokens.weight"] = embedding
    weights["lm_head.weight"] = output * (boost / 128)
    return write_llama_gguf(path, weights, tiny_tokenizer(vocab), heads=4)


def chain(model: Model, *texts: str) -> dict[int, int]:
    """A script that writes `texts` one after the other; no token may come twice."""
    tokens = [token for text in texts for token in model.tokenize(text)]
    assert len(set(tokens)) == len(tokens), "a token cannot have two followers"
    return dict(itertools.pairwise(tokens))


def test_greedy_is_llama_cpps(smollm2: Model) -> None:
    prompts = [
        "<|im_start|>user\n",
        "<|im_start|>",
        "<|im_start|>user\nWhat",
        "The capital of France is",
        "def fibonacci(n):",
        "Once upon a time",
        "1 + 1 =",
        "😀",
        "世界",
        "<|im_start|>user\nWrite a poem<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nYou are a pirate.<|im_end|>\n<|im_start|>user\n",
        "A list of prime numbers: 2, 3,",
        "Dear Sir or Madam,",
        "import numpy as np\n",
        "The quick brown fox",
        "Q: Who wrote Hamlet?\nA:",
        "<|endoftext|>",
        "In mathematics, a group is",
        "| a | b |\n|---|---|\n",
        "To be or not to be",
    ]
    assert len(prompts) == 20
    llama = peer(smollm2.path)
    for prompt in prompts:
        tokens = smollm2.tokenize(prompt)
        made = sample(smollm2, tokens, 1, seed=0, max_tokens=8, temperature=0.0)
        answer = llama.create_completion(tokens, max_tokens=8, temperature=0.0, top_k=1)
        choice = answer["choices"][0]
        text = made["question"][0]
        # The peer goes beyond the limit to finish a character that is split over tokens.
        expected = (
            choice["text"][: len(text) - 1] + "\ufffd" if text[-1] == "\ufffd" else choice["text"]
        )
        assert text == expected, prompt
        assert choice["finish_reason"] == made["question_finish"][0], prompt
    llama.close()


def test_greedy_tokens_are_llama_cpps(tiny: Model, prefix) -> None:
    llama = peer(tiny.path)
    for i in range(20):
        start = [*prefix, 40 + 20 * i]
        expected = []
        for token in llama.generate(start, temp=0.0):
            if token in tiny.eog or len(expected) == 40:
                break
            expected.append(token)
        made = sample(tiny, start, 1, seed=0, max_tokens=40, temperature=0.0)
        assert made["question_tokens"][0].to_list() == expected
    llama.close()


def log_likelihood(llama: llama_cpp.Llama, context, target) -> float:
    """Sum of log-softmax over the logits of all positions, in float64."""
    llama.reset()
    llama.eval([*context, *target])
    logits = llama.scores[len(context) - 1 : len(context) + len(target) - 1].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(logits[np.arange(len(target)), target].sum())


def test_log_likelihoods_are_llama_cpps(tiny: Model, prefix, plain_attention) -> None:
    header = tiny.tokenize(HEADER)
    frame = sample(
        tiny,
        prefix,
        24,
        seed=3,
        max_tokens=30,
        temperature=0.8,  # what is recorded is the model's own distribution all the same
        answer_header=header,
        max_answer_tokens=30,
    )
    llama = peer(tiny.path, logits_all=True, flash_attn=False)
    answers = 0
    for row in frame.iter_rows(named=True):
        question = row["question_tokens"]
        stopped = row["question_finish"] == "stop"
        # Which end token was drawn is not recorded; this model hardly ever draws the other one.
        drawn = [*question, END_OF_TURN] if stopped else question
        expected = log_likelihood(llama, prefix, drawn)
        assert row["question_log_likelihood"] == pytest.approx(expected, abs=1e-3)
        if stopped:
            answers += 1
            answer = row["answer_tokens"]
            drawn = [*answer, END_OF_TURN] if row["answer_finish"] == "stop" else answer
            expected = log_likelihood(llama, [*prefix, *question, *header], drawn)
            assert row["answer_log_likelihood"] == pytest.approx(expected, abs=1e-3)
    assert answers > 5
    llama.close()


def test_log_likelihoods_of_a_real_model(smollm2: Model) -> None:
    """Quantised weights make a token's logits depend on how many tokens are fed at once.

    So the peer is fed as the sampler feeds a sequence: the prefix, then one token at a time.
    """
    prefix = smollm2.tokenize("<|im_start|>user\n")
    frame = sample(smollm2, prefix, 4, seed=1, max_tokens=16)
    llama = peer(smollm2.path, logits_all=True)
    for row in frame.filter(question_finish="length").iter_rows(named=True):
        llama.reset()
        llama.eval(prefix)
        expected = 0.0
        for token in row["question_tokens"]:
            logits = llama.scores[llama.n_tokens - 1].astype(np.float64)
            expected += logits[token] - logits.max() - np.log(np.exp(logits - logits.max()).sum())
            llama.eval([token])
        assert row["question_log_likelihood"] == pytest.approx(expected, abs=1e-3)
    llama.close()


def test_first_tokens_follow_the_softmax(tiny: Model, prefix) -> None:
    draws = 20_000
    frame = sample(tiny, prefix, draws, seed=11, max_tokens=1, slots=256)
    ended = frame["question_finish"] == "stop"
    tokens = np.concatenate([t.to_numpy() for t in frame["question_tokens"].filter(~ended)])
    everything = [(prefix, [token]) for token in range(tiny.n_vocab)]
    expected = draws * np.exp(score(tiny, everything).log_probabilities.astype(np.float64))
    observed = np.bincount(tokens, minlength=tiny.n_vocab)
    observed[END_OF_TURN] += ended.sum()
    likely = expected >= 5
    test = stats.chisquare(
        [*observed[likely], observed[~likely].sum()],
        np.array([*expected[likely], expected[~likely].sum()]) * draws / expected.sum(),
    )
    assert likely.sum() > 100
    assert test.pvalue > 1e-3


def test_later_tokens_follow_the_softmax(tiny: Model, prefix) -> None:
    """The second token, given the likeliest first one."""
    frame = sample(tiny, prefix, 20_000, seed=12, max_tokens=2, slots=256)
    rows = frame.filter(pl.col("question_tokens").list.len() == 2)["question_tokens"].to_numpy()
    pairs = np.stack(rows)
    first = int(np.bincount(pairs[:, 0]).argmax())
    seconds = pairs[pairs[:, 0] == first, 1]
    everything = [([*prefix, first], [token]) for token in range(tiny.n_vocab)]
    expected = np.exp(score(tiny, everything).log_probabilities.astype(np.float64))
    expected[list(tiny.eog)] = 0  # these end the turn and are not among the pairs
    expected *= len(seconds) / expected.sum()
    observed = np.bincount(seconds, minlength=tiny.n_vocab)
    likely = expected >= 5
    test = stats.chisquare(
        [*observed[likely], observed[~likely].sum()],
        [*expected[likely], expected[~likely].sum()],
    )
    assert len(seconds) > 300
    assert test.pvalue > 1e-3


@pytest.fixture(scope="module", params=["F32", "F16", "Q8_0", "Q4_0"])
def any_type(request, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("types")
    path = make_tiny_gguf(folder / "a.gguf", seed=2, hidden=256, half=request.param != "F32")
    if request.param in ("Q8_0", "Q4_0"):
        path = quantize(path, folder / "q.gguf", file_type=f"MOSTLY_{request.param}")
    with Model(path, threads=1) as model:
        yield model


@pytest.mark.parametrize("answer", [False, True])
def test_same_samples_in_any_arrangement(any_type: Model, answer: bool) -> None:
    """Bit for bit: other slots, parts, order; with and without an answer turn."""
    model = any_type
    prefix = model.tokenize("<|im_start|>user\n")
    options = {"seed": 5, "max_tokens": 30, "temperature": 1.0}
    if answer:
        options |= {"answer_header": model.tokenize(HEADER), "max_answer_tokens": 20}
    whole = sample(model, prefix, 90, slots=64, **options)
    assert whole["index"].to_list() == list(range(90))
    for slots in (1, 8, 24, 100, 256):
        assert_frame_equal(sample(model, prefix, 90, slots=slots, **options), whole, rel_tol=0)
    parts = [
        sample(model, prefix, n, first=first, slots=16, **options)
        for first, n in ((40, 50), (0, 1), (1, 39))
    ]
    assert_frame_equal(pl.concat(parts).sort("index"), whole, rel_tol=0, abs_tol=0)


def test_same_samples_of_a_real_model(smollm2: Model) -> None:
    prefix = smollm2.tokenize("<|im_start|>user\n")
    whole = sample(smollm2, prefix, 20, seed=5, max_tokens=16, slots=24)
    part = sample(smollm2, prefix, 6, seed=5, first=14, max_tokens=16, slots=8)
    assert_frame_equal(part, whole[14:], rel_tol=0, abs_tol=0)


def test_seeds_differ_and_repeat(tiny: Model, prefix) -> None:
    one, again, other = (sample(tiny, prefix, 40, seed=s, max_tokens=10) for s in (1, 1, 2))
    assert_frame_equal(one, again, rel_tol=0, abs_tol=0)
    assert one["question_tokens"].to_list() != other["question_tokens"].to_list()
    assert one["question"].n_unique() > 30


@pytest.mark.parametrize("end", [END_OF_TURN, END_OF_TEXT])
def test_every_end_token_stops(tiny: Model, tmp_path: Path, end: int) -> None:
    script = chain(tiny, "<|im_start|>", "What is")
    last = tiny.tokenize("What is")[-1]
    with Model(scripted(tmp_path / "s.gguf", script | {last: end})) as model:
        frame = sample(model, [START_OF_TURN], 3, seed=0, max_tokens=20)
    assert frame["question"].to_list() == ["What is"] * 3
    assert frame["question_finish"].to_list() == ["stop"] * 3
    assert frame["question_tokens"][0].to_list() == tiny.tokenize("What is")
    assert frame["answer"].to_list() == [None] * 3
    assert frame.schema == SCHEMA


def test_limit(tiny: Model, tmp_path: Path) -> None:
    script = chain(tiny, "<|im_start|>", "What is the")
    with Model(scripted(tmp_path / "s.gguf", script)) as model:
        frame = sample(model, [START_OF_TURN], 2, seed=0, max_tokens=2)
    assert frame["question_tokens"][0].to_list() == tiny.tokenize("What is the")[:2]
    assert frame["question_finish"].to_list() == ["length"] * 2


@pytest.mark.parametrize("ending", ["length", "stop"])
def test_end_at_the_limit(tiny: Model, tmp_path: Path, ending: str) -> None:
    """The end token may still come where the limit is not yet reached, and is not counted."""
    tokens = tiny.tokenize("What is the")
    script = chain(tiny, "<|im_start|>", "What is the") | {tokens[-1]: END_OF_TURN}
    room = len(tokens) + (ending == "stop")
    with Model(scripted(tmp_path / "s.gguf", script)) as model:
        frame = sample(model, [START_OF_TURN], 1, seed=0, max_tokens=room)
    assert frame["question"][0] == "What is the"
    assert frame["question_finish"][0] == ending


def test_answer_continues_in_the_same_cache(tiny: Model, prefix, plain_attention) -> None:
    """Greedy question and answer are what a fresh prompt with everything before them gives."""
    header = tiny.tokenize(HEADER)
    turns = {"answer_header": header, "max_answer_tokens": 12}
    frame = sample(tiny, prefix, 60, seed=2, max_tokens=25, **turns)
    answered = frame.filter(question_finish="stop")
    assert len(answered) > 10
    assert frame.filter(question_finish="length")["answer"].null_count() == 60 - len(answered)
    for row in answered.head(10).iter_rows(named=True):
        # The answer's likelihood given all that came before, by the other engine.
        ended = [END_OF_TURN] if row["answer_finish"] == "stop" else []
        context = [*prefix, *row["question_tokens"], *header]
        scores = score(tiny, [(context, [*row["answer_tokens"], *ended])])
        assert row["answer_log_likelihood"] == pytest.approx(scores.sums()[0], abs=1e-3)


@pytest.mark.parametrize("header_length", [1, 2, 7])
def test_answer_header_of_any_length(tiny: Model, tmp_path: Path, header_length: int) -> None:
    question, answer = tiny.tokenize("What is"), tiny.tokenize(" apples")
    header = tiny.tokenize("\n0123456789")[:header_length]
    script = (
        dict(zip([START_OF_TURN, *question], [*question, END_OF_TURN], strict=True))
        | {header[-1]: answer[0]}
        | dict(zip(answer, [*answer[1:], END_OF_TEXT], strict=True))
    )
    with Model(scripted(tmp_path / "s.gguf", script)) as model:
        frame = sample(
            model,
            [START_OF_TURN],
            2,
            seed=0,
            max_tokens=9,
            answer_header=header,
            max_answer_tokens=9,
        )
    assert frame["question"].to_list() == ["What is"] * 2
    assert frame["answer"].to_list() == [" apples"] * 2
    assert frame["answer_finish"].to_list() == ["stop"] * 2


def test_header_that_the_model_writes_itself(tiny: Model, tmp_path: Path) -> None:
    """In templates without an end token after the user, the header is what ends the question."""
    header = "\n[A]\n"
    written = ["<|im_start|>", "What is 1", "\n[A", "]", " apples"]
    script = chain(tiny, *written) | {tiny.tokenize(" apples")[-1]: END_OF_TURN}
    with Model(scripted(tmp_path / "s.gguf", script)) as model:
        options = {"seed": 0, "max_tokens": 30, "end_text": header}
        alone = sample(model, [START_OF_TURN], 2, **options)
        answered = sample(
            model,
            [START_OF_TURN],
            2,
            answer_header=model.tokenize(header),
            max_answer_tokens=9,
            **options,
        )
        without = sample(model, [START_OF_TURN], 2, seed=0, max_tokens=30)
    assert without["question"].to_list() == ["What is 1\n[A] apples"] * 2
    for frame in (alone, answered):
        assert frame["question"].to_list() == ["What is 1"] * 2
        assert frame["question_tokens"].to_list() == [tiny.tokenize("What is 1")] * 2
        assert frame["question_finish"].to_list() == ["stop"] * 2
    assert alone["answer"].to_list() == [None] * 2
    assert answered["answer"].to_list() == [" apples"] * 2
    assert answered["answer_finish"].to_list() == ["stop"] * 2


def test_a_line_ends_a_question(tiny: Model, tmp_path: Path) -> None:
    """White space ends a question where nothing else stands between it and the answer."""
    script = chain(tiny, "<|im_start|>", "What is 1", "\n", " apples")
    script |= {tiny.tokenize(" apples")[-1]: END_OF_TURN}
    with Model(scripted(tmp_path / "s.gguf", script)) as model:
        header, options = model.tokenize("\n"), {"seed": 0, "max_tokens": 30, "end_text": "\n"}
        frame = sample(
            model, [START_OF_TURN], 2, answer_header=header, max_answer_tokens=9, **options
        )
    assert frame["question"].to_list() == ["What is 1"] * 2
    assert frame["question_tokens"].to_list() == [tiny.tokenize("What is 1")] * 2
    assert frame["question_finish"].to_list() == ["stop"] * 2
    assert frame["answer"].to_list() == [" apples"] * 2


def test_characters_split_over_tokens(tiny: Model, tmp_path: Path) -> None:
    text = "世😀é"
    script = chain(tiny, "<|im_start|>", text) | {tiny.tokenize(text)[-1]: END_OF_TURN}
    assert len(tiny.tokenize(text)) == 9  # bytes
    with Model(scripted(tmp_path / "s.gguf", script)) as model:
        frame = sample(model, [START_OF_TURN], 1, seed=0, max_tokens=20)
        cut = sample(model, [START_OF_TURN], 1, seed=0, max_tokens=5)
    assert frame["question"][0] == text
    assert cut["question"][0] == "世\ufffd"


def test_special_tokens_never_leak(tiny: Model, tmp_path: Path) -> None:
    what, is_ = tiny.tokenize("What is")[:2]
    script = {what: START_OF_TURN, START_OF_TURN: is_, is_: END_OF_TURN}
    with Model(scripted(tmp_path / "s.gguf", script)) as model:
        frame = sample(model, [what], 1, seed=0, max_tokens=20)
    assert frame["question_tokens"][0].to_list() == [START_OF_TURN, is_]
    assert frame["question"][0] == tiny.detokenize([is_])


def test_special_tokens_never_leak_from_a_real_model(smollm2: Model) -> None:
    prefix = smollm2.tokenize("<|im_start|>")
    frame = sample(smollm2, prefix, 32, seed=0, max_tokens=24, temperature=1.5)
    assert not frame["question"].str.contains("<|im_", literal=True).any()
    assert not frame["question"].str.contains("<|endoftext|>", literal=True).any()


def test_long_prefix_is_decoded_in_pieces(tmp_path: Path, plain_attention) -> None:
    path = make_tiny_gguf(tmp_path / "long.gguf", context=2048)
    with Model(path, threads=1) as model:
        prefix = [START_OF_TURN, *np.random.default_rng(0).integers(3, 512, 1300).tolist()]
        frame = sample(model, prefix, 2, seed=0, max_tokens=6, end_text="")
        for row in frame.iter_rows(named=True):
            ended = [END_OF_TURN] if row["question_finish"] == "stop" else []
            sums = score(model, [(prefix, [*row["question_tokens"], *ended])]).sums()
            assert row["question_log_likelihood"] == pytest.approx(sums[0], abs=1e-3)


def test_progress_counts_samples_and_tokens(tiny: Model, prefix) -> None:
    calls: list[tuple[int, int]] = []
    frame = sample(
        tiny, prefix, 50, seed=0, max_tokens=20, slots=8, progress=lambda *c: calls.append(c)
    )
    done = [samples for samples, _ in calls]
    assert done == sorted(done)
    assert done[-1] == 50
    ends = (frame["question_finish"] == "stop").sum()
    assert calls[-1][1] == frame["question_tokens"].list.len().sum() + ends
    assert len(calls) > 10


def test_interruption_frees_everything(tiny: Model, prefix) -> None:
    def interrupt(_: int, __: int) -> None:
        signal.raise_signal(signal.SIGINT)

    # A shell that starts tests in the background has them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                sample(tiny, prefix, 5, seed=0, max_tokens=5, progress=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(sample(tiny, prefix, 5, seed=0, max_tokens=5)) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "number of samples must be at least 1, not 0"),
        ({"seed": -1}, r"seed must be from 0 to 2\^63 - 1, not -1"),
        ({"seed": 2**63}, r"seed must be from 0 to 2\^63 - 1"),
        ({"first": -1}, "first sample must be at least 0, not -1"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, not 0"),
        ({"answer_header": [5]}, "max_answer_tokens must be at least 1, not 0"),
        ({"max_answer_tokens": 3}, "max_answer_tokens is 3 but no answer_header is given"),
        ({"slots": 0}, "slots must be from 1 to 256, not 0"),
        ({"slots": 257}, "slots must be from 1 to 256, not 257"),
        ({"prefix": []}, "prefix is empty"),
        ({"prefix": [1, 512]}, r"prefix: token 512 is outside the vocabulary .* \(0 to 511\)"),
        ({"answer_header": [-1], "max_answer_tokens": 1}, "answer_header: token -1 is outside"),
        ({"prefix": [1] * 510}, r"prefix \(510 tokens\), .* need 514 tokens, more than the 512"),
        ({"temperature": -1}, "temperature must be"),
        ({"top_p": 0}, "top_p must be"),
    ],
)
def test_values_out_of_range(tiny: Model, options, message) -> None:
    given = {"prefix": [START_OF_TURN], "n": 1, "seed": 0, "max_tokens": 4} | options
    with pytest.raises(InputError, match=message):
        sample(tiny, given.pop("prefix"), given.pop("n"), **given)


def test_recurrent_model(tiny: Model, monkeypatch) -> None:
    monkeypatch.setattr(tiny, "forgets", False)
    with pytest.raises(InputError, match=r"tiny\.gguf: a recurrent model"):
        sample(tiny, [START_OF_TURN], 1, seed=0, max_tokens=4)


def test_context_that_does_not_fit(tiny: Model) -> None:
    with pytest.raises(InputError, match=r"tiny\.gguf: llama\.cpp cannot make a context of 300"):
        Context(tiny, sequences=300, positions=256, batch=8, outputs=8)


def test_batch_that_is_refused(tiny: Model) -> None:
    with Context(tiny, sequences=1, positions=256, batch=8, outputs=8) as context:
        context.tokens[0], context.positions[0], context.sequences[0] = 5, 0, 7
        with pytest.raises(RuntimeError, match="llama_decode gave -1: "):
            context.decode(1)
    context.close()


def test_example(tiny_path: Path) -> None:
    found = doctest.testmod(sampling, extraglobs={"path": tiny_path})
    assert found.attempted
    assert not found.failed
