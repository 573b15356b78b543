"""An audit on data: row risk first, then samples of the likeliest prefix until it is sure enough.

Rounds of Snakemake with more samples each. What is drawn stays: shards are never drawn again, so
the same command later goes on where it was. How long a round may be is decided by what the steps
before it took on this machine. The folder that all of it runs in is the audit's.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import polars as pl
import yaml

from alignment_extraction import layout
from alignment_extraction.audits.study import PARAMS, Template, audit_params
from alignment_extraction.audits.workflow import ABOUT, snakemake
from alignment_extraction.files import atomic_path, read_parquet
from alignment_extraction.report.headline import fixed, rates_by
from alignment_extraction.settings import config
from alignment_extraction.statistics import clopper_pearson

_RISK_SHARE, _PILOT_SHARE = 0.5, 0.15
"""Of the time: what row risk may take of what is left, and the samples that choose a prefix."""
READ_PER_DRAWN = 3.0  # tokens that are read in likelihoods while one is drawn, roughly
_REPORT = 30.0  # seconds of row risk's tables and the report, until they were measured
_LEAST_ROWS = 50  # whose risk is computed, whatever the time
_GROWTH = 8  # times as many samples a round, at most: the first say little of how many it takes


class Budget(NamedTuple):
    """How long, and how sure."""

    begin: float
    """`time.monotonic` at the start."""
    minutes: float
    """In all, as far as can be foreseen; what every audit must do is done even beyond it."""
    precision: float
    """Half the width of the interval of the verbatim rate, as a share."""
    cores: int

    def left(self) -> float:
        """Seconds until the time is up."""
        return self.begin + 60 * self.minutes - time.monotonic()


class Sureness(NamedTuple):
    """The verbatim rate after a prefix: of copies that training caused, or else of copies."""

    n: int
    rate: float
    half_width: float  # of its 95 % interval
    caused: bool = False  # by training

    def needed(self, precision: float) -> int:
        """Generations in all for `precision`: few hits narrow as 1/n, many as its square root."""
        ratio = self.half_width / precision
        return math.ceil(self.n * (ratio if self.rate == 0 else ratio**2))


def write_params(values: Mapping[str, Any]) -> None:
    """Check and write the params.yaml of an audit."""
    config.validate(values)
    with atomic_path(PARAMS) as partial:
        text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
        partial.write_text(ABOUT + text)


def run_audit(
    name: str,
    given: Mapping[str, Any],
    title: str,
    prefixes: Sequence[Any],
    template: Template,
    budget: Budget,
    samples: int | None = None,
    *,
    dry_run: bool = False,
) -> str:
    """Run an audit in the current folder to its report, and say in a sentence why it ended.

    Args:
        name: of its study, its model and its corpus.
        given: the other arguments of `audit_params`.
        title: of the report.
        prefixes: that are tried, as params.yaml has them.
        template: what is known of the model and its rows.
        budget: what ends it where no `samples`, generations after every prefix, are asked for.
        dry_run: say what would run, with as many samples as the first round has.

    Raises:
        InputError: a step failed.
    """
    before = config.read(PARAMS)["studies"].get(name, {}) if PARAMS.exists() else {}
    names = [prefix_name(prefix) for prefix in prefixes]
    tokens = min(256, max(32, math.ceil(1.1 * template.question_tokens)))
    shard = before.get("sampling", {}).get("shard")
    if samples:
        shard = shard or min(2000, max(64, samples // budget.cores))
    shard = shard or _shard(template, len(names) * tokens, budget)
    study: dict[str, Any] = {
        "title": title,
        "prefixes": list(prefixes),
        "sampling": {"samples": samples or shard, "max_tokens": tokens, "shard": shard},
        # Every row is compared: there is no recall to doubt, and no index to build.
        "index": {"kind": "exact"},
    }
    old = before.get("likelihood", {}).get("limit")
    if template.tokens_per_second:
        key = next((p for p in ("user", "full") if p in names), names[0])
        study["likelihood"] = {"models": [name], "prefix": key, "scored": "questions", "limit": old}
    drawn = {} if samples else _drawn(before, names)

    def write() -> None:
        if drawn:
            study["prefixes"] = sorted(prefixes, key=lambda p: [*drawn].index(prefix_name(p)))
            study["conditions"] = [
                {"models": [name], "prefixes": [key], "sampling": {"samples": number}}
                for key, number in drawn.items()
            ]
        write_params(audit_params(name=name, study=study, **given))

    def run(label: str, *targets: str) -> float:
        begin = time.monotonic()
        write()
        snakemake(targets, budget.cores, label, dry_run=dry_run)
        return time.monotonic() - begin

    report = layout.result(name, "report.html")
    if dry_run:
        run("dry run", report)
        return "Nothing was run."
    write()
    embedder = config.load(PARAMS).studies[name].embedder
    run("data", layout.corpus_vectors(name, embedder, "question"))
    if "likelihood" in study:
        risk = [layout.likelihood_file(name, name)]
        if "base" in given["models"][name]:
            risk.append(layout.base_likelihood_file(name, name))
        limit = _limit(name, template, len(risk), budget)
        if not Path(risk[0]).exists() or (old and (limit is None or limit >= 2 * old)):
            study["likelihood"]["limit"] = limit
        run("row risk", *risk)
    if samples:
        run("samples", report)
        return f"{samples:,} generations were drawn after each prefix, as asked."

    tables = [layout.result(name, table) for table in ("scores", "attribution")]
    if not drawn:
        drawn = dict.fromkeys(names, shard)
    rest = _REPORT + run("first samples", *tables)
    best = max(drawn, key=lambda key: drawn[key])
    if len(set(drawn.values())) == 1:
        best = likeliest_prefix(read_parquet(Path(tables[0])))
    drawn = {best: drawn[best], **drawn}
    rest -= sum(_seconds(name, key) for key in names) / budget.cores
    each, written = _seconds(name, best) / shard, False
    while True:
        scores, attribution = (read_parquet(Path(table)) for table in tables)
        known = sureness(scores, attribution, best)
        affordable = drawn[best] + (budget.left() - max(rest, _REPORT)) * budget.cores / each
        wanted = min(known.needed(budget.precision), affordable, _GROWTH * drawn[best])
        more = math.ceil(wanted / shard) * shard - drawn[best]
        if known.half_width <= budget.precision or wanted < drawn[best] + shard / 2:
            break
        drawn[best] += more
        rest = run("samples", report) - more * each / budget.cores
        each, written = _seconds(name, best) / shard, True
    if not written:
        run("report", report)
    said = (
        f"{100 * known.rate:.2g} % of {known.n:,} generations after {best} are verbatim copies"
        f"{' that training caused' * known.caused}, known to within {100 * known.half_width:.2g} "
        "points either way."
    )
    if known.half_width <= budget.precision:
        return said
    return (
        f"{said} The {budget.minutes:g} minutes are spent; the same command draws more (--minutes, "
        "--precision)."
    )


def prefix_name(prefix: Any) -> str:
    """What a prefix is called."""
    return str(prefix if isinstance(prefix, str) else prefix["name"])


def _shard(template: Template, tokens: int, budget: Budget) -> int:
    """Generations of each prefix to begin with, and of a file: 8 to 256, a power of two.

    `tokens` are those of one generation of each prefix together.
    """
    seconds = _PILOT_SHARE * 60 * budget.minutes
    number = seconds * template.drawn_per_second / tokens
    return int(2 ** min(8, max(3, math.floor(math.log2(max(number, 1))))))


def _drawn(before: Mapping[str, Any], names: Sequence[str]) -> dict[str, int]:
    """Samples of each prefix that an earlier run came to; none where the prefixes are others."""
    found = {c["prefixes"][0]: c["sampling"]["samples"] for c in before.get("conditions", ())}
    return found if set(found) == set(names) else {}


def _limit(name: str, template: Template, models: int, budget: Budget) -> int | None:
    """Rows of each role whose risk can be computed in the time left; None if all can."""
    roles = pl.scan_parquet(layout.corpus_file(name)).group_by("role").len().collect()
    seconds = _RISK_SHARE * (budget.left() - _REPORT)
    rows = seconds * template.tokens_per_second / (models * template.row_tokens)
    limit = max(_LEAST_ROWS, int(rows / roles.height))
    return None if limit >= max(roles["len"]) else limit


def _seconds(name: str, prefix: str) -> float:
    """What drawing a shard of a prefix took on one core, with loading the model."""
    files = Path("logs/benchmarks/generate", name, name, prefix).rglob("*.tsv")
    return fmean(pl.read_csv(file, separator="\t")["s"].item() for file in files)


def likeliest_prefix(scores: pl.DataFrame) -> str:
    """The prefix whose generations come closest to rows: most verbatim hits, then mean cosine."""
    ours = scores.filter(pl.col("role").is_in(["member", "unknown"]))
    order = ours.group_by("prefix", maintain_order=True).agg(
        pl.col("verbatim").sum(), pl.col("cosine").mean()
    )
    return str(order.sort("verbatim", "cosine", descending=True, maintain_order=True)["prefix"][0])


def sureness(scores: pl.DataFrame, attribution: pl.DataFrame, prefix: str) -> Sureness:
    """How well the verbatim rate is known after a prefix.

    It is that of copies which training caused where `attribution` has it, else that of `scores`.
    """
    own = scores.filter(pl.col("role").is_in(["member", "unknown"]), prefix=prefix)
    hit = own.group_by("index").agg(pl.col("verbatim").any())["verbatim"]
    rate = clopper_pearson(hit.sum(), len(hit))
    caused = fixed(attribution).filter("trained", prefix=prefix, metric="verbatim")
    level = "rows" if "rows" in set(caused["level"]) else "templates"
    if found := rates_by(caused.filter(level=level), "metric").get("verbatim"):
        return Sureness(len(hit), found.estimate, (found.high - found.low) / 2, True)
    return Sureness(len(hit), float(rate.estimate), float(rate.high - rate.low) / 2)
