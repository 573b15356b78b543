"""Figures of a study, drawn from the tables in its results folder.

Every figure is an SVG that reads without the code: axes with units, 95 % intervals, numbers of
generations. Its function's docstring is its caption. The same tables give the same bytes.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib
import polars as pl
from matplotlib.figure import Figure

from alignment_extraction.figures import calibration as figures_calibration
from alignment_extraction.figures import copying as figures_copying
from alignment_extraction.figures import distillation as figures_distillation
from alignment_extraction.figures import evidence as figures_evidence
from alignment_extraction.figures import likelihood as figures_likelihood
from alignment_extraction.figures import membership as figures_membership
from alignment_extraction.figures import rates as figures_rates
from alignment_extraction.figures import scores as figures_scores
from alignment_extraction.figures.style import STYLE, save
from alignment_extraction.settings.studies import ThresholdSettings

Drawer = Callable[[Mapping[str, pl.DataFrame], ThresholdSettings], Figure | None]

FIGURES: dict[str, Drawer] = {
    "controls": figures_evidence.controls,
    "prefixes": figures_rates.prefixes,
    "populations": figures_rates.populations,
    "histograms": figures_scores.histograms,
    "distributions": figures_scores.distributions,
    "scatter": figures_scores.scatter,
    "sweep": figures_scores.sweep,
    "calibration": figures_calibration.calibration,
    "quantisation": figures_rates.quantisation,
    "temperatures": figures_evidence.temperatures,
    "search-audit": figures_evidence.search_audit,
    "embedders": figures_evidence.embedders,
    "coverage": figures_copying.coverage,
    "traits": figures_copying.traits,
    "kinds": figures_copying.kinds,
    "repetitions": figures_rates.repetitions,
    "likelihood-counts": figures_likelihood.counts,
    "likelihood-scatter": figures_likelihood.scatter,
    "likelihood-shifts": figures_likelihood.shifts,
    "membership": figures_membership.attacks,
    "discoverable": figures_membership.discoverable,
    "training-curves": figures_likelihood.curves,
    "distillation": figures_distillation.students,
    "distillation-curves": figures_distillation.curves,
}
"""Every figure by the name of its file. A function gives None where its data are not there."""


def caption(name: str) -> str:
    """What a figure shows and how to read it."""
    return " ".join((FIGURES[name].__doc__ or "").split())


def draw(
    tables: Mapping[str, pl.DataFrame], thresholds: ThresholdSettings, folder: Path
) -> list[Path]:
    """Draw every figure that the tables have the data for.

    Args:
        tables: the study's tables by name (see `results.TABLES`), `scores` among them; also
            `likelihood`, `shifts` and `likelihood_counts` where models were compared, and
            `curves` (stage, step, metric, value) where the workflow trained them.
        thresholds: operating points.
        folder: where NAME.svg goes; what an earlier run left there is removed.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    written = []
    with matplotlib.rc_context(STYLE):
        for name, drawer in FIGURES.items():
            figure = drawer(tables, thresholds)
            if figure is not None:
                save(figure, folder / f"{name}.svg")
                written.append(folder / f"{name}.svg")
    return written
