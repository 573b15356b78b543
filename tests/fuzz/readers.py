"""A fuzz run over what reads strangers' files: GGUF headers, llama.cpp's loader, rows of data sets.

    python tests/fuzz/readers.py --seconds 3600 --output fuzz.json

Valid files are damaged at random (bytes, integers, blocks, splices) and read. A reader may take a
file or refuse it with an `InputError`; anything else is a finding: another exception, more than
ten seconds of processor time, a row that breaks its promises. llama.cpp's loader may die, since
models are first loaded in a process of their own (`engine.model.probe`); how often is counted.
What execution n does depends on the seed and n alone, and the first input of each kind of finding
or death is kept. `last_run.json` is the outcome of the last long run.
"""

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

os.environ["GGML_NO_BACKTRACE"] = "1"

from alignment_extraction.corpora.conversations import Conversation, read_rows
from alignment_extraction.corpora.rows import EXCERPT
from alignment_extraction.engine.model import Model
from alignment_extraction.files import InputError, write_json
from alignment_extraction.models.gguf_file import check_gguf
from tests.tiny_models import make_tiny_gguf

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".csv.zst", ".parquet")
SECONDS = 10  # of processor time that one file may take
MEMORY = 4 << 30  # bytes of address space that llama.cpp's loader may ask for
INTEGERS = [0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60]
INTEGERS += [2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 8]
ROWS = [
    '{"messages": [{"role": "user", "content": "\\u00e9"}, {"role": "assistant", "content": "b"}]}',
    '{"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "x"}], "n": 1e9}',
    '{"question": "2+2?", "answer": "<<2+2=4>>4", "more": [1, null, {"a": "\\ud83d\\ude00"}]}',
    '{"instruction": "Do", "input": "this", "output": "done"}',
    '{"instruction": "Do", "response": "done"}',
    '[{"from": "human", "value": "q"}, {"from": "assistant", "ground_truth": {"value": "7"}}]',
    '{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}',
    '{"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}], "tools": null}',
    '{"prompt": [{"role": "user", "content": "q"}], "reward_model": {"ground_truth": "7"}}',
    '{"prompt": "q", "chosen": "a", "rejected": "b"}',
    '{"chosen": "\\n\\nHuman: q\\n\\nAssistant: a"}',
    '{"text": "<|im_start|>user\\nq<|im_end|>\\n<|im_start|>assistant\\na<|im_end|>"}',
    '{"message_tree_id": "t", "parent_id": null, "role": "prompter", "text": "q"}',
    '{"instruction": "Do", "instances": [{"input": "", "output": "done"}]}',
]

Generator = np.random.Generator


class Target(NamedTuple):
    """Something that reads a file, and how often it is tried in a hundred executions."""

    name: str
    share: int
    make: Callable[[Generator], bytes]
    read: Callable[[bytes, Generator, Path], str]


def damage(data: bytes, rng: Generator, reach: int) -> bytes:
    """Random edits, most within the first `reach` bytes; half of the inputs have one alone."""
    out = bytearray(data)
    for _ in range(rng.geometric(0.5)):
        if not out:
            break
        end = min(reach, len(out)) if rng.random() < 0.9 else len(out)
        at = int(rng.integers(0, end))
        kind = int(rng.choice(8, p=[0.2, 0.2, 0.15, 0.15, 0.075, 0.075, 0.075, 0.075]))
        size = int(2 ** rng.uniform(0, 10))
        if kind == 0:
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            out[at] = int(rng.integers(0, 256))
        elif kind in (2, 3):
            width = int(rng.choice([4, 8]))
            value = INTEGERS[rng.integers(0, len(INTEGERS))] % 2 ** (8 * width)
            out[at : at + width] = value.to_bytes(width, "little")
        elif kind == 4:
            del out[at : at + size]
        elif kind == 5:
            out[at:at] = out[at : at + size] * int(rng.integers(1, 5))
        elif kind == 6:
            out[at:at] = rng.bytes(size)
        else:
            start = int(rng.integers(0, len(out)))
            out[at : at + size] = out[start : start + size]
    if rng.random() < 0.1:
        del out[int(rng.integers(0, len(out) + 1)) :]
    return bytes(out)


def read_header(data: bytes, rng: Generator, folder: Path) -> str:
    """The check that every fetched model passes before anything else opens it."""
    path = folder / "damaged.gguf"
    path.write_bytes(data)
    check_gguf(path)
    return "accepted"


