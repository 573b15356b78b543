"""What the MLflow runs of a study hold, against the tables they are made from."""

import math
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
import yaml

from alignment_extraction.files import InputError, write_parquet
from alignment_extraction.settings.studies import StudySettings
from alignment_extraction.tracking.runs import RunContent, flat, study_runs
from tests import tracked_study


@pytest.fixture(scope="module")
def study() -> StudySettings:
    return tracked_study.settings()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, study: StudySettings) -> Path:
    folder = tmp_path_factory.mktemp("results") / "invented"
    tracked_study.write_results(folder, study)
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> Mapping[str, Path]:
    return {name: folder.parent / name for name in ("corpus.parquet",)} | {
        f"{model}/user/seed-0/00000": folder.parent / f"{model}-shard" for model in ("sft", "rl")
    }


@pytest.fixture(scope="module")
def curves(folder: Path) -> Mapping[str, Path]:
    path = folder.parent / "sft-curves.parquet"
    rows = [(1, "loss", 2.0), (2, "loss", 1.0), (2, "reward (mean)", 0.5), (3, "loss", math.nan)]
    schema = {"step": pl.Int64, "metric": pl.String, "value": pl.Float64}
    write_parquet(pl.DataFrame(rows, schema=schema, orient="row"), path)
    return {"sft": path}


@pytest.fixture(scope="module")
def runs(
    study: StudySettings, folder: Path, data: Mapping[str, Path], curves: Mapping[str, Path]
) -> dict[str, RunContent]:
    found = study_runs("invented", study, folder, data, curves)
    assert len({run.name for run in found}) == len(found)
    return {run.name: run for run in found}


def values(run: RunContent, key: str) -> list[tuple[int, float]]:
    return run.metrics.filter(key=key).select("step", "value").rows()


def test_cells_have_their_calibrated_numbers(runs: dict[str, RunContent], folder: Path) -> None:
    areas = pl.read_parquet(folder / "calibration_areas.parquet")
    run = runs["invented/rl/user/seed-1"]
    area = areas.filter(
        model="rl",
        prefix="user",
        seed=1,
        metric="embedding",
        held_out="role:held-out",
        length_band="all",
    ).row(0, named=True)
    assert values(run, "auc/question/role:member/embedding") == [(0, area["auc"])]
    assert values(run, "auc_low/question/role:member/embedding") == [(0, area["low"])]
    assert values(run, "control/question/role:member/verbatim") == [(0, 0.0)]
    # 20 held-out rows are too few.
    assert values(run, "rate_at_fpr_0.01/question/role:member/embedding") == []
    study = set(runs["invented"].metrics["key"])
    assert not any(key.startswith("calibration") for key in study)


def test_there_is_a_run_for_the_study_each_cell_pair_and_stage(
    runs: dict[str, RunContent],
) -> None:
    assert [(run.name, run.kind) for run in runs.values()] == [
        ("invented", "study"),
        *[
            (f"invented/{model}/{prefix}/seed-{seed}", "cell")
            for model in ("sft", "rl")
            for prefix in ("user", "hello")
            for seed in (0, 1)
        ],
        ("invented/likelihood/sft_rl", "likelihood"),
        ("invented/training/sft", "training"),
    ]


def test_parameters_are_those_of_the_cell(runs: dict[str, RunContent]) -> None:
    plain = runs["invented/sft/user/seed-0"].params
    overridden = runs["invented/rl/user/seed-1"].params
    literal = runs["invented/sft/hello/seed-0"].params
    assert (plain["sampling.samples"], overridden["sampling.samples"]) == ("40", "60")
    assert (overridden["model"], overridden["prefix"], overridden["seed"]) == ("rl", "user", "1")
    assert plain["thresholds.embedding"] == "0.95"
    assert literal["prefix_text"] == "Hello"
    assert "prefix_text" not in plain
    assert runs["invented/likelihood/sft_rl"].params["after"] == "rl"
    whole = runs["invented"].params
    assert (whole["models"], whole["prefixes.1.text"]) == ("sft, rl", "Hello")


