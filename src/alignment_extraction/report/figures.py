"""What the page's questions are answered with: frames of estimates, drawn as figures.toml says."""

import tomllib
from collections.abc import Mapping

import polars as pl

from alignment_extraction.report.drawing import Panel, Picture, picture
from alignment_extraction.report.headline import Headline, coverage, fixed, pool_seeds, total
from alignment_extraction.report.rendering import HERE
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import Verdict
from alignment_extraction.vocabulary import METRICS

_SHOWN = ["verbatim", "cosine"]


def _own(table: pl.DataFrame, own: Headline) -> pl.DataFrame:
    """A table's rows of the headline model, on what it was trained on."""
    chosen = pl.col("source").is_in(list(own.sources))
    if "level" in table.columns and own.level:
        chosen &= pl.col("level").fill_null(own.level) == own.level
    rows = table.filter(chosen, model=own.model, prefix=own.prefix, field=own.field)
    return rows.with_columns(pl.col("n").fill_null(own.n))


def _rates(results: Results, own: Headline) -> pl.DataFrame:
    """Rates of every model and prefix on the headline's sources and field, sources summed up."""
    chosen = pl.col("source").is_in(list(own.sources)) & pl.col("metric").is_in(_SHOWN)
    rows = fixed(results["attribution"]).filter(chosen, level=own.level or "rows")
    return rows.group_by("model", "prefix", "metric", maintain_order=True).agg(
        pl.col("trained").all(), pl.col("n").max(), *total("attributable")
    )


def _repetitions(results: Results, own: Headline) -> pl.DataFrame:
    """Copies for each training row by how often it stood in an epoch; empty if all as often."""
    keys = ["repetitions", "metric"]
    rows = _own(results["repetitions"], own).filter(pl.col("metric").is_in(_SHOWN))
    members = pl.col("members").sum().over(keys)
    rates = pl.col("attributable", "low", "high") * pl.col("n") / members
    rows = pool_seeds(rows, ["source", *keys]).with_columns(rates, rows=members)
    found = rows.group_by(keys).agg(pl.col("rows").first(), *total("attributable")).sort(keys)
    name = pl.format("{} \u00d7 ({} rows)", "repetitions", _count("rows"))
    return found.filter(pl.col("repetitions").n_unique() > 1).with_columns(name=name)


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
    sweep = _own(results["attribution"], own).filter(chosen)
    sweep = sweep.unique([*keys, "source", "seed"], maintain_order=True)
    rates = pool_seeds(sweep, [*keys, "source"]).group_by(keys)
    data = rates.agg(pl.col("n").first(), *total("attributable"), discoveries.max()).sort(keys)
    exact = {f"false_discovery_rate_{end}": discoveries for end in ("low", "high")}
    return data.with_columns(**exact)


def _kinds(verdict: Verdict) -> pl.DataFrame:
    """What kinds of copying training caused."""
    rows = pl.concat(_own(verdict.results["kinds"], own) for own in verdict.headlines)
    rates = pool_seeds(rows, ["model", "source", "kind"])
    rates = rates.group_by("kind", "model", maintain_order=True).agg(*total("attributable"))
    return rates.with_columns(name=pl.col("kind").str.replace("-", " "))


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


def frames(verdict: Verdict) -> dict[str, pl.DataFrame]:
    """The numbers of the page's figures and other answers, by name; there must be a first model."""
    results, own = verdict.results, verdict.headlines[0]
    covered, rates = coverage(results, own.model, own.sources), _rates(results, own)
    differences = results["comparisons"].filter(
        pl.col("source").is_in(list(own.sources)), level=own.level or "rows", field=own.field,
        reference_model=own.model, reference_prefix=own.prefix,
    )  # fmt: skip
    points = pl.format("{} points", (100 * pl.col("detectable")).round(1))
    tails = results["tails"].filter("template", pl.col("rows") > 0)
    shift = results["shift"].filter("template", per="question")
    accuracy = results["distillation"].filter(measure="accuracy")
    students = pl.format("{} students", pl.col("family").str.to_uppercase())
    return {
        "overview": _overview(own, covered),
        "every": fixed(results["attribution"]),
        "thresholds": _thresholds(results, own),
        "kinds": _kinds(verdict),
        "rates": rates,
        "conditions": _conditions(rates, own),
        "differences": differences.with_columns(detectable=points),
        "repetitions": _repetitions(results, own),
        "growth": covered,
        "shift": shift.with_columns(name=pl.format("{} \u2192 {}", "base", "model")),
        "tails": tails.with_columns(threshold=10 ** pl.col("threshold")),
        "students": accuracy.with_columns(students=students),
    }


def pictures(numbers: Mapping[str, pl.DataFrame], marks: Mapping[str, float]) -> dict[str, Picture]:
    """Every figure that `frames` has numbers for, by name; `marks` are the study's thresholds."""
    specs, styles = (
        tomllib.loads((HERE / "templates" / f"{name}.toml").read_text())
        for name in ("figures", "styles")
    )
    styles["metric"] = {name: (metric.label, metric.colour) for name, metric in METRICS.items()}
    found, lines = {}, {"thresholds": (marks["semantic"], marks["string"])}
    for name, panels in specs.items():
        drawn = [Panel(**panel, marks=lines.get(name, ())) for panel in panels]
        found[name] = picture(name, numbers[name], drawn, styles)
    return {name: drawn for name, drawn in found.items() if drawn}
