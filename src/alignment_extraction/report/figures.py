"""The page's ten figures; each gives None where its numbers are not there."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alignment_extraction.report.drawing import (
    INK,
    Picture,
    Series,
    dot_picture,
    dots,
    legend,
    line,
    panels,
    percent_axis,
    picture,
    power_axis,
    power_of_ten,
)
from alignment_extraction.report.headline import Headline, add, estimate, fixed, pool_seeds, rate_of
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import Verdict
from alignment_extraction.report.wording import Estimate
from alignment_extraction.statistics import wilson
from alignment_extraction.vocabulary import METRICS, ROLE_COLOURS

ARMS = {
    "start": ("untrained", INK),
    "original": ("original data", "#d55e00"),
    "extracted": ("extracted data", "#0072b2"),
    "non-matches": ("extracted, no matches", "#e69f00"),
    "verified": ("extracted, verified", "#009e73"),
}
"""Students of the distillation by what they were trained on: label and colour."""
COPIES = "copies that training caused"
KINDS = ("verbatim", "near-verbatim", "same-template", "paraphrase")
_OTHERS = ("#8a6fd1", "#a6761d", "#1b9e9e", "#7f7f7f")
"""Colours of what has none of its own: models, unknown students."""
_SHOWN = ("verbatim", "cosine")
_LONG = ("quantity", "of", "samples", "value", "low", "high")


def _own(table: pl.DataFrame, own: Headline) -> pl.DataFrame:
    """A table's rows of the headline model, on what it was trained on."""
    chosen = pl.col("source").is_in(list(own.sources))
    if "level" in table.columns and own.level:
        chosen &= pl.col("level").fill_null(own.level) == own.level
    rows = table.filter(chosen, model=own.model, prefix=own.prefix, field=own.field)
    return rows.with_columns(pl.col("n").fill_null(own.n)) if "n" in rows.columns else rows


def summed(rows: pl.DataFrame, key: str) -> dict[Any, Estimate]:
    """Attributable rates over sources by `key`, in the order of the rows."""
    groups = rows.partition_by(key, as_dict=True, maintain_order=True)
    found = {name: rate_of(group) for (name,), group in groups.items()}
    return {name: rate for name, rate in found.items() if rate is not None}


def _of_metrics(rows: pl.DataFrame, key: str, names: Sequence[Any]) -> list[Series]:
    """Verbatim and cosine as two series over `names` of the column `key`."""
    by_metric = {metric: summed(rows.filter(metric=metric), key) for metric in _SHOWN}
    return [
        (METRICS[metric].label, METRICS[metric].colour, [found.get(name) for name in names])
        for metric, found in by_metric.items()
    ]


def coverage(results: Results, own: Headline) -> pl.DataFrame:
    """By role and number of samples: rows, at_risk and expected distinct rows with intervals."""
    risk = results["risk"].filter(pl.col("source").is_in(list(own.sources)), model=own.model)
    groups = risk.sort("role", "samples").group_by("role", "samples", maintain_order=True)
    rows = []
    for (role, samples), group in groups:
        pairs = (("at_risk", "at_risk"), ("expected_distinct", "distinct"))
        totals = [
            end
            for name, ends in pairs
            for end in add(
                [estimate(row, name, f"{ends}_low", f"{ends}_high") for row in group.to_dicts()]
            )
        ]
        seen = group["observed_distinct"]
        known = None if seen.null_count() else float(seen.sum())
        rows.append((role, samples, int(group["rows"].sum()), *totals, known))
    names = [
        "at_risk",
        "at_risk_low",
        "at_risk_high",
        "distinct",
        "distinct_low",
        "distinct_high",
        "observed",
    ]
    schema = {"role": pl.String, "samples": pl.Float64, "rows": pl.Int64}
    return pl.DataFrame(rows, {**schema, **dict.fromkeys(names, pl.Float64)}, orient="row")


def _growth(axis: Axes, table: pl.DataFrame, name: str, title: str) -> None:
    """A count against samples, members and never-trained rows, with bands."""
    labels = {"member": "trained on", "twin": "twins, never trained on"}
    for role, shade in ROLE_COLOURS.items():
        rows = table.filter(role=role)
        if rows.height:
            style = "-" if role == "member" else "--"
            line(axis, rows["samples"], rows[name], shade, labels.get(role, role), style=style)
            ends = (rows[f"{name}_low"], rows[f"{name}_high"])
            axis.fill_between(rows["samples"], *ends, color=shade, alpha=0.2, lw=0)
    seen = table.filter(pl.col("observed").is_not_null(), role="member")
    if name == "distinct" and seen.height:
        axis.plot(seen["samples"], seen["observed"], "o", color=INK, ms=5, label="seen in samples")
    power_axis(axis)
    axis.set_ylim(bottom=0)
    axis.set(xlabel="samples", title=title)
    axis.legend(loc="upper left", fontsize=11, handlelength=1.4)


