"""Everything that the report leaves in a study's results folder, in one call."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignment_extraction.files import atomic_path, write_json
from alignment_extraction.report.cards import model_card
from alignment_extraction.report.numbers import headline_numbers, metrics_numbers
from alignment_extraction.report.page import write_page
from alignment_extraction.report.tables import Results, read_results
from alignment_extraction.report.verdict import Verdict, verdict


def write_outputs(
    folder: Path,
    settings: Mapping[str, Any],
    provenance: Mapping[str, str],
    *,
    masked: bool = False,
) -> tuple[Results, Verdict]:
    """Write report.html, headline.json, metrics.json, model_card.md and model_card.yaml.

    Args:
        folder: a study's results; its tables are read, and the files go there.
        settings: of the study; see `page.write_page`.
        provenance: what the results were made with: names and values.
        masked: write report-masked.html alone, without any text.

    Returns:
        The tables and the verdict, for `terminal.show`.

    Raises:
        InputError: the folder has no results, or one cannot be read.
    """
    results = read_results(folder)
    found = verdict(results, settings)
    if masked:
        write_page(results, found, settings, provenance, folder / "report-masked.html", masked=True)
        return results, found
    write_page(results, found, settings, provenance, folder / "report.html")
    write_json(headline_numbers(found), folder / "headline.json")
    write_json(metrics_numbers(results, found), folder / "metrics.json")
    for text, end in zip(model_card(found, settings, provenance), ("md", "yaml"), strict=True):
        with atomic_path(folder / f"model_card.{end}") as partial:
            partial.write_text(text, encoding="utf-8")
    return results, found
