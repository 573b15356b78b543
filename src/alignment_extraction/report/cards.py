"""What is pasted elsewhere: a block for a model card, and a line to cite."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from alignment_extraction.report import wording
from alignment_extraction.report.headline import Headline
from alignment_extraction.report.numbers import of_headline
from alignment_extraction.report.verdict import Verdict


def citation(verdict: Verdict, settings: Mapping[str, Any], provenance: Mapping[str, str]) -> str:
    """The first model's numbers with their intervals and what they were made with, as one text."""
    own = verdict.first
    if own is None:
        return ""
    made = ", ".join(f"{name} {value}" for name, value in provenance.items() if _short(name))
    numbers = "; ".join(f"{label}: {number}" for label, number, _ in verdict.cards(own))
    study = settings.get("name", "")
    return (
        f"{own.model}, prefix {own.prefix}, {wording.plural(own.n, 'generation')}; {numbers} "
        f"(95 % intervals). Study {study}, alignment-extraction{', ' if made else ''}{made}."
    )


def _short(name: str) -> bool:
    return name in ("version", "commit", "revision")


def _numbers(own: Headline) -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads(json.dumps(of_headline(own), default=float))
    return numbers


def model_card(
    verdict: Verdict, settings: Mapping[str, Any], provenance: Mapping[str, str], model: str = ""
) -> tuple[str, str]:
    """A block for a model's card.

    Args:
        verdict: of the study.
        settings: of the study.
        provenance: version, commit, and hashes by name.
        model: one of those that the report is about; without one, the first.

    Returns:
        Markdown with the sentences and numbers; the numbers as YAML.
    """
    own = next((h for h in verdict.headlines if h.model == model), verdict.first)
    about = {"study": settings.get("name", ""), "provenance": dict(provenance)}
    if own is None:
        text = "## Memorisation of training data\n\nNot measured.\n"
        return text, yaml.safe_dump({"memorisation": about}, sort_keys=False)
    lines = ["## Memorisation of training data", ""]
    lines += list(verdict.sentences) if own is verdict.first else []
    lines += ["", "| quantity | estimate (95 % interval) | of |", "| --- | --- | --- |"]
    lines += [f"| {' | '.join(_cell(text) for text in card)} |" for card in verdict.cards(own)]
    lines += ["", "What this does not say:", ""]
    lines += [f"- {_cell(text)}" for text in verdict.caveats]
    lines += ["", "Measured with alignment-extraction:", ""]
    lines += [f"- {_cell(name)}: `{_cell(value)}`" for name, value in provenance.items()]
    numbers = {"memorisation": {**_numbers(own), **about}}
    return "\n".join(lines) + "\n", yaml.safe_dump(numbers, sort_keys=False, allow_unicode=True)


def _cell(text: str) -> str:
    return wording.visible(str(text)).replace("|", "\\|").replace("\n", " ")
