"""The paper's studies, whole, against a local hub that serves miniatures of what they download."""

import json
from pathlib import Path

import polars as pl
import pytest
import yaml

from alignment_extraction.settings import config
from tests.hub import serve
from tests.stand_ins import ROOT, STUDIES, rehearse

PARAMS = config.load(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which all four were run."""
    folder = tmp_path_factory.mktemp("rehearsal")
    with serve() as hub:
        done = rehearse(STUDIES, folder, hub)
    assert done.returncode == 0, done.stdout[-8000:]
    return folder / "clone"


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_runs_from_download_to_report(name: str, clone: Path) -> None:
    study = PARAMS.studies[name]
    results = clone / "results" / name
    assert (results / "report.html").stat().st_size > 10_000

    scores = pl.read_parquet(results / "scores.parquet")
    drawn = scores.group_by("model", "prefix", "seed").agg(pl.col("index").n_unique())
    assert len(drawn) == len(study.all_conditions())
    assert set(drawn["index"]) == {24}
    assert set(scores["field"]) == set(study.fields)

    rows = pl.read_parquet(results / "rows.parquet")
    corpus = pl.read_parquet(clone / f"data/corpora/{study.corpus}/corpus.parquet")
    assert study.likelihood is not None
    assert set(rows["model"]) == set(study.likelihood.models)
    assert set(rows["id"]) == set(corpus["id"]), "row risk is of every row"
    assert rows["chance_1e6"].is_between(0, 1).all()

    # What was not pinned is locked now: with it, nothing else is accepted.
    lock = yaml.safe_load((clone / "sources.lock.yaml").read_text())
    unpinned = [PARAMS.models[model] for model in study.models if PARAMS.models[model].source]
    names = "\n".join(lock)
    assert all(str(m.source.hf) in names for m in unpinned if m.source and m.source.hf)
    assert json.loads((results / "provenance.json").read_text())