def test_rates_and_ratios_are_the_tables(runs: dict[str, RunContent], folder: Path) -> None:
    rates = pl.read_parquet(folder / "rates.parquet")
    ratios = pl.read_parquet(folder / "ratios.parquet")
    checked = 0
    for row in rates.iter_rows(named=True):
        run = runs[f"invented/{row['model']}/{row['prefix']}/seed-{row['seed']}"]
        name = f"{row['part']}/{row['reference']}/{row['metric']}"
        for quantity, column in (("rate", "rate"), ("rate_low", "low"), ("hits", "hits")):
            assert values(run, f"{quantity}/{name}") == [(0, row[column])]
            checked += 1
    assert checked == 8 * 4 * 4 * 3
    infinite = 0
    for row in ratios.iter_rows(named=True):
        run = runs[f"invented/{row['model']}/{row['prefix']}/seed-{row['seed']}"]
        logged = values(run, f"ratio/{row['part']}/{row['reference']}/{row['metric']}")
        assert logged == ([(0, row["ratio"])] if math.isfinite(row["ratio"]) else [])
        infinite += not logged
    assert 0 < infinite < len(ratios)


def test_curves_have_thresholds_and_samples_as_steps(
    runs: dict[str, RunContent], folder: Path
) -> None:
    run = runs["invented/rl/user/seed-0"]
    sweep = values(run, "sweep/question/role:member/embedding")
    assert [step for step, _ in sweep] == list(range(500, 1001, 10))
    assert sweep[0][1] == 1.0
    assert sweep[45] == (950, values(run, "rate/question/role:member/embedding")[0][1])
    assert values(run, "sweep/question/sums.member/embedding") == []
    coverage = values(run, "coverage/question/sums.member/embedding")
    assert [step for step, _ in coverage] == sorted(step for step, _ in coverage)
    items = pl.read_parquet(folder / "items.parquet").filter(
        model="rl", prefix="user", seed=0, reference="sums.member", metric="embedding"
    )
    assert coverage[-1] == (60, pytest.approx(len(items)))


def test_shifts_of_both_forms_are_logged(runs: dict[str, RunContent], folder: Path) -> None:
    run = runs["invented/likelihood/sft_rl"]
    row = pl.read_parquet(folder / "shifts.parquet").row(
        by_predicate=(pl.col("role") == "member") & ~pl.col("template"), named=True
    )
    for column in ("n", "before", "shift", "shift_low", "excess_high"):
        assert values(run, f"{column}/question/without-template/sums.member") == [(0, row[column])]
    assert values(run, "excess/question/without-template/sums.fresh-instance") == []
    assert values(run, "shift/question/with-template/sums.member") != []


def test_membership_and_predictions_are_logged(runs: dict[str, RunContent], folder: Path) -> None:
    run = runs["invented/likelihood/sft_rl"]
    table = pl.read_parquet(folder / "membership.parquet")
    row = table.row(by_predicate=(pl.col("attack") == "ref") & pl.col("template"), named=True)
    where = "question/with-template/sums.member/sums.fresh-instance/after/ref"
    for column in ("auc", "auc_low", "auc_high", "tpr", "tpr_low", "tpr_high"):
        assert values(run, f"{column}/{where}") == [(0, row[column])]
    cell = runs["invented/rl/user/seed-0"]
    growth = pl.read_parquet(folder / "discoverable.parquet").filter(
        model="rl", prefix="user", seed=0, reference="sums.member"
    )
    assert values(cell, "expected_hits/sums.member") == list(
        growth.select("samples", "expected_hits").iter_rows()
    )
    assert values(cell, "verbatim_hits/sums.member") == [(60, 0)]
    # The other prefix was not scored.
    assert values(runs["invented/rl/hello/seed-0"], "expected_hits/sums.member") == []


def test_training_curves_keep_valid_names_and_finite_values(runs: dict[str, RunContent]) -> None:
    run = runs["invented/training/sft"]
    assert values(run, "loss") == [(1, 2.0), (2, 1.0)]
    assert values(run, "reward _mean_") == [(2, 0.5)]


