"""The page's twelve figures; each gives None where its numbers are not there."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alignment_extraction.report.drawing import (
    INK,
    Picture,
    dots,
    legend,
    line,
    panels,
    percent_axis,
    picture,
    power_axis,
    power_of_ten,
)
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import (
    Headline,
    Verdict,
    add,
    estimate,
    fixed,
    pool_seeds,
    rate_of,
)
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
_OTHERS = ("#8a6fd1", "#a6761d", "#1b9e9e", "#7f7f7f")
"""Colours of what has none of its own: models, sources, unknown students."""
_SHOWN = ("verbatim", "cosine")
ROW, EDGE = 24, 92
"""Pixels of one row of dots, and of what stands around a panel."""


def arm(name: str, place: int = 0) -> tuple[str, str]:
    """Label and colour of a student."""
    return ARMS.get(name, (name, _OTHERS[place % len(_OTHERS)]))


def _height(names: int, series: int) -> float:
    return EDGE + names * max(ROW, 13 * series)


def _own(table: pl.DataFrame, own: Headline) -> pl.DataFrame:
    """A table's rows of the headline model, on what it was trained on."""
    return table.filter(
        pl.col("source").is_in(list(own.sources)),
        model=own.model,
        prefix=own.prefix,
        field=own.field,
    )


def summed(rows: pl.DataFrame, key: str) -> dict[Any, Estimate]:
    """Attributable rates over sources by `key`, in the order of the rows."""
    groups = rows.partition_by(key, as_dict=True, maintain_order=True)
    return {name: add([estimate(row, "attributable") for row in group.iter_rows(named=True)])
            for (name,), group in groups.items()}  # fmt: skip


def coverage(results: Results, own: Headline) -> pl.DataFrame:
    """By role and number of samples: rows, at_risk and expected distinct rows with intervals."""
    risk = results["risk"].filter(pl.col("source").is_in(list(own.sources)), model=own.model)
    rows = []
    for (role, samples), group in risk.sort("role", "samples").group_by(
        "role", "samples", maintain_order=True
    ):
        dicts = group.to_dicts()
        at_risk = add([estimate(r, "at_risk", "at_risk_low", "at_risk_high") for r in dicts])
        distinct = add([estimate(r, "expected_distinct", "distinct_low", "distinct_high") for r in dicts])
        seen = group["observed_distinct"]
        known = None if seen.null_count() else float(seen.sum())
        rows.append((role, samples, int(group["rows"].sum()), *at_risk, *distinct, known))
    names = "at_risk at_risk_low at_risk_high distinct distinct_low distinct_high observed".split()
    schema = {"role": pl.String, "samples": pl.Float64, "rows": pl.Int64}
    return pl.DataFrame(rows, {**schema, **dict.fromkeys(names, pl.Float64)}, orient="row")


def _growth(axis: Axes, table: pl.DataFrame, name: str, label: str) -> None:
    """A count against samples, members and never-trained rows, with bands."""
    for role, shade in ROLE_COLOURS.items():
        rows = table.filter(role=role)
        if rows.is_empty():
            continue
        text = {"member": "trained on", "twin": "twins, never trained on"}.get(role, role)
        line(axis, rows["samples"], rows[name], shade, text, style="-" if role == "member" else "--")
        axis.fill_between(
            rows["samples"], rows[f"{name}_low"], rows[f"{name}_high"], color=shade, alpha=0.2, lw=0
        )
    seen = table.filter(pl.col("observed").is_not_null(), role="member")
    if name == "distinct" and seen.height:
        axis.plot(seen["samples"], seen["observed"], "o", color=INK, ms=5, label="seen in samples")
    power_axis(axis)
    axis.set_ylim(bottom=0)
    axis.set(xlabel="samples", title=label)


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
        height = 224 if width > 400 else 200
        figure, axes = panels(width, [height] * (bool(metrics) + (not table.is_empty())))
        if metrics:
            axis = axes[0]
            series = [
                (m.label, m.colour, [own.rates[m.name] if k is m else None for k in metrics])
                for m in metrics
            ]
            dots(axis, [m.label for m in metrics], series, "rate", dodge=False)
            axis.set(title="copies that training caused", xlabel="of generations (95 % interval)")
        if not table.is_empty():
            axis = axes[-1]
            _growth(axis, table, "distinct", "distinct rows written verbatim")
            axis.legend(loc="upper left", fontsize=11, handlelength=1.4)
        return figure

    rates = pl.DataFrame(
        [("attributable rate", m.name, None, *own.rates[m.name]) for m in metrics],
        _LONG, orient="row",
    )  # fmt: skip
    growth = table.select(
        pl.lit("expected distinct rows").alias("quantity"), pl.col("role").alias("of"), "samples",
        value="distinct", low="distinct_low", high="distinct_high",
    )  # fmt: skip
    where = f" after the prefix {own.prefix}" if own.prefix else ""
    caption = (
        f"{own.model}{where}. Left: share of {own.n:,} generations whose "
        "best row is a training row, less those whose best row is a twin. Right: rows expected to "
        "be written verbatim at least once, from each row's own probability; points are what was "
        "seen. Bars and bands are 95 % intervals."
    )
    return picture("overview", caption, draw, pl.concat([rates, growth]))


