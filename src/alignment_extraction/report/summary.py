"""A study's metrics.json as two tables for a README, so that its numbers are the results'."""

from collections.abc import Iterator, Mapping
from typing import Any

from alignment_extraction.files import InputError
from alignment_extraction.report.page import percent

METRICS = ("embedding", "levenshtein", "verbatim")


def markdown(metrics: Mapping[str, Any], prefix: str, part: str = "question") -> str:
    """The rates of every model at one prefix, and the shifts of likelihood, as Markdown.

    Args:
        metrics: of `results.evaluate`.
        prefix: whose rates are shown, those of the first seed.
        part: of the generations.

    Returns:
        One table of rates: a row for each model, a column for each group of the corpus, in it the
        shares found by cosine, by Levenshtein similarity and verbatim. Where models were compared,
        a second one: a row for each pair, target and group with the chat template.
    """
    tables = [_table(list(_rates(metrics["rates"], prefix, part)))]
    if metrics.get("likelihood"):
        tables.append(_table(list(_shifts(metrics["likelihood"]))))
    return "\n".join(tables)


def _table(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return (
        "\n".join([lines[0], "| " + " | ".join(["---"] * len(rows[0])) + " |", *lines[1:]]) + "\n"
    )


def _rates(rates: Mapping[str, Any], prefix: str, part: str) -> Iterator[list[str]]:
    seeds = {
        model: next(iter(prefixes[prefix].values()))
        for model, prefixes in rates.items()
        if prefix in prefixes
    }
    found = {model: seed[part] for model, seed in seeds.items() if part in seed}
    if not found:
        raise InputError(f"no model has rates of part {part!r} at prefix {prefix!r}; give another")
    groups = [name for name in next(iter(found.values())) if not name.startswith("role:")]
    yield ["model", "n", *(f"`{group}`" for group in groups)]
    for model, references in found.items():
        cells = [
            " / ".join(percent(references[group][metric]["rate"]) for metric in METRICS)
            for group in groups
        ]
        yield [f"`{model}`", f"{references[groups[0]]['embedding']['n']:,}", *cells]


def _shifts(likelihood: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["before → after", "text", "group", "n", "before", "after", "change", "excess (95 %)"]
    for pair, targets in likelihood.items():
        for target, templates in targets.items():
            for group, row in templates["with-template"].items():
                excess = "–"  # noqa: RUF001
                if "excess" in row:
                    excess = "{excess:+.3f} ({excess_low:+.3f} to {excess_high:+.3f})".format(**row)
                yield [
                    " → ".join(f"`{model}`" for model in pair.split("_")),
                    target,
                    f"`{group}`",
                    str(row["n"]),
                    *(f"{row[key]:.3f}" for key in ("before", "after")),
                    f"{row['shift']:+.3f}",
                    excess,
                ]
