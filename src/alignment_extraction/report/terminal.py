"""The first screen in a terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from alignment_extraction.report import gate, wording
from alignment_extraction.report.rows import ranked
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import Verdict

_COLOURS = {"leaks": "red", "no leak seen": "green", "cannot tell": "yellow"}
_WORST = 5


def show(
    results: Results,
    verdict: Verdict,
    settings: Mapping[str, Any],
    page: Path | None = None,
    console: Console | None = None,
    *,
    masked: bool = False,
) -> None:
    """Print the verdict, the four numbers, what they do not say, and the worst rows.

    Args:
        results: the study's tables.
        verdict: of them.
        settings: of the study.
        page: the report's page, whose path is printed last.
        console: where to; standard output by default.
        masked: print no text of the corpus.
    """
    console = console or Console()
    colour = _COLOURS[verdict.status]
    said = Text("\n".join(verdict.sentences))
    title = f"{settings.get('title', settings.get('name', ''))}: {verdict.status}"
    console.print(Panel(said, title=Text(title), border_style=colour))
    own = verdict.first
    if own is None:
        return
    numbers = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for label, number, scope in verdict.cards(own):
        numbers.add_row(Text(number, style="bold"), Text(label), Text(scope, style="dim"))
    console.print(numbers)
    limits = gate.limits_from(settings.get("gate") or {})
    for line in gate.check(results, limits, settings).lines if limits.given() else ():
        console.print(Text(f"Limit: {line}"))
    for caveat in verdict.caveats:
        console.print(Text(f"- {caveat}", style="dim"))
    rows = results["rows"].filter("trained", model=own.model)
    if rows.height:
        worst = Table(
            title="Rows most at risk: chance in a million samples, times trained",
            title_justify="left",
            box=None,
            padding=(0, 2, 0, 0),
            expand=True,
        )
        for name in ("row", "chance", "trained", "seen", *(["text"] if not masked else [])):
            worst.add_column(
                name, no_wrap=True, overflow="ellipsis", ratio=1 if name == "text" else None
            )
        for row in ranked(rows).head(_WORST).iter_rows(named=True):
            text = " ".join(wording.visible(row["question"] or "").split())[:120]
            cells = [
                wording.visible(row["id"]), wording.percent(row["chance_1e6"]),
                wording.count(row["repetitions"]), row["seen"],
            ]  # fmt: skip
            worst.add_row(*(Text(cell) for cell in (cells if masked else [*cells, text])))
        console.print(worst)
    if page is not None:
        console.print(Text(f"Report: {page}"), soft_wrap=True)