def overview(results: Results, verdict: Verdict) -> Picture | None:
    """The picture of the first screen: attributable rates, and coverage against samples."""
    own = verdict.first
    if own is None:
        return None
    table = coverage(results, own)
    metrics = [metric for metric in METRICS.values() if metric.name in own.rates]
    if table.is_empty() and not metrics:
        return None

    def draw(width: int) -> Figure:
        shown = bool(metrics) + (not table.is_empty())
        figure, axes = panels(width, [224 if width > 400 else 200] * shown)
        if metrics:
            series: list[Series] = [
                (m.label, m.colour, [own.rates[m.name] if k is m else None for k in metrics])
                for m in metrics
            ]
            dots(axes[0], [m.label for m in metrics], series, "rate", dodge=False)
            axes[0].set(title=COPIES, xlabel="of generations (95 % interval)")
        if table.height:
            _growth(axes[-1], table, "distinct", "distinct rows written verbatim")
        return figure

    data = [("attributable rate", m.name, None, *own.rates[m.name]) for m in metrics]
    columns = table.select("role", "samples", "distinct", "distinct_low", "distinct_high")
    data += [("expected distinct rows", *row) for row in columns.iter_rows()]
    where = f" after the prefix {own.prefix}" if own.prefix else ""
    caption = (
        f"{own.model}{where}. Copies that training caused: share of {own.n:,} generations whose "
        "best row is a training row, less those whose best row is a twin. Distinct rows: expected "
        "to be written verbatim at least once, from each row's own probability; points are what "
        "was seen. Bars and bands are 95 % intervals."
    )
    frame = pl.DataFrame(data, _LONG, orient="row", infer_schema_length=None)
    return picture("overview", caption, draw, frame)


def thresholds(results: Results, own: Headline, marks: Mapping[str, float]) -> Picture | None:
    """Attributable rate and false discovery rate against the threshold."""
    if own.level is None:
        return None
    sweep = _own(results["attribution"], own).filter(
        pl.col("at").is_in(["sweep", "fixed"]) & (pl.col("metric") != "verbatim"), level=own.level
    )
    if sweep.is_empty():
        return None
    keys = ["metric", "threshold", "source"]
    sweep = pool_seeds(sweep.unique([*keys, "seed"], maintain_order=True), keys)
    rows = []
    for (metric, threshold), group in sweep.group_by("metric", "threshold", maintain_order=True):
        rate = rate_of(group) or Estimate(0, 0, 0)
        rows.append((metric, threshold, group["n"][0], *rate, group["false_discovery_rate"].max()))
    names = ["metric", "threshold", "n", "attributable", "low", "high", "false_discovery_rate"]
    data = pl.DataFrame(rows, names, orient="row", strict=False).sort("metric", "threshold")
    metrics = [metric for metric in METRICS.values() if metric.name in set(data["metric"])]

    def draw(width: int) -> Figure:
        figure, axes = panels(width, [290, 270])
        for metric in metrics:
            of_metric = data.filter(metric=metric.name)
            x, ends = of_metric["threshold"], (of_metric["low"], of_metric["high"])
            axes[0].fill_between(x, *ends, color=metric.colour, alpha=0.18, lw=0)
            columns = ("attributable", "false_discovery_rate")
            for axis, column in zip(axes, columns, strict=True):
                line(axis, x, of_metric[column], metric.colour, metric.label)
                if metric.threshold is not None and metric.threshold in marks:
                    axis.axvline(marks[metric.threshold], color=INK, lw=0.8, ls=":")
        axes[0].axhline(0, color=INK, lw=0.8)
        for axis, title in zip(axes, (COPIES, "false discovery rate"), strict=True):
            axis.set(title=title, xlabel="similarity threshold")
            axis.set_xlim(right=1)
            percent_axis(axis)
        axes[1].set_ylim(0, 1.05)
        legend(figure, axes[0])
        return figure

    caption = (
        f"{own.model}, prefix {own.prefix}, n = {own.n:,} generations against {own.members:,} "
        f"training rows and {own.twins:,} twins. Copies that training caused: best row is a "
        "training row less best row is a twin, with 95 % bands from the coin that assigned them. "
        "False discovery rate: expected share of chance among the hits. Dotted lines are the "
        "study's thresholds."
    )
    return picture("thresholds", caption, draw, data)