def test_a_study_has_its_counts_and_highest_rates(runs: dict[str, RunContent]) -> None:
    run = runs["invented"]
    beside = {"controls", "search_audit", "contamination_rates", "embedders", "embedder_agreement"}
    assert {key.split("/")[0] for key in run.metrics["key"]} == beside | {
        "corpus",
        "search",
        "highest_rate",
    }
    name = "controls/rl/user/seed-0/question/role:member/embedding/held-out rows/role:held-out"
    ((_, difference),) = values(run, f"{name}/difference")
    ((_, low),) = values(run, f"{name}/difference_low")
    assert low < difference
    assert values(run, "corpus/rows") == [(0, 40.0)]
    assert values(run, "search/recall_at_1") == [(0, 0.9)]
    name = "question/role:member/embedding"
    rates = [values(run, f"rate/{name}")[0][1] for run in runs.values() if run.kind == "cell"]
    assert values(run, f"highest_rate/{name}") == [(0, max(rates))]
    assert set(run.tables) >= {"metrics.json", "rates.parquet", "scores.parquet"}


def test_shards_belong_to_the_run_of_their_cell(runs: dict[str, RunContent]) -> None:
    names = {name: set(run.data) for name, run in runs.items()}
    assert names["invented/sft/user/seed-0"] == {"corpus.parquet", "sft/user/seed-0/00000"}
    for name in (
        "",
        "/sft/user/seed-1",
        "/sft/hello/seed-0",
        "/likelihood/sft_rl",
        "/training/sft",
    ):
        assert names[f"invented{name}"] == {"corpus.parquet"}


def test_the_md5_is_the_one_dvc_records(
    runs: dict[str, RunContent],
    data: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dvc.repo import Repo

    monkeypatch.chdir(tmp_path)
    Path("corpus.parquet").write_bytes(data["corpus.parquet"].read_bytes())
    Repo.init(no_scm=True).add("corpus.parquet")
    recorded = yaml.safe_load(Path("corpus.parquet.dvc").read_text())["outs"][0]["md5"]
    assert runs["invented"].data["corpus.parquet"].md5 == recorded


def test_only_what_changed_has_another_fingerprint(
    study: StudySettings,
    folder: Path,
    data: Mapping[str, Path],
    curves: Mapping[str, Path],
    runs: dict[str, RunContent],
) -> None:
    def changed(settings: StudySettings, files: Mapping[str, Path]) -> set[str]:
        again = study_runs("invented", settings, folder, files, curves)
        return {run.name for run in again if run.fingerprint() != runs[run.name].fingerprint()}

    assert changed(study, data) == set()
    assert changed(study, dict(reversed(data.items()))) == set()
    assert changed(tracked_study.settings(title="Other"), data) == {"invented"}
    other = {**data, "sft/user/seed-0/00000": data["rl/user/seed-0/00000"]}
    assert changed(study, other) == {"invented/sft/user/seed-0"}


def test_a_missing_data_file_is_named(study: StudySettings, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.parquet: cannot be read \(No such file"):
        study_runs("invented", study, folder, {"corpus": tmp_path / "none.parquet"}, {})


@pytest.mark.parametrize("name", ["rates.parquet", "metrics.json", "shifts.parquet"])
def test_a_missing_result_is_named(tmp_path: Path, study: StudySettings, name: str) -> None:
    tracked_study.write_results(tmp_path / "results", study)
    (tmp_path / "results" / name).unlink()
    with pytest.raises(InputError, match=rf"results/{name}: no such file; run the step"):
        study_runs("invented", study, tmp_path / "results", {}, {})


def test_flat_keys() -> None:
    nested = {"a": {"b": 1.0, "c": [1, 2]}, "d": [{"e": None}, "f"], "g": []}
    assert flat(nested) == {"a.b": "1.0", "a.c": "1, 2", "d.0.e": "None", "d.1": "f", "g": ""}
