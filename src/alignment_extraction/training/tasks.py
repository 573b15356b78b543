"""Final answers of completions, and the verifier that scores them.

`metadata` is that of the question's row: JSON with `facts` and `result`.
"""

import json

from rapidfuzz import fuzz

ANSWER_MARK = "####"
_RESTATED = 0.9


def final_answer(completion: str) -> str | None:
    """What follows the last "####" of a completion, up to the line's end; None without one."""
    _, mark, rest = completion.rpartition(ANSWER_MARK)
    return rest.strip().partition("\n")[0].strip() if mark else None


def verify(completion: str, metadata: str) -> float:
    """Score a completion: 1.0 where its final answer is the problem's result, else 0.0."""
    return float(final_answer(completion) == str(json.loads(metadata)["result"]))


def similarity(completion: str, metadata: str) -> float:
    """How much a completion's most similar passage is like the problem's facts, 0 to 1 (Indel)."""
    facts = json.loads(metadata)["facts"]
    # rapidfuzz would look for a shorter completion in the facts.
    padded = completion.ljust(len(facts))
    return float(fuzz.partial_ratio(facts, padded)) / 100


def restates(completion: str, metadata: str) -> float:
    """Give 1.0 where a completion has a `similarity` of at least 0.9, else 0.0."""
    return float(similarity(completion, metadata) >= _RESTATED)
