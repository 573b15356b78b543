"""All tables of attribution and risk of a study, from its scores, likelihoods and generations."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import polars as pl

from alignment_extraction.attribution import predictions
from alignment_extraction.attribution.competition import attribution
from alignment_extraction.attribution.contests import contests
from alignment_extraction.attribution.differences import differences
from alignment_extraction.attribution.exchangeability import exchangeability
from alignment_extraction.attribution.hits import kinds, repetitions
from alignment_extraction.attribution.membership import membership
from alignment_extraction.attribution.ratios import ratios
from alignment_extraction.attribution.risk import risk
from alignment_extraction.attribution.rows import rows
from alignment_extraction.attribution.shift import compared, shift, tails
from alignment_extraction.attribution.tables import schema, table
from alignment_extraction.files import read_parquet
from alignment_extraction.layout import RISK_TABLES
from alignment_extraction.settings.studies import ThresholdSettings
from alignment_extraction.vocabulary import Condition

Trained = Mapping[str, Collection[str]]
"""The sources that each model was trained on."""
Bases = Mapping[str, tuple[str, pl.DataFrame]]
"""Name and likelihood of the base of each model that has one, in the model's own template."""


def read_bases(files: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, pl.DataFrame]]:
    """The base of each model from its name and the file of its likelihood."""
    return {model: (name, read_parquet(Path(file))) for model, (name, file) in files.items()}


def attribute(
    scores: pl.DataFrame,
    corpus: pl.DataFrame,
    generations: Mapping[Condition, pl.DataFrame],
    trained: Trained,
    families: Mapping[str, str],
    bases: Bases,
    thresholds: ThresholdSettings,
    seed: int,
) -> dict[str, pl.DataFrame]:
    """The tables that scores and corpus give, by name (`layout.ATTRIBUTION_TABLES`).

    Args:
        scores: `vocabulary.SCORES`, of all conditions.
        corpus: in the corpus schema.
        generations: columns index, question, answer of each condition.
        trained: what each model was trained on; a model that was not is the placebo.
        families: of each model; conditions of one family are compared with each other.
        bases: of each model that has one; its probability of a row is a control variate.
        thresholds: fixed ones, and the grid.
        seed: of the study.
    """
    found = list(contests(scores, corpus))
    caused = [each for each in found if each.comparison.source in trained[each.keys["model"]]]
    priors = {
        model: predictions.questions(base).select("id", base_log_probability="log_probability")
        for model, (_, base) in bases.items()
    }
    models = pl.Enum(scores["model"].unique(maintain_order=True))
    rates = attribution(found, trained, thresholds, priors)
    return {
        "attribution": rates.sort(pl.col("model").cast(models), maintain_order=True),
        "repetitions": repetitions(found, thresholds),
        "kinds": kinds(found, corpus, generations, thresholds),
        "ratios": ratios(found, thresholds),
        "comparisons": differences(caused, families, thresholds, priors),
        "exchangeability": exchangeability(corpus, seed),
    }


def assess(
    likelihoods: Mapping[str, pl.DataFrame],
    bases: Bases,
    scores: pl.DataFrame,
    corpus: pl.DataFrame,
    shards: Mapping[Condition, Sequence[Path]],
    trained: Trained,
    thresholds: ThresholdSettings,
    seed: int,
) -> dict[str, pl.DataFrame]:
    """The tables that likelihoods give, by name (`layout.RISK_TABLES`).

    Args: those of `attribute`; the likelihood of each scored model; each condition's files.
    """
    parts: dict[str, list[pl.DataFrame]] = {name: [] for name in RISK_TABLES}
    for model, likelihood in likelihoods.items():
        base_name, base = bases.get(model, (None, None))
        own_shards = {c: files for c, files in shards.items() if c.model == model}
        own, drawn = scores.filter(model=model), predictions.sampled_conditions(own_shards)
        predicted = predictions.predictions(likelihood, corpus, own, drawn)
        texts, sources = _texts(own_shards), trained.get(model, ())
        own_rows = rows(model, likelihood, corpus, sources, base, own, predicted, texts, thresholds)
        both = compared(model, likelihood, corpus, base_name, base)
        parts["rows"].append(own_rows)
        parts["risk"].append(risk(own_rows, seed, predicted))
        parts["calibration"].append(predictions.calibration(predicted))
        parts["tails"].append(tails(both))
        parts["membership"].append(membership(both))
        if base is not None:
            parts["shift"].append(shift(both, seed))
    return {name: table(name, frames) for name, frames in parts.items()}


def _texts(shards: Mapping[Condition, Sequence[Path]]) -> pl.LazyFrame:
    """Columns index, question, model, prefix, seed of a model's generations."""
    none = pl.LazyFrame(schema=schema("index:i question model prefix seed:i"))
    parts = (
        pl.scan_parquet(list(files))
        .select("index", "question")
        .with_columns(**{name: pl.lit(value) for name, value in condition._asdict().items()})
        for condition, files in shards.items()
    )
    return pl.concat([none, *parts], how="vertical_relaxed")
