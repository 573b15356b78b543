"""Words that every part of the package shares."""

from typing import NamedTuple


class Condition(NamedTuple):
    """One model x prefix x seed of a study."""

    model: str
    prefix: str
    seed: int
