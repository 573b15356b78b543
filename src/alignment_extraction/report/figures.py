"""The page's ten figures, as panels of estimates; none where its numbers are not there."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from alignment_extraction.report.drawing import GREY, INK, Panel, Picture, Series, picture
from alignment_extraction.report.headline import Headline, coverage, fixed, pool_seeds, total
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import Verdict
from alignment_extraction.report.wording import Estimate, estimate
from alignment_extraction.statistics import wilson
from alignment_extraction.vocabulary import METRICS, ROLE_COLOURS

COPIES = "copies that training caused"
KINDS = ("verbatim", "near-verbatim", "same-template", "paraphrase")

Styles = Mapping[Any, Sequence[str]]
"""Label, colour and perhaps a line's style of each value of a column."""
_ARMS: Styles = {
    "start": ("untrained", INK),
    "original": ("original data", "#d55e00"),
    "extracted": ("extracted data", "#0072b2"),
    "extracted-without-copies": ("extracted, no copies", "#e69f00"),
    "other": ("other data", "#009e73"),
}
"""Students of the distillation by what they were trained on."""
_METRICS: Styles = {metric.name: (metric.label, metric.colour) for metric in METRICS.values()}
_SHOWN: Styles = {name: _METRICS[name] for name in ("verbatim", "cosine")}
_STRINGS: Styles = {name: _METRICS[name] for name in ("levenshtein", "cosine")}
_ROLES: Styles = {
    role: (label, ROLE_COLOURS[role], style)
    for role, label, style in (
        ("member", "trained on", "-"),
        ("twin", "twins, never trained on", "--"),
        ("held-out", "held-out", "--"),
    )
}
_MODELS = ("#8a6fd1", "#a6761d", "#1b9e9e", "#7f7f7f")
"""Colours of models, which have none of their own."""
_OVERVIEW = {"quantity": pl.String, "of": pl.String} | dict.fromkeys(
    ("samples", "value", "low", "high"), pl.Float64
)
_RATE = ("attributable", "low", "high")

Figure = tuple[list[Panel], pl.DataFrame] | None


def own_rows(table: pl.DataFrame, own: Headline) -> pl.DataFrame:
    """A table's rows of the headline model, on what it was trained on."""
    chosen = pl.col("source").is_in(list(own.sources))
    if "level" in table.columns and own.level:
        chosen &= pl.col("level").fill_null(own.level) == own.level
    rows = table.filter(chosen, model=own.model, prefix=own.prefix, field=own.field)
    return rows.with_columns(pl.col("n").fill_null(own.n)) if "n" in rows.columns else rows


def _series(
    rows: pl.DataFrame, by: str, styles: Styles, at: str, value: str, names: Sequence[Any]
) -> list[Series]:
    """Estimates at `names` of the column `at`: a series for each value of `by` in `styles`."""
    found = []
    for key, style in styles.items():
        own = rows.filter(pl.col(by) == key).iter_rows(named=True)
        points = {row[at]: estimate(row, value) for row in own}
        if points:
            label, colour, *line = style
            found.append(Series(label, colour, [points.get(name) for name in names], *line))
    return found


def _names(rows: pl.DataFrame, column: str) -> list[Any]:
    return rows[column].unique(maintain_order=True).to_list()


def _growth(table: pl.DataFrame, value: str, title: str) -> Panel:
    """A count against samples, for rows trained on and never trained on."""
    names = _names(table.sort("samples"), "samples")
    series = _series(table, "role", _ROLES, "samples", value, names)
    seen = dict(table.filter(role="member").select("samples", "observed").drop_nulls().iter_rows())
    if value == "distinct" and seen:
        points = [Estimate(*[seen[n]] * 3) if n in seen else None for n in names]
        series.append(Series("seen in samples", INK, points, "o"))
    return Panel(names, series, "count", "samples", title)


def _overview(own: Headline, table: pl.DataFrame) -> Figure:
    """The picture of the first screen: attributable rates, and coverage against samples."""
    styles = {name: style for name, style in _METRICS.items() if name in own.rates}
    rates = [("attributable rate", name, None, *own.rates[name]) for name in styles]
    data = pl.DataFrame(rates, _OVERVIEW, orient="row")
    panels = []
    if rates:
        series = _series(data, "of", styles, "of", "value", list(styles))
        names = [style[0] for style in styles.values()]
        panels.append(Panel(names, series, "rate", "of generations (95 % interval)", COPIES))
    if table.height:
        panels.append(_growth(table, "distinct", "distinct rows written verbatim"))
    counts = table.select(
        pl.lit("expected distinct rows"),
        "role",
        "samples",
        "distinct",
        "distinct_low",
        "distinct_high",
    )
    return panels, data.vstack(counts.rename(dict(zip(counts.columns, _OVERVIEW, strict=True))))