_LONG = {"quantity": pl.String, "of": pl.String, "samples": pl.Float64, "value": pl.Float64,
         "low": pl.Float64, "high": pl.Float64}  # fmt: skip


def thresholds(results: Results, own: Headline, marks: Mapping[str, float]) -> Picture | None:
    """Attributable rate and false discovery rate against the threshold."""
    sweep = _own(results["attribution"], own).filter(pl.col("at").is_in(["sweep", "fixed"]))
    sweep = sweep.filter(pl.col("metric") != "verbatim", level=own.level)
    if sweep.is_empty():
        return None
    keys = ["metric", "threshold", "source"]
    sweep = pool_seeds(sweep.unique([*keys, "seed"], maintain_order=True), keys)
    rows = []
    for (metric, threshold), group in sweep.group_by("metric", "threshold", maintain_order=True):
        rate = rate_of(group) or Estimate(0, 0, 0)
        worst = group["false_discovery_rate"].max()
        rows.append((metric, threshold, int(group["n"][0]), *rate, worst))
    names = ["metric", "threshold", "n", "attributable", "low", "high", "false_discovery_rate"]
    data = pl.DataFrame(rows, names, orient="row", strict=False).sort("metric", "threshold")
    metrics = [metric for metric in METRICS.values() if metric.name in set(data["metric"])]

    def draw(width: int) -> Figure:
        figure, axes = panels(width, [290, 270])
        for metric in metrics:
            own_rows = data.filter(metric=metric.name)
            x = own_rows["threshold"]
            line(axes[0], x, own_rows["attributable"], metric.colour, metric.label)
            axes[0].fill_between(
                x, own_rows["low"], own_rows["high"], color=metric.colour, alpha=0.18, lw=0
            )
            line(axes[1], x, own_rows["false_discovery_rate"], metric.colour, metric.label)
            if metric.threshold in marks:
                for axis in axes:
                    axis.axvline(marks[metric.threshold], color=INK, lw=0.8, ls=":")
        axes[0].axhline(0, color=INK, lw=0.8)
        for axis, title in zip(axes, ("copies that training caused", "false discovery rate"), strict=True):
            axis.set(title=title, xlabel="similarity threshold")
            axis.set_xlim(right=1)
            percent_axis(axis)
        axes[1].set_ylim(0, 1.05)
        legend(figure, axes[0])
        return figure

    caption = (
        f"{own.model}, prefix {own.prefix}, n = {own.n:,} generations against "
        f"{own.members:,} training rows and {own.twins:,} twins. Left: best row is a training row "
        "less best row is a twin, with 95 % bands from the coin that assigned them. Right: expected "
        "share of chance among the hits. Dotted lines are the study's thresholds."
    )
    return picture("thresholds", caption, draw, data)


