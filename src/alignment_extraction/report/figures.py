"""The page's figures: a frame of estimates each, drawn as templates/figures.toml says."""

import itertools
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from alignment_extraction.report.drawing import Panel, Picture, Series, picture
from alignment_extraction.report.headline import Headline, coverage, fixed, pool_seeds, total
from alignment_extraction.report.rendering import HERE
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import Verdict
from alignment_extraction.report.wording import estimate
from alignment_extraction.statistics import wilson
from alignment_extraction.vocabulary import METRICS, ROLE_COLOURS

KINDS = ("verbatim", "near-verbatim", "same-template", "paraphrase")
_SHOWN = ["verbatim", "cosine"]


def own_rows(table: pl.DataFrame, own: Headline) -> pl.DataFrame:
    """A table's rows of the headline model, on what it was trained on."""
    chosen = pl.col("source").is_in(list(own.sources))
    if "level" in table.columns and own.level:
        chosen &= pl.col("level").fill_null(own.level) == own.level
    rows = table.filter(chosen, model=own.model, prefix=own.prefix, field=own.field)
    return rows.with_columns(pl.col("n").fill_null(own.n))


def condition_rates(results: Results, own: Headline) -> pl.DataFrame:
    """Attributable rates of every model and prefix on the headline model's sources and field.

    Returns:
        model, prefix, metric, trained, n, attributable, low, high; sources summed up.
    """
    chosen = pl.col("source").is_in(list(own.sources)) & pl.col("metric").is_in(_SHOWN)
    rows = fixed(results["attribution"]).filter(chosen, level=own.level or "rows")
    return rows.group_by("model", "prefix", "metric", maintain_order=True).agg(
        pl.col("trained").all(), pl.col("n").max(), *total("attributable")
    )


def repetitions(results: Results, own: Headline) -> pl.DataFrame:
    """Copies for each training row by how often the row stood in an epoch, over sources.

    Returns:
        repetitions, metric, rows, attributable, low, high; empty where all rows stood as often.
    """
    keys = ["repetitions", "metric"]
    rows = own_rows(results["repetitions"], own).filter(pl.col("metric").is_in(_SHOWN))
    members = pl.col("members").sum().over(keys)
    rates = pl.col("attributable", "low", "high") * pl.col("n") / members
    rows = pool_seeds(rows, ["source", *keys]).with_columns(rates, rows=members)
    found = rows.group_by(keys).agg(pl.col("rows").first(), *total("attributable")).sort(keys)
    return found if found["repetitions"].n_unique() > 1 else found.clear()


def _count(name: str) -> pl.Expr:
    return pl.col(name).map_elements(lambda number: f"{number:,}", pl.String)


def _overview(own: Headline, covered: pl.DataFrame) -> pl.DataFrame:
    """Attributable rates, and distinct rows against samples: expected, and seen of members."""
    rates = [(name, METRICS[name].label, *own.rates[name]) for name in METRICS if name in own.rates]
    metrics = pl.DataFrame(rates, ["metric", "name", "attributable", "low", "high"], orient="row")
    names = ["distinct", "distinct_low", "distinct_high"]
    seen = covered.filter(role="member").drop_nulls("observed")
    seen = seen.with_columns(pl.col("observed").alias(name) for name in names)
    counts = pl.concat([covered, seen.with_columns(role=pl.lit("seen"))])
    counts = counts.select("role", "samples", *names)
    return pl.concat([metrics, counts], how="diagonal_relaxed")


def _thresholds(results: Results, own: Headline) -> pl.DataFrame:
    """Attributable rate and false discovery rate against the threshold."""
    keys, discoveries = ["metric", "threshold"], pl.col("false_discovery_rate")
    chosen = pl.col("at").is_in(["sweep", "fixed"]) & (pl.col("metric") != "verbatim")
    sweep = own_rows(results["attribution"], own).filter(chosen)
    sweep = sweep.unique([*keys, "source", "seed"], maintain_order=True)
    rates = pool_seeds(sweep, [*keys, "source"]).group_by(keys)
    data = rates.agg(pl.col("n").first(), *total("attributable"), discoveries.max()).sort(keys)
    exact = {f"false_discovery_rate_{end}": discoveries for end in ("low", "high")}
    return data.with_columns(**exact)


def _kinds(results: Results, verdict: Verdict) -> pl.DataFrame:
    """What kinds of copying training caused."""
    rows = pl.concat(own_rows(results["kinds"], own) for own in verdict.headlines)
    rates = pool_seeds(rows, ["model", "source", "kind"])
    rates = rates.group_by("kind", "model", maintain_order=True).agg(*total("attributable"))
    rates = rates.sort(pl.col("kind").cast(pl.Enum(KINDS)), maintain_order=True)
    return rates.with_columns(name=pl.col("kind").str.replace("-", " "))


def _edits(results: Results) -> pl.DataFrame:
    """Which edits of a row each similarity still takes for the same row."""
    table = results["edits"].filter(pl.col("pairs") > 0)
    table = table.filter(pl.col("embedder") == pl.col("embedder").first())
    columns = {"levenshtein_reached": "levenshtein", "cosine_reached": "cosine"}
    index = ["embedder", "edit", "pairs"]
    rates = table.rename(columns).unpivot(
        list(columns.values()), index=index, variable_name="metric", value_name="reached"
    )
    rates = rates.with_columns(pl.col("reached").fill_null(0))
    _, low, high = wilson((rates["reached"] * rates["pairs"]).to_numpy(), rates["pairs"])
    return rates.with_columns(low=pl.Series(low), high=pl.Series(high))


