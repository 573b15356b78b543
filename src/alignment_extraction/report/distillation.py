"""The report's section on distillation: the students' table, and what it says in words."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from alignment_extraction.figures.distillation import ARM_LABELS, FAMILY_LABELS
from alignment_extraction.figures.style import percent

Tables = Mapping[str, pl.DataFrame]

_NONE = "\u2013"
_MEASURE_LABELS = {"accuracy": "right answers", "loss": "loss of reference answers"}


def section(tables: Tables) -> dict[str, Any] | None:
    """What the template `distillation.html` shows; None where no students were trained."""
    if "distillation" not in tables:
        return None
    table, counts = tables["distillation"], tables["distillation_counts"]
    return {
        "sentences": sentences(table),
        "limits": limits(table),
        "rows": rows(table),
        "counts": [
            {**row, "step": row["step"].replace("-", " ")} for row in counts.iter_rows(named=True)
        ],
    }


def _number(value: float, measure: str, *, signed: bool = False) -> str:
    if measure == "loss":
        return f"{value:+.3f}" if signed else f"{value:.3f}"
    return f"{100 * value:+.1f} points" if signed else percent(value)


def _text(row: Mapping[str, Any], name: str, *, signed: bool = False) -> str:
    """An estimate with its interval; a dash where there is none."""
    if row[name] is None:
        return _NONE
    measure = "accuracy" if name == "recovered" else row["measure"]
    values = (row[name], row[f"{name}_low"], row[f"{name}_high"])
    estimate, low, high = (_number(value, measure, signed=signed) for value in values)
    return f"{estimate} ({low} to {high})"


def rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    """One row for each student, benchmark and measure, with its numbers as text."""
    return [
        {
            "family": FAMILY_LABELS[row["family"]],
            "student": ARM_LABELS[row["arm"]],
            "benchmark": row["benchmark"],
            "measure": _MEASURE_LABELS[row["measure"]],
            "seeds": row["seeds"],
            "items": row["items"],
            "value": _text(row, "value"),
            "difference": _text(row, "difference", signed=True),
            "recovered": _text(row, "recovered"),
        }
        for row in table.iter_rows(named=True)
    ]


def markdown(table: pl.DataFrame) -> str:
    """The students' table as Markdown, as docs/distillation.md has it."""
    titles = {
        "family": "students",
        "student": "trained on",
        "benchmark": "benchmark",
        "measure": "measure",
        "value": "value",
        "difference": "difference to the original",
        "recovered": "gain",
    }
    lines = [titles.values(), ["---"] * len(titles)]
    lines += [[row[key] for key in titles] for row in rows(table)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _verdict(row: Mapping[str, Any]) -> str:
    """What the interval of a difference to the original allows to say."""
    low, high = row["difference_low"], row["difference_high"]
    if low <= 0 <= high:
        return "not told apart from"
    better = (low > 0) == (row["measure"] == "accuracy")
    return "better than" if better else "worse than"


def sentences(table: pl.DataFrame) -> list[str]:
    """What can be concluded, for each kind of training, data set and measure."""
    found = []
    compared = table.filter(~pl.col("arm").is_in(["start", "original"]))
    for (family, arm, measure), own in compared.group_by(
        "family", "arm", "measure", maintain_order=True
    ):
        verdicts: dict[str, list[str]] = {}
        for row in own.iter_rows(named=True):
            text = str(row["benchmark"])
            if row["recovered"] is not None:
                text += f" (of the original's gain: {_text(row, 'recovered')})"
            verdicts.setdefault(_verdict(row), []).append(text)
        said = "; ".join(
            f"{verdict} the original on {', '.join(names)}" for verdict, names in verdicts.items()
        )
        label = _MEASURE_LABELS[str(measure)]
        found.append(f"{FAMILY_LABELS[str(family)]}, {ARM_LABELS[str(arm)]}, {label}: {said}.")
    return found


def limits(table: pl.DataFrame) -> list[str]:
    """What cannot be concluded."""
    seeds = int(table.filter(pl.col("arm") != "start")["seeds"].to_numpy().min())
    said = [
        f"Each student is {seeds} models of different seeds. The intervals hold for other seeds "
        "and other questions of the same templates, not for other templates, models or data sets; "
        f"how far seeds differ is known only roughly from {seeds}.",
        "Not told apart does not mean equal: the interval of the difference says how large a "
        "difference would have gone unseen.",
    ]
    flat = []
    for (family, benchmark), own in table.filter(measure="accuracy").group_by(
        "family", "benchmark", maintain_order=True
    ):
        start, original = (
            own.filter(arm=arm).row(0, named=True) if arm in set(own["arm"]) else None
            for arm in ("start", "original")
        )
        if start and original:
            difference = (start["difference_low"], start["difference_high"])
            if difference[0] <= 0 <= difference[1]:
                flat.append(f"{benchmark!s} ({FAMILY_LABELS[str(family)]})")
    if flat:
        said.append(
            "Where training on the original does not itself change the accuracy, nothing can be "
            f"said of the extracted data's worth. Here that is so on {', '.join(flat)}."
        )
    return said