def membership(results: Results, own: Headline) -> Picture | None:
    """How well membership attacks tell training rows from twins."""
    table = results["membership"].filter(model=own.model)
    if table.is_empty():
        return None
    attacks = table["attack"].unique(maintain_order=True).to_list()
    keys = table.select("source", "target").unique(maintain_order=True).rows()

    def draw(width: int) -> Figure:
        figure, axes = panels(width, [_height(len(attacks), len(keys))])
        series = []
        for place, (source, target) in enumerate(keys):
            rows = {r["attack"]: estimate(r, "auc") for r in
                    table.filter(source=source, target=target).iter_rows(named=True)}  # fmt: skip
            label = f"{source}, {target}" if len({t for _, t in keys}) > 1 else source
            colour = _OTHERS[place % len(_OTHERS)]
            series.append((label, colour, [rows.get(attack) for attack in attacks]))
        dots(axes[0], attacks, series, "number", zero=0.5)
        axes[0].set_xlabel("AUC (0.5 is chance; 95 % interval)")
        legend(figure, axes[0], 4)
        return figure

    members, twins = table["members"].max(), table["twins"].max()
    caption = (
        f"Attacks on {own.model}: chance that a training row scores above a twin. Up to {members:,} "
        f"training rows and {twins:,} twins a source. Intervals are at 95 %."
    )
    return picture("membership", caption, draw, table)


def kinds(results: Results, verdict: Verdict) -> Picture | None:
    """What kinds of copying training caused."""
    order = ["verbatim", "near-verbatim", "same-template", "paraphrase"]
    series, frames = [], []
    for place, own in enumerate(verdict.headlines[: len(_OTHERS)]):
        rows = _own(results["kinds"], own)
        if rows.is_empty():
            continue
        rows = pool_seeds(rows.with_columns(n=pl.lit(own.n)), ["source", "kind"])
        found = summed(rows, "kind")
        series.append((own.model, _OTHERS[place], [found.get(kind) for kind in order]))
        frames.append(rows.with_columns(model=pl.lit(own.model)))
    if not series:
        return None
    names = [kind.replace("-", " ") for kind in order]

    def draw(width: int) -> Figure:
        figure, axes = panels(width, [_height(len(order), len(series)) + 10])
        dots(axes[0], names, series, "rate")
        axes[0].set_xlabel("copies that training caused, of generations (95 % interval)")
        if width < 400:
            axes[0].set_xlabel("of generations (95 % interval)")
        legend(figure, axes[0])
        return figure

    caption = (
        "Copies that training caused, by kind: verbatim, differing in a few characters, the same "
        "template with other values, or said in other words. A hit on a twin counts against."
    )
    return picture("kinds", caption, draw, pl.concat(frames))


def edits(results: Results, marks: Mapping[str, float]) -> Picture | None:
    """Which edits of a row each similarity still takes for the same row."""
    table = results["edits"].filter(pl.col("pairs") > 0)
    if table.is_empty():
        return None
    table = table.filter(embedder=table["embedder"][0])
    names = table["edit"].to_list()
    series = []
    for metric in ("levenshtein", "cosine"):
        shares = table[f"{metric}_reached"].fill_null(0).to_numpy()
        found = wilson(shares * table["pairs"].to_numpy(), table["pairs"].to_numpy())
        estimates = [Estimate(*map(float, row)) for row in zip(*found, strict=True)]
        series.append((METRICS[metric].label, METRICS[metric].colour, estimates))

    def draw(width: int) -> Figure:
        figure, axes = panels(width, [_height(len(names), 2) + 10])
        dots(axes[0], names, series, "rate", zero=None)
        axes[0].set_xlabel("of edited rows still count as the same (95 % interval)")
        if width < 400:
            axes[0].set_xlabel("still count as the same")
        axes[0].set_xlim(-3, 103)
        legend(figure, axes[0])
        return figure

    pairs = " to ".join(f"{number:,}" for number in sorted({*_ends(table["pairs"])}))
    caption = (
        f"Rows with one labelled edit against the original ({pairs} pairs an edit, "
        f"{table['embedder'][0]}): share that reaches "
        f"cosine {marks.get('semantic', 0.95):g} or Levenshtein {marks.get('string', 0.9):g}. "
        "This decides the ratio of semantic to string hits."
    )
    return picture("edits", caption, draw, table)


def _ends(values: pl.Series) -> tuple[int, int]:
    numbers = values.to_numpy()
    return int(numbers.min()), int(numbers.max())


def condition_rates(results: Results, own: Headline) -> pl.DataFrame:
    """Attributable rates of every model and prefix on the headline model's sources and field.

    Returns:
        model, prefix, metric, trained, n, attributable, low, high; sources summed up.
    """
    rows = fixed(results["attribution"]).filter(
        pl.col("source").is_in(list(own.sources)) & pl.col("metric").is_in(_SHOWN), level=own.level
    )
    keys = ["model", "prefix", "metric"]
    found = [
        (*key, group["trained"].all(), group["n"].max(), *(rate_of(group) or ()))
        for key, group in rows.group_by(keys, maintain_order=True)
    ]
    names = [*keys, "trained", "n", "attributable", "low", "high"]
    return pl.DataFrame(found, names, orient="row", strict=False)