def kinds(results: Results, verdict: Verdict) -> Picture | None:
    """What kinds of copying training caused."""
    series: list[Series] = []
    frames = []
    for own, colour in zip(verdict.headlines, _OTHERS, strict=False):
        rows = _own(results["kinds"], own)
        if rows.height:
            rows = pool_seeds(rows, ["model", "source", "kind"])
            found = summed(rows, "kind")
            series.append((own.model, colour, [found.get(kind) for kind in KINDS]))
            frames.append(rows)
    if not series:
        return None
    caption = (
        "Copies that training caused, by kind: verbatim, differing in a few characters, the same "
        "template with other values, or said in other words. A hit on a twin counts against."
    )
    names = [kind.replace("-", " ") for kind in KINDS]
    panel = ("", names, series)
    return dot_picture("kinds", caption, [panel], "rate", "of generations", pl.concat(frames))


def edits(results: Results, marks: Mapping[str, float]) -> Picture | None:
    """Which edits of a row each similarity still takes for the same row."""
    table = results["edits"].filter(pl.col("pairs") > 0)
    if table.is_empty():
        return None
    table = table.filter(embedder=table["embedder"][0])
    series: list[Series] = []
    for name in ("levenshtein", "cosine"):
        pairs = table["pairs"].to_numpy()
        found = wilson(table[f"{name}_reached"].fill_null(0).to_numpy() * pairs, pairs)
        estimates = [Estimate(*map(float, row)) for row in zip(*found, strict=True)]
        series.append((METRICS[name].label, METRICS[name].colour, estimates))
    sizes = " to ".join(
        f"{number:,}" for number in sorted({*pairs[[pairs.argmin(), pairs.argmax()]]})
    )
    caption = (
        f"Rows with one labelled edit against the original ({sizes} pairs an edit, "
        f"{table.item(0, 'embedder')}): share that reaches cosine {marks.get('semantic', 0.95):g} "
        f"or Levenshtein {marks.get('string', 0.9):g}. This decides the ratio of semantic to "
        "string hits."
    )
    panel = ("", table["edit"].to_list(), series)
    return dot_picture(
        "edits", caption, [panel], "rate", "still count as the same", table, zero=None
    )


def condition_rates(results: Results, own: Headline) -> pl.DataFrame:
    """Attributable rates of every model and prefix on the headline model's sources and field.

    Returns:
        model, prefix, metric, trained, n, attributable, low, high; sources summed up.
    """
    sources = pl.col("source").is_in(list(own.sources))
    rows = fixed(results["attribution"]).filter(
        sources & pl.col("metric").is_in(_SHOWN), level=own.level or "rows"
    )
    keys = ["model", "prefix", "metric"]
    found = [
        (*key, group["trained"].all(), group["n"].max(), *(rate_of(group) or ()))
        for key, group in rows.group_by(keys, maintain_order=True)
    ]
    names = [*keys, "trained", "n", "attributable", "low", "high"]
    return pl.DataFrame(found, names, orient="row", strict=False)


def conditions(rates: pl.DataFrame, own: Headline, labels: Mapping[str, str]) -> Picture | None:
    """Rates by prefix (of the headline model) and by model (at the headline's prefix)."""
    groups = [
        (f"by prefix ({own.model})", "prefix", rates.filter(model=own.model)),
        (f"by model (prefix {own.prefix})", "model", rates.filter(prefix=own.prefix)),
    ]
    panels_ = []
    for title, key, rows in groups:
        names = rows[key].unique(maintain_order=True).to_list()
        if len(names) > 1 or key == "model":
            sizes = dict(zip(rows[key], rows["n"], strict=True))
            shown = [f"{labels.get(name, name)}\nn = {sizes[name]:,}" for name in names]
            panels_.append((title, shown, _of_metrics(rows, key, names)))
    if rates.is_empty():
        return None
    caption = (
        f"Copies of the training rows of {', '.join(own.sources)} that training caused, of n "
        "generations. A model that was not trained on them must hold 0. Bars are 95 % intervals."
    )
    return dot_picture("conditions", caption, panels_, "rate", COPIES, rates)


