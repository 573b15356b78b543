"""The first screen in a terminal."""

from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from alignment_extraction.report import gate, wording
from alignment_extraction.report.rows import mask, worst
from alignment_extraction.report.verdict import Verdict

_COLOURS = {"leaks": "red", "no leak seen": "green", "cannot tell": "yellow"}
_WORST, _CHARACTERS = 5, 120


def show(
    verdict: Verdict, page: Path, console: Console | None = None, *, masked: bool = False
) -> None:
    """Print the verdict, four numbers, what they do not say, the worst rows and the page's path.

    Masked, it shows no text of the corpus.
    """
    results, settings = verdict.results, verdict.settings
    console = console or Console()
    said, heading = Text("\n".join(verdict.sentences)), f"{settings['title']}: {verdict.status}"
    console.print(Panel(said, title=Text(heading), border_style=_COLOURS[verdict.status]))
    if verdict.first is None:
        return
    numbers = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for label, number, scope in verdict.cards:
        numbers.add_row(Text(number, style="bold"), Text(label), Text(scope, style="dim"))
    console.print(numbers)
    if limits := settings.get("gate"):
        for line in gate.check(results, limits, settings).lines:
            console.print(Text(f"Limit: {line}"))
    for caveat in verdict.caveats:
        console.print(Text(f"- {caveat}", style="dim"))
    rows = mask(results["rows"]) if masked else results["rows"]
    if riskiest := worst(rows, verdict.first.model, _WORST):
        title = "Rows most at risk: chance in a million samples, times trained"
        table = Table(
            box=None, title=title, title_justify="left", padding=(0, 2, 0, 0), expand=True
        )
        for name in ("row", "chance", "trained", "seen", "text"):
            ratio = 1 if name == "text" else None
            table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=ratio)
        for row in riskiest:
            cells = (" ".join(wording.visible(cell).split())[:_CHARACTERS] for cell in row)
            table.add_row(*map(Text, cells))
        console.print(table)
    console.print(Text(f"Report: {page}"), soft_wrap=True)