def conditions(
    rates: pl.DataFrame, own: Headline, labels: Mapping[str, str]
) -> Picture | None:
    """Rates by prefix (of the headline model) and by model (at the headline's prefix)."""
    if rates.is_empty():
        return None
    by_prefix = rates.filter(model=own.model)
    by_model = rates.filter(prefix=own.prefix)
    groups = [
        (f"by prefix ({own.model})", "prefix", by_prefix),
        (f"by model (prefix {own.prefix})", "model", by_model),
    ]
    groups = [group for group in groups if group[2][group[1]].n_unique() > 1] or groups[1:]

    def draw(width: int) -> Figure:
        counts = [rows[key].n_unique() for _, key, rows in groups]
        two_lines = 1.5 if width < 400 else 1.35
        figure, axes = panels(width, [EDGE + 26 + count * ROW * two_lines for count in counts])
        for axis, (title, key, rows) in zip(axes, groups, strict=True):
            names = rows[key].unique(maintain_order=True).to_list()
            series = []
            for metric in _SHOWN:
                found = {r[key]: r for r in rows.filter(metric=metric).iter_rows(named=True)}
                estimates = [estimate(found[k], "attributable") if k in found else None for k in names]
                series.append((METRICS[metric].label, METRICS[metric].colour, estimates))
            sizes = dict(zip(rows[key], rows["n"], strict=True))
            shown = [f"{labels.get(k, k)}\nn = {sizes[k]:,}" for k in names]
            dots(axis, shown, series, "rate")
            axis.set(title=title, xlabel="copies that training caused")
        legend(figure, axes[0])
        return figure

    caption = (
        f"Copies of the training rows of {', '.join(own.sources)} that training caused, of n "
        "generations. A model that was not trained on them must hold 0. Intervals are at 95 %."
    )
    return picture("conditions", caption, draw, pl.concat([by_prefix, by_model]).unique(maintain_order=True))


def repetitions(results: Results, own: Headline) -> Picture | None:
    """Rates by how often a row was repeated in training."""
    rows = _own(results["repetitions"], own).filter(pl.col("metric").is_in(_SHOWN))
    if rows["repetitions"].n_unique() < 2:
        return None
    rows = rows.sort("repetitions", "metric")
    times = rows["repetitions"].unique(maintain_order=True).to_list()
    per_row = pl.col("low", "high", "attributable") * own.n / pl.col("members").sum().over(
        "repetitions", "metric"
    )
    rows = rows.with_columns(per_row)
    series = []
    for metric in _SHOWN:
        found = summed(rows.filter(metric=metric), "repetitions")
        series.append((METRICS[metric].label, METRICS[metric].colour, [found.get(k) for k in times]))
    sizes = rows.filter(metric=rows["metric"][0]).group_by("repetitions").agg(pl.col("members").sum())
    members = dict(sizes.iter_rows())

    def draw(width: int) -> Figure:
        figure, axes = panels(width, [_height(len(times), 2) + 10])
        names = [f"{time} \u00d7 ({members.get(time, 0):,} rows)" for time in times]
        dots(axes[0], names, series, "number")
        axes[0].set_xlabel("copies that training caused, for each training row (95 % interval)")
        if width < 400:
            axes[0].set_xlabel("copies for each training row")
        legend(figure, axes[0])
        return figure

    caption = (
        f"{own.model}, prefix {own.prefix}, n = {own.n:,}: copies that training caused for each "
        "training row, by how often the row stood in one epoch. Bars are 95 % intervals."
    )
    return picture("repetitions", caption, draw, rows)