def repetitions(results: Results, own: Headline) -> Picture | None:
    """Copies for each training row by how often the row stood in an epoch."""
    rows = _own(results["repetitions"], own).filter(pl.col("metric").is_in(_SHOWN))
    if rows["repetitions"].n_unique() < 2:
        return None
    rows = pool_seeds(rows.sort("repetitions", "metric"), ["source", "repetitions", "metric"])
    members = pl.col("members").sum().over("repetitions", "metric")
    rows = rows.with_columns(
        pl.col("attributable", "low", "high") * pl.col("n") / members, all_rows=members
    )
    times = rows["repetitions"].unique(maintain_order=True).to_list()
    sizes = dict(rows.select("repetitions", "all_rows").iter_rows())
    caption = (
        f"{own.model}, prefix {own.prefix}, n = {own.n:,}: copies that training caused for each "
        "training row, by how often the row stood in one epoch. Bars are 95 % intervals."
    )
    names = [f"{time} \u00d7 ({sizes[time]:,} rows)" for time in times]
    panel = ("", names, _of_metrics(rows, "repetitions", times))
    return dot_picture(
        "repetitions", caption, [panel], "number", "copies for each training row", rows
    )


def growth(results: Results, own: Headline) -> Picture | None:
    """Rows at risk against the number of samples."""
    table = coverage(results, own)
    if table.is_empty():
        return None

    def draw(width: int) -> Figure:
        figure, axes = panels(width, [270])
        _growth(axes[0], table, "at_risk", "rows with a chance of at least 10 %")
        return figure

    caption = (
        f"{own.model}: rows with a chance of at least 10 % to be written verbatim, against the "
        "number of samples. Bands are 95 % intervals over templates."
    )
    return picture("growth", caption, draw, table)


def shift(results: Results) -> Picture | None:
    """What RL did to the likelihood of its rows, beyond what it did to twins."""
    table = results["shift"].filter("template", per="question")
    if table.is_empty():
        return None
    rows = table.to_dicts()
    names = [f"{r['base']} \u2192 {r['model']}\n{r['source']}, {r['target']}" for r in rows]
    found = [estimate(row, "difference") for row in rows]
    caption = (
        "Change of the log-likelihood of training rows less that of twins, with the chat template, "
        "in nats a text; bars are 95 % intervals over templates. Ticks: a difference of that "
        "size is seen four times in five."
    )

    def ticks(axis: Axes) -> None:
        sizes = [(place, row["detectable"]) for place, row in enumerate(rows) if row["detectable"]]
        for place, size in sizes:
            axis.plot([-size, size], [place] * 2, "|", color=INK, ms=14)

    panel = ("", names, [("difference to twins", "#cc79a7", found)])
    return dot_picture("shift", caption, [panel], "number", "nats a text", table, also=ticks)


def tails(results: Results) -> Picture | None:
    """How many rows are likelier than a threshold, before and after."""
    table = results["tails"].filter("template", pl.col("rows") > 0)
    if table.is_empty():
        return None
    first = table.row(0, named=True)
    keys = {name: first[name] for name in ("model", "base", "source", "target")}
    table = table.filter(**keys).sort("role", "threshold", descending=[False, True])

    def draw(width: int) -> Figure:
        figure, axes = panels(width, [270])
        for role, shade in ROLE_COLOURS.items():
            rows = table.filter(role=role)
            for when, style in (("before", ":"), ("after", "-")):
                if rows.height:
                    share = rows[when] / rows["rows"]
                    line(axes[0], rows["threshold"], share, shade, f"{role}, {when}", "o", style)
        percent_axis(axes[0])
        axes[0].invert_xaxis()
        places = table["threshold"].unique().to_list()
        axes[0].set_xticks(places, [power_of_ten(place) for place in places])
        axes[0].set(xlabel="probability that a row exceeds", ylabel="rows")
        axes[0].set_ylim(bottom=0)
        legend(figure, axes[0])
        return figure

    caption = (
        f"{first['base']} before and {first['model']} after, {first['source']}, {first['target']}: "
        "share of rows whose probability exceeds a threshold, training rows and twins."
    )
    return picture("tails", caption, draw, table)


def students(results: Results) -> Picture | None:
    """Students by what they were trained on."""
    table = results["distillation"].filter(measure="accuracy")
    if table.is_empty():
        return None
    keys = table.select("family", "benchmark").unique(maintain_order=True).rows()
    series: list[Series] = []
    for place, (name,) in enumerate(table.select("arm").unique(maintain_order=True).iter_rows()):
        found = {
            (row["family"], row["benchmark"]): estimate(row, "value", "value_low", "value_high")
            for row in table.filter(arm=name).iter_rows(named=True)
        }
        label, colour = ARMS.get(name, (name, _OTHERS[place % len(_OTHERS)]))
        series.append((label, colour, [found.get(key) for key in keys]))
    caption = (
        "Students by what they were trained on: right answers on each benchmark. Students of one "
        "kind began from one model with the same steps. Intervals are over seeds and items."
    )
    names = [f"{benchmark}\n{family.upper()} students" for family, benchmark in keys]
    panel = ("", names, series)
    return dot_picture("students", caption, [panel], "rate", "right answers", table, zero=None)