def _thresholds(results: Results, own: Headline, marks: Mapping[str, float]) -> Figure:
    """Attributable rate and false discovery rate against the threshold."""
    sweep = own_rows(results["attribution"], own).filter(
        pl.col("at").is_in(["sweep", "fixed"]) & (pl.col("metric") != "verbatim")
    )
    keys = ["metric", "threshold"]
    sweep = sweep.unique([*keys, "source", "seed"], maintain_order=True)
    data = (
        pool_seeds(sweep, [*keys, "source"])
        .group_by(keys)
        .agg(pl.col("n").first(), *total("attributable"), pl.col("false_discovery_rate").max())
        .sort(keys)
    )
    names = sorted(_names(data, "threshold"))
    panels = []
    for value, title in (
        ("attributable", COPIES),
        ("false_discovery_rate", "false discovery rate"),
    ):
        rates = data.select(*keys, value, *(_RATE[1:] if value == "attributable" else ()))
        if value != "attributable":
            rates = rates.with_columns(low=value, high=value)
        series = _series(rates, "metric", _METRICS, "threshold", value, names)
        lines = [marks[name] for name in ("semantic", "string") if name in marks]
        panels.append(Panel(names, series, "rate", "similarity threshold", title, marks=lines))
    return panels, data


def _kinds(results: Results, verdict: Verdict) -> Figure:
    """What kinds of copying training caused."""
    frames = [own_rows(results["kinds"], own) for own in verdict.headlines]
    data = pool_seeds(pl.concat(frames), ["model", "source", "kind"])
    styles = {
        own.model: (own.model, colour)
        for own, colour in zip(verdict.headlines, _MODELS, strict=False)
    }
    rates = data.group_by("model", "kind").agg(*total("attributable"))
    series = _series(rates, "model", styles, "kind", "attributable", KINDS)
    return [
        Panel([kind.replace("-", " ") for kind in KINDS], series, "rate", "of generations")
    ], data


def _edits(results: Results) -> Figure:
    """Which edits of a row each similarity still takes for the same row."""
    table = results["edits"].filter(pl.col("pairs") > 0)
    data = table.filter(pl.col("embedder") == pl.col("embedder").first())
    pairs = data["pairs"].to_numpy()
    frames = []
    for metric in _STRINGS:
        reached = data[f"{metric}_reached"].fill_null(0).to_numpy() * pairs
        rates = dict(zip(_RATE, wilson(reached, pairs), strict=True))
        frames.append(pl.DataFrame({"edit": data["edit"], "metric": metric, **rates}))
    names = _names(data, "edit")
    series = _series(pl.concat(frames), "metric", _STRINGS, "edit", "attributable", names)
    return [Panel(names, series, "rate", "still count as the same", zero=False)], data


def condition_rates(results: Results, own: Headline) -> pl.DataFrame:
    """Attributable rates of every model and prefix on the headline model's sources and field.

    Returns:
        model, prefix, metric, trained, n, attributable, low, high; sources summed up.
    """
    rows = fixed(results["attribution"]).filter(
        pl.col("source").is_in(list(own.sources)) & pl.col("metric").is_in(list(_SHOWN)),
        level=own.level or "rows",
    )
    return rows.group_by("model", "prefix", "metric", maintain_order=True).agg(
        pl.col("trained").all(), pl.col("n").max(), *total("attributable")
    )


def _conditions(rates: pl.DataFrame, own: Headline) -> Figure:
    """Rates by prefix (of the headline model) and by model (at the headline's prefix)."""
    panels = []
    for title, key, rows in (
        (f"by prefix ({own.model})", "prefix", rates.filter(model=own.model)),
        (f"by model (prefix {own.prefix})", "model", rates.filter(prefix=own.prefix)),
    ):
        names = _names(rows, key)
        if len(names) > 1 or key == "model":
            sizes = dict(rows.select(key, "n").iter_rows())
            shown = [f"{name} ({sizes[name]:,})" for name in names]
            series = _series(rows, "metric", _SHOWN, key, "attributable", names)
            panels.append(Panel(shown, series, "rate", COPIES, title))
    return panels, rates