def growth(results: Results, own: Headline) -> Picture | None:
    """Rows at risk against the number of samples."""
    table = coverage(results, own)
    if table.is_empty():
        return None

    def draw(width: int) -> Figure:
        figure, axes = panels(width, [270])
        _growth(axes[0], table, "at_risk", "rows with a chance of at least 10 %")
        axes[0].legend(loc="upper left", fontsize=11)
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
    names = [f"{r['base']} \u2192 {r['model']}\n{r['source']}, {r['target']}" for r in table.iter_rows(named=True)]
    found = [estimate(row, "difference") for row in table.iter_rows(named=True)]
    detectable = table["detectable"].to_list()

    def draw(width: int) -> Figure:
        figure, axes = panels(width, [EDGE + 42 * len(names)])
        dots(axes[0], names, [("difference to twins", "#cc79a7", found)], "number")
        for place, size in enumerate(detectable):
            if size is not None:
                ends = [-size, size]
                label = "could have been seen" if place == 0 else None
                axes[0].plot(ends, [place] * 2, "|", color=INK, ms=14, label=label)
        axes[0].set_xlabel("change of log-likelihood beyond twins (nats a question)")
        if width < 400:
            axes[0].set_xlabel("nats a question")
        legend(figure, axes[0])
        return figure

    caption = (
        "Change of the log-likelihood of training rows less that of twins, with the chat template, "
        "in nats a question; bars are 95 % intervals over templates. Ticks: a difference of that "
        "size is seen four times in five."
    )
    return picture("shift", caption, draw, table)


def tails(results: Results) -> Picture | None:
    """How many rows are likelier than a threshold, before and after."""
    table = results["tails"].filter("template", pl.col("rows") > 0)
    if table.is_empty():
        return None
    table = table.filter(
        model=table["model"][0], base=table["base"][0], target=table["target"][0],
        source=table["source"][0],
    ).sort("role", "threshold", descending=[False, True])  # fmt: skip

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
        ticks = table["threshold"].unique().to_list()
        axes[0].set_xticks(ticks, [power_of_ten(tick) for tick in ticks])
        axes[0].set(xlabel="probability that a row exceeds", ylabel="rows")
        axes[0].set_ylim(bottom=0)
        legend(figure, axes[0])
        return figure

    first = table.row(0, named=True)
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
    names = [f"{benchmark}\n{family.upper()} students" for family, benchmark in keys]
    arms = table["arm"].unique(maintain_order=True).to_list()
    series = []
    for place, name in enumerate(arms):
        found = {(r["family"], r["benchmark"]): estimate(r, "value", "value_low", "value_high")
                 for r in table.filter(arm=name).iter_rows(named=True)}  # fmt: skip
        label, colour = arm(name, place)
        series.append((label, colour, [found.get(key) for key in keys]))

    def draw(width: int) -> Figure:
        figure, axes = panels(width, [EDGE + 20 + 14 * len(arms) * len(keys)])
        dots(axes[0], names, series, "rate", zero=None)
        axes[0].set_xlim(left=0)
        axes[0].set_xlabel("right answers (95 % interval)")
        legend(figure, axes[0], 4)
        return figure

    caption = (
        "Students by what they were trained on: right answers on each benchmark. Students of one "
        "kind began from one model with the same steps. Bars are 95 % intervals over seeds and items."
    )
    return picture("students", caption, draw, table)


def curves(results: Results) -> Picture | None:
    """Reward and accuracy over the steps of the students' RL."""
    table = results["distillation_curves"].filter(family="rl")
    metrics = [name for name in ("reward", "accuracy") if name in set(table["metric"])]
    if not metrics:
        return None
    mean = (
        table.filter(pl.col("metric").is_in(metrics))
        .group_by("metric", "arm", "step")
        .agg(value=pl.col("value").mean(), low=pl.col("value").min(), high=pl.col("value").max())
        .sort("metric", "arm", "step")
    )

    def draw(width: int) -> Figure:
        figure, axes = panels(width, [260] * len(metrics))
        for axis, metric in zip(axes, metrics, strict=True):
            for place, name in enumerate(_arms(mean)):
                rows = mean.filter(metric=metric, arm=name)
                label, colour = arm(name, place)
                line(axis, rows["step"], rows["value"], colour, label)
                axis.fill_between(rows["step"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
            axis.set(title=metric, xlabel="step", ylim=(0, 1))
        legend(figure, axes[0])
        return figure

    caption = "Reward and accuracy of RL students by step: means over seeds, bands from least to most."
    return picture("curves", caption, draw, mean)


def _arms(table: pl.DataFrame) -> Sequence[str]:
    known = table["arm"].unique(maintain_order=True).to_list()
    return [name for name in ARMS if name in known] + [name for name in known if name not in ARMS]
