"""A study's metrics.json as two tables for a README, so that its numbers are the results'."""

from collections.abc import Iterator, Mapping
from typing import Any

from alignment_extraction.extraction.headline import name_parts
from alignment_extraction.figures.style import percent
from alignment_extraction.files import InputError

METRICS = {"embedding": "cosine", "levenshtein": "Levenshtein", "verbatim": "verbatim"}
NONE = "–"  # noqa: RUF001


def markdown(metrics: Mapping[str, Any], prefix: str, part: str = "question") -> str:
    """The rates at one prefix, and the shifts of likelihood, as Markdown.

    Args:
        metrics: of `extraction.results.evaluate`.
        prefix: whose rates are shown, those of the first seed.
        part: of the generations.

    Returns:
        One table of rates with 95 % intervals, of the most sampled model of each family (`sft-q8`
        is of the family `sft`): a row for each group of the corpus of which anything was found, and
        one row with the upper bound for all others together. Where models were compared, a second
        one: a row for each pair of families, text and group, with the chat template.

    Raises:
        InputError: no model has rates of that part at that prefix.
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
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for model, prefixes in rates.items():
        groups = next(iter(prefixes.get(prefix, {"": {}}).values())).get(part)
        family = name_parts(model).family
        if groups and (family not in found or _n(groups) > _n(found[family][1])):
            found[family] = model, groups
    if not found:
        raise InputError(f"no model has rates of part {part!r} at prefix {prefix!r}; give another")
    yield ["model", "n", "group", *METRICS.values()]
    for model, groups in found.values():
        about = [f"`{model}`", f"{_n(groups):,}"]
        named = {name: group for name, group in groups.items() if not name.startswith("role:")}
        empty = [name for name, group in named.items() if not any(_hits(group))]
        for name, group in named.items():
            if name not in empty:
                yield [*about, f"`{name}`", *(_rate(group[metric]) for metric in METRICS)]
        if empty:
            others = "all groups" if len(empty) == len(named) else "each other group"
            yield [*about, others, *(_rate(named[empty[0]][metric]) for metric in METRICS)]


def _n(groups: Mapping[str, Any]) -> int:
    return max(int(group["embedding"]["n"]) for group in groups.values())


def _hits(group: Mapping[str, Any]) -> list[int]:
    return [group[metric]["hits"] for metric in METRICS]


def _rate(row: Mapping[str, Any]) -> str:
    if row["hits"] == 0:
        return f"0 (at most {percent(row['high'])})"
    low, high = (percent(row[end]).removesuffix(" %") for end in ("low", "high"))
    return f"{percent(row['rate'])} ({low} to {high})"


def _shifts(likelihood: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["before → after", "text", "group", "n", "before", "after", "change", "excess"]
    known: set[tuple[str, ...]] = set()
    for pair, targets in likelihood.items():
        families = tuple(name_parts(model).family for model in pair.split("_"))
        if families in known:
            continue
        known.add(families)
        for target, templates in targets.items():
            for group, row in templates["with-template"].items():
                yield [
                    " → ".join(f"`{model}`" for model in pair.split("_")),
                    target,
                    f"`{group}`",
                    str(row["n"]),
                    *(f"{row[key]:.3f}" for key in ("before", "after")),
                    *(_difference(row, key) for key in ("shift", "excess")),
                ]


def _difference(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return NONE
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