def _conditions(rates: pl.DataFrame, own: Headline) -> pl.DataFrame:
    """Rates by prefix (of the headline model) and by model (at the headline's prefix)."""
    by_prefix, by_model = rates.filter(model=own.model), rates.filter(prefix=own.prefix)
    parts = [(f"by model (prefix {own.prefix})", "model", by_model)]
    if by_prefix["prefix"].n_unique() > 1:
        parts.insert(0, (f"by prefix ({own.model})", "prefix", by_prefix))
    return pl.concat(
        rows.with_columns(by=pl.lit(title), name=pl.format("{} ({})", column, _count("n")))
        for title, column, rows in parts
    )


def _shift(results: Results) -> pl.DataFrame:
    """What RL did to the likelihood of its rows, beyond what it did to twins."""
    rows = results["shift"].filter("template", per="question")
    name, size = pl.format("{} \u2192 {}, {}", "base", "model", "source"), pl.col("detectable")
    rows = rows.with_columns(name=name, kind=pl.lit("difference"))
    sizes = rows.with_columns(
        kind=pl.lit("detectable"), difference=pl.when(size > 0).then(0.0), low=-size, high=size
    )
    return pl.concat([rows, sizes])


def _tails(results: Results) -> pl.DataFrame:
    """How many rows are likelier than a threshold, before and after."""
    rows = results["tails"].filter("template", pl.col("rows") > 0)
    keys = ["model", "base", "source", "target"]
    rows = rows.filter(*(pl.col(key) == pl.col(key).first() for key in keys))
    index = [*keys, "role", "threshold", "rows"]
    rows = rows.unpivot(["before", "after"], index=index, variable_name="when", value_name="share")
    share = pl.col("share") / pl.col("rows")
    return rows.sort("role", "threshold", "when").with_columns(
        rows_of=pl.format("{}, {}", "role", "when"), probability=10 ** pl.col("threshold"),
        share=share, low=share, high=share,
    )  # fmt: skip


def _frames(results: Results, verdict: Verdict) -> Iterator[tuple[str, pl.DataFrame]]:
    """The numbers of each figure by its name in figures.toml."""
    if own := verdict.first:
        covered = coverage(results, own.model, own.sources)
        yield "overview", _overview(own, covered)
        yield "thresholds", _thresholds(results, own)
        yield "kinds", _kinds(results, verdict)
        yield "conditions", _conditions(condition_rates(results, own), own)
        name = pl.format("{} \u00d7 ({} rows)", "repetitions", _count("rows"))
        yield "repetitions", repetitions(results, own).with_columns(name=name)
        yield "growth", covered
    yield "edits", _edits(results)
    yield "shift", _shift(results)
    yield "tails", _tails(results)
    students = pl.format("{} students", pl.col("family").str.to_uppercase())
    accuracy = results["distillation"].filter(measure="accuracy")
    yield "students", accuracy.with_columns(students=students)


def _panel(
    rows: pl.DataFrame, styles: Mapping[str, Any], *, series: str, at: str, value: str, **more: Any
) -> Panel:
    """One panel of a figure, as figures.toml says; names in the order of the rows."""
    column = rows[at].unique(maintain_order=True)
    names = (column.sort() if column.dtype.is_numeric() else column).to_list()
    known, others = styles.get(series, {}), itertools.cycle(styles["others"])
    drawn = []
    for key in sorted(rows[series].unique(maintain_order=True), key=[*known, *rows[series]].index):
        own = rows.filter(pl.col(series) == key).iter_rows(named=True)
        points = {row[at]: estimate(row, value) for row in own}
        label, colour, *line = known.get(key) or (key, next(others))
        colour = ROLE_COLOURS.get(colour, colour)
        drawn.append(Series(label, colour, [points.get(name) for name in names], *line))
    return Panel(names, drawn, **more)


def pictures(results: Results, verdict: Verdict, marks: Mapping[str, float]) -> dict[str, Picture]:
    """Every figure that the study's tables have numbers for, by name.

    Args:
        results: the study's tables.
        verdict: of them.
        marks: the study's thresholds, `semantic` and `string`.
    """
    specs, styles = (
        tomllib.loads((HERE / "templates" / f"{name}.toml").read_text())
        for name in ("figures", "styles")
    )
    styles["metric"] = {name: (metric.label, metric.colour) for name, metric in METRICS.items()}
    found = {}
    for figure, data in _frames(results, verdict):
        panels: list[Panel] = []
        for spec in specs[figure]:
            by, title = spec.pop("split", None), spec.pop("title", "")
            if spec["at"] == "threshold":
                spec["marks"] = [marks["semantic"], marks["string"]]
            rows = data.drop_nulls([spec["series"], spec["value"]])
            groups = rows.partition_by(by, as_dict=True) if by else {(title,): rows}
            panels += [
                _panel(group, styles, title=str(name), **spec)
                for (name,), group in groups.items()
                if group.height
            ]
        if panels:
            found[figure] = picture(figure, panels, data)
    return found
