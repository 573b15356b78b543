"""The page's questions: each with an answer in a sentence, a figure, and details."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from alignment_extraction.report import figures, wording
from alignment_extraction.report.drawing import Picture
from alignment_extraction.report.headline import Headline, estimate, fixed
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import Verdict
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
    pictures: Sequence[Picture | None] = ()
    tables: Sequence[Table | None] = ()


def _table(caption: str, rows: pl.DataFrame, columns: str, estimates: str = "") -> Table | None:
    """Rows as text; None where there are none.

    Args:
        caption: of the table.
        rows: frame.
        columns: `name` or `name=heading`, `_` for a space, separated by spaces.
        estimates: `heading=value/low/high/unit`, in the same way.
    """
    if rows.is_empty():
        return None
    plain = [text.partition("=") for text in columns.split()]
    numbers = [text.partition("=") for text in estimates.split()]
    head = [heading or name for name, _, heading in plain] + [heading for heading, _, _ in numbers]
    cells = [
        [_plain(row[name]) for name, _, _ in plain]
        + [_interval(row, *names.split("/")) for _, _, names in numbers]
        for row in rows.iter_rows(named=True)
    ]
    return Table(caption, [text.replace("_", " ") for text in head], cells)


def _interval(row: Mapping[str, Any], value: str, low: str, high: str, unit: str) -> str:
    return wording.interval(estimate(row, value, low, high), unit)


def _plain(value: Any) -> str:
    if value is None or value != value:
        return wording.NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else wording.visible(str(value))


def _versus(first: Estimate, second: Estimate) -> str:
    """What two intervals allow to say, without a test."""
    if first.low > second.high:
        return "more than"
    return "less than" if first.high < second.low else "not told apart from"


def certainty(results: Results, own: Headline, marks: Mapping[str, float]) -> Section:
    """How sure is that?"""
    tests = results["exchangeability"]
    said = ["There are no twins or held-out rows, so chance cannot be told from memory."]
    if own.level:
        said = [
            f"The {wording.count(own.members)} training rows compete with "
            f"{wording.plural(own.twins, 'twin')}: what the model does without having seen a row "
            "hits both alike, so it cancels."
        ]
        if own.false_discovery_rate == own.false_discovery_rate:
            rate = wording.percent(own.false_discovery_rate)
            said.append(f"About {rate} of the verbatim hits are expected to be chance.")
    for row in tests.filter(pl.col("source").is_in(list(own.sources))).iter_rows(named=True):
        auc = _interval(row, "auc", "low", "high", "number")
        words = {
            "told apart": f"texts alone tell training rows from the others, AUC {auc}",
            "exchangeable": f"texts alone do not tell them apart, AUC {auc} (0.5 is chance)",
        }
        few = f"too few rows for that test; {wording.count(row['needed'])} would do"
        kind = "" if row["level"] == "rows" else f" {row['level']}"
        said.append(f"{row['source']}{kind}: {words.get(row['verdict'], few)}.")
    notes = [
        "Rates' intervals resample the coin that assigned members and twins (whole blocks where it "
        "fell for blocks); counts of rows resample templates; bounds with no hit are exact."
    ]
    tables = [
        _table(
            "Can a classifier that sees only texts tell training rows from twins?",
            tests,
            "source level members=training_rows twins verdict",
            "AUC=auc/low/high/number",
        ),
        _table(
            "Attributable rates of every condition at the study's thresholds. Rows level: twins of "
            "the same templates; templates level: templates that a coin held out.",
            fixed(results["attribution"]),
            "model prefix source level metric trained=trained_on_it n false_discovery_rate=FDR",
            "copies_that_training_caused=attributable/low/high/rate",
        ),
        _table(
            "Membership attacks: how well they tell training rows from twins",
            results["membership"],
            "model source attack target=text template=chat_template members=training_rows twins",
            "AUC=auc/low/high/number found_at_1_%_false_alarms=tpr/tpr_low/tpr_high/rate",
        ),
    ]
    sweep = figures.thresholds(results, own, marks)
    return Section("certainty", "How sure is that?", " ".join(said), sweep, notes, (), tables)


def kinds(results: Results, verdict: Verdict, marks: Mapping[str, float]) -> Section:
    """What kind of copying?"""
    own = verdict.headlines[0]
    picture = figures.kinds(results, verdict)
    said = ["Kinds of copying were not told apart in this study."]
    if picture is not None:
        found = figures.summed(picture.data.filter(model=own.model), "kind")
        above = {kind: rate for kind, rate in found.items() if not rate.negligible()}
        parts = [f"{_words(kind)} {wording.interval(e, 'rate')}" for kind, e in above.items()]
        said = ["No kind of copying stands above what twins get."]
        if parts:
            missing = [_words(kind) for kind in figures.KINDS[2:] if kind not in above]
            said = [f"Of {own.model}'s generations: {', '.join(parts)}."]
            said += [f"No {' or '.join(missing)} copies beyond twins show."] if missing else []
    ratios = results["ratios"].filter(model=own.model, prefix=own.prefix, field=own.field)
    at_level = ratios.filter(level=own.level or "rows", comparison="fixed", metric="levenshtein")
    for row in at_level.drop_nans("ratio").drop_nulls("ratio").head(1).iter_rows(named=True):
        ratio = _interval(row, "ratio", "low", "high", "number")
        said.append(f"By meaning it finds {ratio} times what Levenshtein finds in {row['source']}.")
    table = _table(
        "Attributable hits by meaning against those by string",
        ratios,
        "source level comparison=thresholds metric=string_metric semantic=by_cosine "
        "string=by_string",
        "ratio=ratio/low/high/number",
    )
    edited = [figures.edits(results, marks)]
    return Section("kinds", "What kind of copying?", " ".join(said), picture, (), edited, [table])


def _words(kind: str) -> str:
    return kind.replace("-", " ")


def causes(results: Results, own: Headline, models: Any) -> Section:
    """What makes it worse?"""
    about = models.items() if isinstance(models, Mapping) else ()
    labels = {
        name: f"{name} ({', '.join(map(str, traits.values()))})"
        for name, traits in about
        if isinstance(traits, Mapping) and traits
    }
    rates = figures.condition_rates(results, own)
    found = {
        (row["model"], row["prefix"]): estimate(row, "attributable")
        for row in rates.filter(metric="verbatim").iter_rows(named=True)
    }
    said = ["Nothing to compare: no rate is attributable in this study."]
    start = found.get((own.model, own.prefix))
    if start is not None:
        parts = [f"{own.prefix} {wording.interval(start, 'rate')}"]
        others = []
        for (model, prefix), rate in found.items():
            number, versus = wording.interval(rate, "rate"), _versus(rate, start)
            if model == own.model and prefix != own.prefix:
                parts.append(f"{prefix} {number}, {versus} {own.prefix}")
            elif model != own.model and prefix == own.prefix and not versus.startswith("not"):
                others.append(f"{model} {number}")
        said = [f"Verbatim copies by prefix: {'; '.join(parts)}."]
        if others:
            said.append(f"Models told apart from {own.model}: {', '.join(others)}.")
    repeated = figures.repetitions(results, own)
    if repeated is not None:
        of_times = figures.summed(repeated.data.filter(metric="verbatim"), "repetitions")
        least, most = min(of_times), max(of_times)
        numbers = [wording.interval(of_times[times], "number") for times in (most, least)]
        said.append(
            f"In {wording.count(own.n)} generations a row repeated {most} times brings "
            f"{numbers[0]} copies, one that stood {wording.plural(least, 'time')} {numbers[1]}."
        )
    table = _table(
        "By model and prefix, sources summed up",
        rates,
        "model prefix metric trained=trained_on_it n",
        "copies_that_training_caused=attributable/low/high/rate",
    )
    picture = figures.conditions(rates, own, labels)
    return Section(
        "causes", "What makes it worse?", " ".join(said), picture, (), [repeated], [table]
    )


def growth(results: Results, own: Headline) -> Section:
    """How does it grow?"""
    question = "How does it grow?"
    table = figures.coverage(results, own)
    members = table.filter(pl.col("role").is_in(["member", "unknown"])).sort("samples")
    if members.is_empty():
        return Section("growth", question, "Not known: the study has no likelihoods of rows.")
    said = [
        f"{_interval(row, 'at_risk', 'at_risk_low', 'at_risk_high', 'count')} in "
        f"{wording.samples(row['samples'])} samples"
        for row in members.iter_rows(named=True)
        if row["samples"] in (1e4, 1e6, 1e9)
    ]
    text = f"Rows at risk: {'; '.join(said)}."
    for row in members.filter(pl.col("observed").is_not_null()).tail(1).iter_rows(named=True):
        expected = _interval(row, "distinct", "distinct_low", "distinct_high", "count")
        text += (
            f" The check: in {wording.samples(row['samples'])} samples {expected} distinct rows "
            f"were expected and {wording.count(row['observed'])} were seen."
        )
    made = _table(
        "By number of samples",
        table,
        "role samples rows observed=seen",
        "rows_at_risk=at_risk/at_risk_low/at_risk_high/count "
        "distinct_rows_expected=distinct/distinct_low/distinct_high/count",
    )
    return Section("growth", question, text, figures.growth(results, own), (), (), [made])


def reinforcement(results: Results) -> Section | None:
    """Did RL memorise? None where no models were compared."""
    table = results["shift"].filter("template", per="question")
    if table.is_empty():
        return None
    said = []
    for row in table.iter_rows(named=True):
        number = _interval(row, "difference", "low", "high", "number")
        answer = f"none seen, {number} nats"
        if row["low"] > 0:
            answer = f"yes, {number} nats more than twins"
        elif row["high"] < 0:
            answer = f"no, {number} nats against twins"
        elif row["detectable"] is not None:
            answer += f"; {row['detectable']:.2g} would have been seen four times in five"
        where = f"{row['base']} \u2192 {row['model']}, {row['source']} {row['target']}s"
        said.append(f"{where}: {answer}.")
    made = _table(
        "Change of log-likelihood, training rows less twins",
        results["shift"],
        "model base=before source target=text template=chat_template per members=training_rows "
        "twins member_change=their_change twin_change=twins'_change detectable",
        "difference=difference/low/high/number",
    )
    picture, tails = figures.shift(results), [figures.tails(results)]
    return Section("RL", "Did RL memorise?", " ".join(said), picture, (), tails, [made])


def students(results: Results) -> Section | None:
    """Is the extracted data worth the original? None where no students were trained."""
    table = results["distillation"]
    if table.is_empty():
        return None
    said = []
    for row in table.filter(measure="accuracy", arm="extracted").iter_rows(named=True):
        gap = estimate(row, "difference", "difference_low", "difference_high")
        word = "worse" if gap.high < 0 else "better" if gap.low > 0 else "not told apart"
        word = row["verdict"] or word
        number = wording.interval(gap, "points")
        said.append(f"{row['family'].upper()} on {row['benchmark']} {word}, {number}")
    units = {"accuracy": ("rate", "points"), "loss": ("number", "number")}
    tables = [
        _table(
            f"Students, by {measure}",
            table.filter(measure=measure),
            "family=students arm=trained_on benchmark seeds items verdict",
            f"value=value/value_low/value_high/{unit} difference_to_the_original="
            f"difference/difference_low/difference_high/{signed} of_the_original's_gain="
            "recovered/recovered_low/recovered_high/rate",
        )
        for measure, (unit, signed) in units.items()
    ]
    counts = results["distillation_counts"]
    tables.append(_table("What the curation left out", counts, " ".join(counts.columns)))
    answer = "No student of extracted data was examined."
    if said:
        answer = f"Against students of the original data: {'; '.join(said)}."
    question = "Is the extracted data worth the original?"
    return Section("students", question, answer, figures.students(results), (), (), tables)


def data(results: Results, settings: Mapping[str, Any]) -> Section:
    """How were data and search?"""
    rows = results["rows"].unique(["id"], maintain_order=True)
    corpus = rows.group_by("source", "role", maintain_order=True).agg(
        rows=pl.len(), templates=pl.col("template").n_unique(), most=pl.col("repetitions").max()
    )
    drawn = results["attribution"].unique(["model", "prefix", "seed"], maintain_order=True)
    marks = settings.get("thresholds", {})
    answer = (
        f"{wording.plural(rows.height, 'row')} are known; no generation was compared with them."
    )
    if drawn.height:
        answer = (
            f"{wording.count(float(sum(drawn['n'])))} generations of "
            f"{wording.plural(drawn['model'].n_unique(), 'model')} were held against "
            f"{wording.plural(rows.height, 'row')}: near by meaning is a cosine of at least "
            f"{marks.get('semantic', 0.95):g}, near by string a similarity of at least "
            f"{marks.get('string', 0.9):g}, verbatim is equality after normalisation."
        )
    tables = [
        _table("The corpus", corpus, "source role rows templates most=most_repetitions"),
        _table("What was sampled", drawn, "model prefix seed n=generations"),
    ]
    notes = [str(text) for text in settings.get("search", ())]
    return Section("data", "How were data and search?", answer, None, notes, (), tables)


def sections(results: Results, verdict: Verdict, settings: Mapping[str, Any]) -> list[Section]:
    """Every question that the study's tables answer, in the page's order."""
    own = verdict.first
    if own is None:
        return [data(results, settings)]
    marks = settings.get("thresholds", {})
    found = [
        certainty(results, own, marks),
        kinds(results, verdict, marks),
        causes(results, own, settings.get("models")),
        growth(results, own),
        reinforcement(results),
        students(results),
        data(results, settings),
    ]
    return [section for section in found if section is not None]
