"""A study's report from its files: read, judged, written and shown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment_extraction import layout, provenance
from alignment_extraction.files import atomic_path, read_json, write_json
from alignment_extraction.report import gate, numbers, page, terminal
from alignment_extraction.report.gate import GateResult
from alignment_extraction.report.rendering import paragraphs
from alignment_extraction.report.tables import read_results
from alignment_extraction.report.verdict import Verdict, verdict
from alignment_extraction.settings import config
from alignment_extraction.settings.base import checked
from alignment_extraction.settings.studies import GateSettings, StudySettings
from alignment_extraction.vocabulary import Condition

PROVENANCE = "provenance.json"


def write_report(
    name: str,
    study: StudySettings,
    folder: Path,
    *,
    audits: Sequence[Path],
    statistics: Path,
    shards: Mapping[Condition, Path],
) -> None:
    """Write report.html, headline.json, metrics.json, provenance.json and model_card.md and .yaml.

    Args:
        name: the study's key in params.yaml.
        study: its settings.
        folder: its results, where all of it goes.
        audits: JSON with the recall of each model's search.
        statistics: JSON with counts of the corpus.
        shards: a shard of generations of each condition.
    """
    made_with = dict(provenance.collect(shards))
    search = _search(study, audits, statistics)
    write_json({"made_with": made_with, "search": search}, folder / PROVENANCE)
    judged = _judged(name, study, folder)
    page.write_page(judged, made_with, folder / "report.html")
    write_json(numbers.headline_numbers(judged), folder / "headline.json")
    write_json(numbers.metrics_numbers(judged), folder / "metrics.json")
    for text, end in zip(numbers.model_card(judged, made_with), ("md", "yaml"), strict=True):
        with atomic_path(folder / f"model_card.{end}") as partial:
            partial.write_text(text, encoding="utf-8")


def show_report(
    name: str, study: StudySettings, masked: Path | None = None, *, here: Path = Path()
) -> None:
    """Print the first screen of a study's report, and where the page is, below the folder `here`.

    With `masked`, no text of the corpus or of a generation is printed, and a page without any is
    written to that file.
    """
    folder = Path(layout.results_folder(name))
    judged = _judged(name, study, folder)
    if masked:
        page.write_page(judged, read_json(folder / PROVENANCE)["made_with"], masked, masked=True)
    shown = masked or here / folder / "report.html"
    terminal.show(judged, shown, masked=masked is not None)


def check_study(
    name: str, params: Path, limits: Mapping[str, Any], models: Sequence[str] = ()
) -> GateResult:
    """Hold the results of a study in params.yaml against limits, its own where one is None.

    See `GateSettings` for the limits and `gate.check` for the rest; raises as `config.study`.
    """
    study = config.study(params, name)
    given = {key: value for key, value in limits.items() if value is not None}
    merged = checked(GateSettings, {**dict(study.gate or ()), **given}, "gate")
    judged = _judged(name, study, Path(layout.results_folder(name)))
    return gate.check(judged.results, merged, judged.settings, models)


def _judged(name: str, study: StudySettings, folder: Path) -> Verdict:
    """What the results in a folder say."""
    settings = {
        "name": name,
        **study.model_dump(include={"title", "models", "thresholds"}),
        "prefixes": study.prefix_names,
        "gate": study.gate,
        "limit": study.likelihood.limit if study.likelihood else None,
        "search": read_json(folder / PROVENANCE)["search"],
    }
    return verdict(read_results(folder), settings)


def _search(study: StudySettings, audits: Sequence[Path], statistics: Path) -> list[str]:
    """How data and search were checked, in sentences."""
    audited = [entry for path in audits for entry in read_json(path).values()]
    queries = sum(entry["queries"] for entry in audited)
    found = sum(entry["queries"] * entry["recall_at_1"] for entry in audited)
    copies, copied = (sum(e.get(key, 0) for e in audited) for key in ("copies", "copies_found"))
    about = {"index": study.index, "copies": copies, "copies_found": copied, "queries": queries}
    return list(paragraphs("search.txt", found=found, counts=read_json(statistics), **about))
