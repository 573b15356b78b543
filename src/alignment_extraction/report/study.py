"""A study's report from its files: read, judged, written and shown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment_extraction import layout, provenance
from alignment_extraction.files import InputError, atomic_path, read_json, write_json
from alignment_extraction.report import gate, numbers, page, terminal
from alignment_extraction.report.gate import BAD_INPUT, GateResult
from alignment_extraction.report.rendering import paragraphs
from alignment_extraction.report.tables import Results, read_results
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
    results, settings, judged = _read(name, study, folder)
    page.write_page(results, judged, settings, made_with, folder / "report.html")
    write_json(numbers.headline_numbers(judged), folder / "headline.json")
    write_json(numbers.metrics_numbers(results, judged), folder / "metrics.json")
    card = numbers.model_card(judged, settings, made_with)
    for text, end in zip(card, ("md", "yaml"), strict=True):
        with atomic_path(folder / f"model_card.{end}") as partial:
            partial.write_text(text, encoding="utf-8")


def show_report(
    name: str, study: StudySettings, masked: Path | None = None, *, here: Path = Path()
) -> None:
    """Print the first screen of a study's report, and where the page is.

    Args:
        name: the study.
        study: its settings.
        masked: a page to write without any text of the corpus or of a generation, which is then
            not printed either.
        here: what stands before the page's path.
    """
    folder = Path(layout.results_folder(name))
    results, settings, judged = _read(name, study, folder)
    if masked:
        made_with = read_json(folder / PROVENANCE)["made_with"]
        page.write_page(results, judged, settings, made_with, masked, masked=True)
    shown = masked or here / folder / "report.html"
    terminal.show(results, judged, settings, shown, masked=masked is not None)


def check_study(name: str, params: Path, limits: Mapping[str, Any]) -> GateResult:
    """Hold a study's results against limits, those of the study where none is given.

    Args:
        name: the study.
        params: the params.yaml that has it.
        limits: as `GateSettings` takes them, and `models`; None is not given.
    """
    try:
        study = config.study(params, name)
        given = {key: value for key, value in limits.items() if value is not None}
        models = given.pop("models", ())
        own = study.gate.model_dump() if study.gate else {}
        merged = checked(GateSettings, {**own, **given}, "gate")
        results, settings, _ = _read(name, study, Path(layout.results_folder(name)))
        return gate.check(results, merged, settings, models)
    except InputError as error:
        return GateResult(BAD_INPUT, (str(error),))


def _read(name: str, study: StudySettings, folder: Path) -> tuple[Results, dict[str, Any], Verdict]:
    """Tables, settings as the report takes them, and the verdict."""
    results = read_results(folder)
    settings = {
        "name": name,
        "title": study.title,
        "models": study.models,
        "prefixes": study.prefix_names,
        "thresholds": study.thresholds.model_dump(),
        "gate": study.gate,
        "limit": study.likelihood.limit if study.likelihood else None,
        "search": read_json(folder / PROVENANCE)["search"],
    }
    return results, settings, verdict(results, settings)


def _search(study: StudySettings, audits: Sequence[Path], statistics: Path) -> list[str]:
    """How data and search were checked, in sentences."""
    checked = [entry for path in audits for entry in read_json(path).values()]
    queries = sum(entry["queries"] for entry in checked)
    found = sum(entry["queries"] * entry["recall_at_1"] for entry in checked)
    exact, counts = study.index.kind == "exact", read_json(statistics)
    return list(paragraphs("search.txt", exact=exact, counts=counts, queries=queries, found=found))