def repetitions(results: Results, own: Headline) -> pl.DataFrame:
    """Copies for each training row by how often the row stood in an epoch, over sources.

    Returns:
        repetitions, metric, rows, attributable, low, high; empty where all rows stood as often.
    """
    rows = own_rows(results["repetitions"], own).filter(pl.col("metric").is_in(list(_SHOWN)))
    rows = pool_seeds(rows, ["source", "repetitions", "metric"])
    found = (
        rows.with_columns(members=pl.col("members").sum().over("repetitions", "metric"))
        .with_columns(pl.col(_RATE) * pl.col("n") / pl.col("members"))
        .group_by("repetitions", "metric")
        .agg(pl.col("members").first().alias("rows"), *total("attributable"))
        .sort("repetitions", "metric")
    )
    return found if found["repetitions"].n_unique() > 1 else found.clear()


def _repetitions(data: pl.DataFrame) -> Figure:
    times = _names(data, "repetitions")
    sizes = dict(data.select("repetitions", "rows").iter_rows())
    names = [f"{time} \u00d7 ({sizes[time]:,} rows)" for time in times]
    series = _series(data, "metric", _SHOWN, "repetitions", "attributable", times)
    return [Panel(names, series, "number", "copies for each training row")], data


def _shift(results: Results) -> Figure:
    """What RL did to the likelihood of its rows, beyond what it did to twins."""
    data = results["shift"].filter("template", per="question")
    name = pl.format("{} \u2192 {}, {}", "base", "model", "source")
    panels = []
    for (target,), rows in data.with_columns(name=name).group_by("target", maintain_order=True):
        found = [estimate(row, "difference") for row in rows.iter_rows(named=True)]
        sizes = [Estimate(0, -size, size) if size else None for size in rows["detectable"]]
        series = [
            Series("difference to twins", "#cc79a7", found),
            Series("seen four times in five", INK, sizes, "|"),
        ]
        panels.append(Panel(rows["name"].to_list(), series, "number", "nats a text", f"{target}s"))
    return panels, data


def _tails(results: Results) -> Figure:
    """How many rows are likelier than a threshold, before and after."""
    table = results["tails"].filter("template", pl.col("rows") > 0)
    keys = ("model", "base", "source", "target")
    data = table.filter(*(pl.col(key) == pl.col(key).first() for key in keys))
    data = data.sort("role", "threshold")
    names = _names(data.sort("threshold"), "threshold")
    series = []
    for when, style in (("before", "o:"), ("after", "o-")):
        share = pl.col(when) / pl.col("rows")
        rates = data.with_columns(share=share, low=share, high=share)
        styles = {role: (f"{role}, {when}", ROLE_COLOURS[role], style) for role in _ROLES}
        series += _series(rates, "role", styles, "threshold", "share", names)
    places = [10**name for name in names]
    return [Panel(places, series, "rate", "probability that a row exceeds", "rows")], data


def _students(results: Results) -> Figure:
    """Students by what they were trained on."""
    data = results["distillation"].filter(measure="accuracy")
    styles = {arm: _ARMS.get(arm, (arm, GREY)) for arm in _names(data, "arm")}
    panels = []
    for (family,), rows in data.group_by("family", maintain_order=True):
        names = _names(rows, "benchmark")
        series = _series(rows, "arm", styles, "benchmark", "value", names)
        title = f"{family.upper()} students"
        panels.append(Panel(names, series, "rate", "right answers", title, zero=False))
    return panels, data


def _figures(
    results: Results, verdict: Verdict, marks: Mapping[str, float]
) -> Iterator[tuple[str, Figure]]:
    own = verdict.first
    if own:
        covered = coverage(results, own.model, own.sources)
        yield "overview", _overview(own, covered)
        if own.level:
            yield "thresholds", _thresholds(results, own, marks)
        yield "kinds", _kinds(results, verdict)
        yield "conditions", _conditions(condition_rates(results, own), own)
        yield "repetitions", _repetitions(repetitions(results, own))
        if covered.height:
            title = "rows with a chance of at least 10 %"
            yield "growth", ([_growth(covered, "at_risk", title)], covered)
    yield "edits", _edits(results)
    yield "shift", _shift(results)
    yield "tails", _tails(results)
    yield "students", _students(results)


def pictures(results: Results, verdict: Verdict, marks: Mapping[str, float]) -> dict[str, Picture]:
    """Every figure that the study's tables have numbers for, by name.

    Args:
        results: the study's tables.
        verdict: of them.
        marks: the study's thresholds, `semantic` and `string`.
    """
    return {
        name: picture(name, *found)
        for name, found in _figures(results, verdict, marks)
        if found[1].height
    }
