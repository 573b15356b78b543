"""The page's questions: each with an answer in a sentence, a figure, and details."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from alignment_extraction.report import figures, wording
from alignment_extraction.report.drawing import Picture
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import Headline, Verdict, estimate, fixed
from alignment_extraction.report.wording import Estimate


@dataclass(frozen=True)
class Table:
    """A table in the details: a caption, the head, and cells as text."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """One question of the page.

    Attributes:
        id: of its heading, and its name in the navigation.
        question: the heading.
        answer: one or a few sentences.
        picture: that stands open; None without numbers for one.
        notes: sentences of the details.
        pictures: of the details.
        tables: of the details.
    """

    id: str
    question: str
    answer: str
    picture: Picture | None = None
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


def _table(
    caption: str,
    rows: pl.DataFrame,
    columns: Mapping[str, str],
    estimates: Mapping[str, tuple[str, str, str, str]],
) -> Table:
    """Rows as text.

    Args:
        caption: of the table.
        rows: frame.
        columns: heading of each plain column.
        estimates: by heading: columns of the value and its bounds, and the unit.
    """
    head = [*columns.values(), *estimates]
    cells = []
    for row in rows.iter_rows(named=True):
        plain = [_plain(row[name]) for name in columns]
        numbers = [
            wording.interval(estimate(row, *names), unit)
            for *names, unit in estimates.values()
        ]
        cells.append([*plain, *numbers])
    return Table(caption, head, cells)


def _plain(value: Any) -> str:
    if value is None:
        return wording.NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return wording.NONE if value != value else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else wording.visible(str(value))


def _kept(*pictures: Picture | None) -> list[Picture]:
    return [found for found in pictures if found is not None]


def _versus(first: Estimate, second: Estimate) -> str:
    """What two intervals allow to say, without a test."""
    if first.low > second.high:
        return "more than"
    return "less than" if first.high < second.low else "not told apart from"


def sure(results: Results, own: Headline, settings: Mapping[str, Any]) -> Section:
    """How sure is that?"""
    marks = settings.get("thresholds", {})
    tests = results["exchangeability"]
    said = []
    if own.level:
        said.append(
            f"The {wording.count(own.members)} training rows compete with "
            f"{wording.plural(own.twins, 'twin')}: what the model does without having seen a row "
            "hits both alike, so it cancels."
        )
        if own.false_discovery_rate == own.false_discovery_rate:
            rate = wording.percent(own.false_discovery_rate)
            said.append(f"About {rate} of the verbatim hits are expected to be chance.")
    else:
        said.append("There are no twins or held-out rows, so chance cannot be told from memory.")
    for row in tests.filter(pl.col("source").is_in(list(own.sources))).iter_rows(named=True):
        auc = wording.interval(estimate(row, "auc"), "number")
        if row["verdict"] == "told apart":
            said.append(f"{row['source']}: texts alone tell training rows from the others, AUC {auc}.")
        elif row["verdict"] == "exchangeable":
            said.append(f"{row['source']}: texts alone do not tell them apart, AUC {auc} (0.5 is chance).")
        else:
            needed = wording.count(row["needed"])
            said.append(f"{row['source']}: too few rows for that test; {needed} would do.")
    tables = []
    if tests.height:
        columns = {"source": "source", "level": "level", "members": "training rows", "twins": "twins", "verdict": "verdict"}
        tables.append(_table("Can a classifier that sees only texts tell training rows from twins?", tests, columns, {"AUC": ("auc", "low", "high", "number")}))
    rates = fixed(results["attribution"])
    columns = {
        "model": "model", "prefix": "prefix", "source": "source", "level": "level", "metric": "metric",
        "trained": "trained on it", "n": "n", "false_discovery_rate": "FDR",
    }  # fmt: skip
    if rates.height:
        tables.append(
            _table("Attributable rates of every condition at the study's thresholds. Rows level: "
                   "twins of the same templates; templates level: templates that a coin held out.",
                   rates, columns, {"copies that training caused": ("attributable", "low", "high", "rate")})
        )  # fmt: skip
    attacks = results["membership"].filter(model=own.model)
    if attacks.height:
        columns = {"source": "source", "attack": "attack", "target": "text", "members": "training rows", "twins": "twins"}
        ends = {"AUC": ("auc", "low", "high", "number"), "found at 1 % false alarms": ("tpr", "tpr_low", "tpr_high", "rate")}
        tables.append(_table(f"Membership attacks on {own.model}", attacks, columns, ends))
    notes = [
        "Rates' intervals resample the coin that assigned members and twins (whole blocks where it "
        "fell for blocks); counts of rows resample templates; bounds with no hit are exact.",
    ]
    sweep = figures.thresholds(results, own, marks)
    return Section("certainty", "How sure is that?", " ".join(said), sweep, notes,
                   _kept(figures.membership(results, own)), tables)  # fmt: skip


def copying(results: Results, verdict: Verdict, settings: Mapping[str, Any]) -> Section:
    """What kind of copying?"""
    own = verdict.headlines[0]
    picture = figures.kinds(results, verdict)
    said, tables = [], []
    if picture is not None:
        rows = picture.data.filter(model=own.model)
        found = {k: e for k, e in figures.summed(rows, "kind").items() if e.low > 0}
        parts = [f"{kind.replace('-', ' ')} {wording.interval(e, 'rate')}" for kind, e in found.items()]
        said.append(
            f"Of {own.model}'s generations: {', '.join(parts)}." if parts
            else "No kind of copying stands above what twins get."
        )  # fmt: skip
        missing = [kind.replace("-", " ") for kind in ("paraphrase", "same-template") if kind not in found]
        if parts and missing:
            said.append(f"No {' or '.join(missing)} copies beyond twins show.")
    else:
        said.append("Kinds of copying were not told apart in this study.")
    ratios = results["ratios"].filter(model=own.model, prefix=own.prefix, field=own.field)
    for row in ratios.filter(comparison="fixed", metric="levenshtein").iter_rows(named=True):
        ratio = wording.interval(estimate(row, "ratio"), "number")
        said.append(f"By meaning it finds {ratio} times what Levenshtein finds in {row['source']}.")
        break
    if ratios.height:
        columns = {"source": "source", "level": "level", "comparison": "thresholds", "metric": "string metric", "semantic": "by cosine", "string": "by string"}
        tables.append(_table("Attributable hits by meaning against those by string", ratios, columns, {"ratio": ("ratio", "low", "high", "number")}))
    edited = figures.edits(results, settings.get("thresholds", {}))
    return Section("kinds", "What kind of copying?", " ".join(said), picture, (), _kept(edited), tables)


def worse(results: Results, own: Headline, settings: Mapping[str, Any]) -> Section:
    """What makes it worse?"""
    models = settings.get("models", {})
    traits = models if isinstance(models, Mapping) else {}
    labels = {
        name: f"{name} ({', '.join(str(v) for v in about.values())})"
        for name, about in traits.items() if isinstance(about, Mapping) and about
    }  # fmt: skip
    rates = figures.condition_rates(results, own)
    said = []
    top = {}
    for row in rates.filter(metric="verbatim").iter_rows(named=True):
        top[row["model"], row["prefix"]] = estimate(row, "attributable")
    start = top.get((own.model, own.prefix))
    if start is not None:
        parts = [f"{own.prefix} {wording.interval(start, 'rate')}"]
        for (model, prefix), found in top.items():
            number = wording.interval(found, "rate")
            if model == own.model and prefix != own.prefix:
                parts.append(f"{prefix} {number}, {_versus(found, start)} {own.prefix}")
        said.append(f"Verbatim copies by prefix: {'; '.join(parts)}.")
        changed = [
            f"{model} {wording.interval(found, 'rate')}"
            for (model, prefix), found in top.items()
            if prefix == own.prefix and model != own.model and _versus(found, start) != "not told apart from"
        ]
        if changed:
            said.append(f"Models told apart from {own.model}: {', '.join(changed)}.")
    else:
        said.append("Nothing to compare: no rate is attributable in this study.")
    repeated = figures.repetitions(results, own)
    if repeated is not None:
        rows = repeated.data.filter(metric="verbatim")
        found = figures.summed(rows, "repetitions")
        least, most = min(found), max(found)
        low, high = found[least], found[most]
        said.append(
            f"In {wording.count(own.n)} generations a row repeated {most} times brings {wording.interval(high, 'number')} copies, one "
            f"that stood {least} time{'s' if least != 1 else ''} {wording.interval(low, 'number')}."
        )
    tables = []
    if rates.height:
        columns = {"model": "model", "prefix": "prefix", "metric": "metric", "trained": "trained on it", "n": "n"}
        tables.append(_table("By model and prefix, sources summed up", rates, columns, {"copies that training caused": ("attributable", "low", "high", "rate")}))
    picture = figures.conditions(rates, own, labels)
    return Section("causes", "What makes it worse?", " ".join(said), picture, (), _kept(repeated), tables)


def growing(results: Results, own: Headline) -> Section:
    """How does it grow?"""
    table = figures.coverage(results, own)
    if table.is_empty():
        said = "Not known: the study has no likelihoods of rows."
        return Section("growth", "How does it grow?", said)
    said = []
    for samples in (1e4, 1e6, 1e9):
        for row in table.filter(role="member", samples=samples).iter_rows(named=True):
            found = estimate(row, "at_risk", "at_risk_low", "at_risk_high")
            said.append(f"{wording.interval(found, 'count')} in {wording.samples(samples)} samples")
    seen = table.filter(pl.col("observed").is_not_null(), role="member").sort("samples")
    text = f"Rows at risk: {'; '.join(said)}."
    if seen.height:
        last = seen.row(-1, named=True)
        expected = wording.interval(estimate(last, "distinct", "distinct_low", "distinct_high"), "count")
        text += (
            f" The check: in {wording.samples(last['samples'])} samples {expected} distinct rows "
            f"were expected and {wording.count(last['observed'])} were seen."
        )
    columns = {"role": "role", "samples": "samples", "rows": "rows", "observed": "seen"}
    ends = {
        "rows at risk": ("at_risk", "at_risk_low", "at_risk_high", "count"),
        "distinct rows expected": ("distinct", "distinct_low", "distinct_high", "count"),
    }
    tables = [_table("By number of samples", table, columns, ends)]
    return Section("growth", "How does it grow?", text, figures.growth(results, own), (), (), tables)


def reinforcement(results: Results) -> Section | None:
    """Did RL memorise? None where no models were compared."""
    table = results["shift"].filter("template", per="question")
    if table.is_empty():
        return None
    said = []
    for row in table.iter_rows(named=True):
        found = estimate(row, "difference")
        number = wording.interval(found, "number")
        where = f"{row['base']} \u2192 {row['model']}, {row['source']} {row['target']}s"
        if found.low > 0:
            said.append(f"{where}: yes, {number} nats more than twins.")
        elif found.high < 0:
            said.append(f"{where}: no, {number} nats against twins.")
        else:
            size = "" if row["detectable"] is None else f"; {row['detectable']:.2g} would have been seen four times in five"
            said.append(f"{where}: none seen, {number} nats{size}.")
    columns = {"model": "model", "base": "before", "source": "source", "target": "text", "template": "chat template", "per": "per", "members": "training rows", "twins": "twins", "member_change": "their change", "twin_change": "twins' change", "detectable": "detectable"}
    tables = [_table("Change of log-likelihood, training rows less twins", results["shift"], columns, {"difference": ("difference", "low", "high", "number")})]
    return Section("reinforcement", "Did RL memorise?", " ".join(said), figures.shift(results), (),
                   _kept(figures.tails(results)), tables)  # fmt: skip


def worth(results: Results) -> Section | None:
    """Is the extracted data worth the original? None where no students were trained."""
    table = results["distillation"]
    if table.is_empty():
        return None
    said = []
    for row in table.filter(measure="accuracy", arm="extracted").iter_rows(named=True):
        where = f"{row['family'].upper()} students on {row['benchmark']}"
        gap = estimate(row, "difference", "difference_low", "difference_high")
        word = "worse" if gap.high < 0 else "better" if gap.low > 0 else "not told apart"
        text = f"{where}: {word}"
        if gap.value == gap.value:
            text += f" ({wording.interval(gap, 'points')})"
        said.append(text)
    columns = {"family": "students", "arm": "trained on", "benchmark": "benchmark", "measure": "measure", "seeds": "seeds", "items": "items"}
    tables = []
    for measure, unit, signed in (("accuracy", "rate", "points"), ("loss", "number", "number")):
        rows = table.filter(measure=measure)
        ends = {"value": ("value", "value_low", "value_high", unit), "difference to the original": ("difference", "difference_low", "difference_high", signed), "of the original's gain": ("recovered", "recovered_low", "recovered_high", "rate")}
        if rows.height:
            tables.append(_table(f"Students, by {measure}", rows, columns, ends))
    counts = results["distillation_counts"]
    if counts.height:
        names = {name: name.replace("_", " ") for name in counts.columns}
        tables.append(_table("What the curation left out", counts, names, {}))
    answer = f"Against students of the original data: {'; '.join(said)}." if said else "No student of extracted data was examined."
    return Section("students", "Is the extracted data worth the original?", answer, figures.students(results), (), _kept(figures.curves(results)), tables)


def searched(results: Results, settings: Mapping[str, Any]) -> Section:
    """How were data and search?"""
    rows = results["rows"].unique(["id"], maintain_order=True)
    kinds = rows.group_by("source", "role", maintain_order=True).agg(
        rows=pl.len(), templates=pl.col("template").n_unique(), most=pl.col("repetitions").max()
    )
    attribution = results["attribution"]
    drawn = attribution.unique(["model", "prefix", "seed"], maintain_order=True)
    marks = settings.get("thresholds", {})
    total = wording.count(drawn["n"].sum())
    compared = (
        f"{total} generations of {wording.plural(drawn['model'].n_unique(), 'model')} were held "
        f"against {wording.plural(rows.height, 'row')}: near by meaning is a cosine of at least "
        f"{marks.get('semantic', 0.95):g}, near by string a similarity of at least "
        f"{marks.get('string', 0.9):g}, verbatim is equality after normalisation."
    )
    known = f"{wording.plural(rows.height, 'row')} are known; no generation was compared with them."
    answer = compared if drawn.height else known
    extra = [str(text) for text in settings.get("search", ())]
    tables = []
    if kinds.height:
        columns = {"source": "source", "role": "role", "rows": "rows", "templates": "templates", "most": "most repetitions"}
        tables.append(_table("The corpus", kinds, columns, {}))
    if drawn.height:
        tables.append(_table("What was sampled", drawn, {"model": "model", "prefix": "prefix", "seed": "seed", "n": "generations"}, {}))
    return Section("data", "How were data and search?", answer, None, extra, (), tables)


def sections(results: Results, verdict: Verdict, settings: Mapping[str, Any]) -> list[Section]:
    """Every question that the study's tables answer, in the page's order."""
    own = verdict.first
    if own is None:
        return [searched(results, settings)]
    found = [
        sure(results, own, settings),
        copying(results, verdict, settings),
        worse(results, own, settings),
        growing(results, own),
        reinforcement(results),
        worth(results),
        searched(results, settings),
    ]
    return [section for section in found if section is not None]
