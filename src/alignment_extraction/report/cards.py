"""A block for a model's card, in words and as YAML."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from alignment_extraction.report.numbers import of_headline
from alignment_extraction.report.rendering import render
from alignment_extraction.report.verdict import Verdict, cards


def model_card(
    verdict: Verdict, settings: Mapping[str, Any], provenance: Mapping[str, str]
) -> tuple[str, str]:
    """A block for the card of the first model.

    Args:
        verdict: of the study.
        settings: of the study.
        provenance: version, commit, and hashes by name.

    Returns:
        Markdown with the sentences and numbers; the numbers as YAML.
    """
    own = verdict.first
    text = render(
        "model_card.md",
        own=own,
        sentences=verdict.sentences,
        cards=cards(own) if own else (),
        caveats=verdict.caveats,
        provenance=provenance,
    )
    numbers = of_headline(own) if own else {}
    numbers |= {"study": settings.get("name", ""), "provenance": dict(provenance)}
    plain = json.loads(json.dumps(numbers, default=float))
    return text, yaml.safe_dump({"memorisation": plain}, sort_keys=False, allow_unicode=True)