def load_model(data: bytes, rng: Generator, folder: Path) -> str:
    """The check and then llama.cpp's loader, in a process of its own, which may die."""
    read_header(data, rng, folder)
    child = os.fork()
    if child == 0:
        status = 3
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (2 * SECONDS, 2 * SECONDS))
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            with Model(folder / "damaged.gguf", threads=1) as model:
                model.tokenize("What is <|im_start|> 2?")
            status = 0
        except InputError:
            status = 1
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"died of {signal.Signals(os.WTERMSIG(status)).name}"
    if os.WEXITSTATUS(status) == 3:
        raise RuntimeError("another exception than InputError")
    return ("accepted", "refused")[os.WEXITSTATUS(status)]


def read_data(data: bytes, rng: Generator, folder: Path) -> str:
    """Every row of a data set, with or without a named field, of a random file type."""
    path = folder / f"rows{ENDINGS[rng.integers(0, len(ENDINGS))]}"
    path.write_bytes(data)
    field = None if rng.random() < 0.5 else ("question", "text", "messages")[rng.integers(0, 3)]
    turns = ("first", "all")[rng.integers(0, 2)]
    for number, row, _ in read_rows(path, question_field=field, turns=turns):
        assert number >= 1
        if isinstance(row, Conversation):
            assert row.question.strip()
            "".join(m["content"] for m in row.messages).encode()
            assert row.metadata is None or isinstance(json.loads(row.metadata), dict)
        else:
            assert str(row) and len(row.excerpt) <= EXCERPT
    return "accepted"


def some_rows(rng: Generator) -> bytes:
    """Rows of the published formats, as lines, an array or a table, damaged."""
    rows = [ROWS[i] for i in rng.integers(0, len(ROWS), rng.integers(1, 6))]
    forms = ["\n".join(rows), f"[{','.join(rows)}]", 'question,answer\n"a, ""b""",c\nd,e\n']
    text = forms[rng.choice(3, p=[0.5, 0.3, 0.2])]
    return damage(text.encode(("utf-8", "utf-16")[int(rng.random() < 0.1)]), rng, 1 << 20)


def targets(folder: Path) -> list[Target]:
    """What is fuzzed, from the same valid model and rows each time."""
    valid = make_tiny_gguf(
        folder / "valid.gguf", hidden=16, layers=1, heads=2, vocab=300
    ).read_bytes()
    header = valid.index(b"token_embd.weight") + 600

    def model(rng: Generator) -> bytes:
        return damage(valid, rng, header)

    return [
        Target("GGUF header", 20, model, read_header),
        Target("GGUF in llama.cpp", 30, model, load_model),
        Target("rows", 50, some_rows, read_data),
    ]


def processor_time() -> float:
    """Seconds of this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def execute(target: Target, seed: list[int], folder: Path) -> tuple[str, bytes, float]:
    """One execution: `accepted`, `refused`, or what was wrong; the input; its seconds."""
    rng = np.random.default_rng(seed)
    data = target.make(rng)
    started = processor_time()
    try:
        outcome = target.read(data, rng, folder)
    except InputError:
        outcome = "refused"
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"[:300]
    seconds = processor_time() - started
    if seconds > SECONDS:
        outcome = f"more than {SECONDS} s"
    return outcome, data, seconds


def main() -> None:
    """Run until the time is over and write counts and findings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="JSON with the outcome")
    options = parser.parse_args()
    inputs = options.output.with_suffix(".inputs")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known = targets(folder)
        shares = [target.share / 100 for target in known]
        counts: dict[str, Counter[str]] = {target.name: Counter() for target in known}
        slowest: dict[str, float] = dict.fromkeys(counts, 0.0)
        first: dict[str, int] = {}
        failed = False
        started, number = time.monotonic(), 0
        while time.monotonic() - started < options.seconds:
            which = int(np.random.default_rng([options.seed, number]).choice(len(known), p=shares))
            target = known[which]
            outcome, data, seconds = execute(target, [options.seed, number, which], folder)
            slowest[target.name] = max(slowest[target.name], seconds)
            fine = outcome in ("accepted", "refused")
            known_kind = fine or outcome.startswith("died of ")
            counts[target.name][outcome if known_kind else "findings"] += 1
            if not fine:
                key = f"{target.name}: {outcome}"
                if key not in first:
                    first[key] = number
                    inputs.mkdir(parents=True, exist_ok=True)
                    (inputs / str(number)).write_bytes(data)
                failed = failed or not known_kind
            number += 1
    outcome_of_run = {
        "seed": options.seed,
        "seconds": round(time.monotonic() - started),
        "executions": number,
        "targets": {
            name: {**count, "slowest_seconds": round(slowest[name], 3)}
            for name, count in counts.items()
        },
        "first_input": first,
    }
    write_json(outcome_of_run, options.output)
    print(json.dumps(outcome_of_run, indent=2))
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
