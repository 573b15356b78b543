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


def test_there_is_a_run_for_the_study_each_condition_model_and_stage(
    runs: dict[str, RunContent],
) -> None:
    assert [(run.name, run.kind) for run in runs.values()] == [
        ("invented", "study"),
        *[
            (f"invented/{model}/{prefix}/seed-{seed}", "condition")
            for model in ("sft", "rl")
            for prefix in ("user", "hello")
            for seed in (0, 1)
        ],
        *[(f"invented/models/{model}", "model") for model in ("sft", "rl")],
        ("invented/training/sft", "training"),
    ]


def test_parameters_are_those_of_the_condition(runs: dict[str, RunContent]) -> None:
    plain = runs["invented/rl/user/seed-1"].params
    literal = runs["invented/sft/hello/seed-0"].params
    assert plain["sampling.samples"] == "40"
    assert (plain["model"], plain["prefix"], plain["seed"]) == ("rl", "user", "1")
    assert plain["thresholds.semantic"] == "0.95"
    assert literal["prefix_text"] == "Hello"
    assert "prefix_text" not in plain
    assert runs["invented/models/rl"].params["model"] == "rl"
    whole = runs["invented"].params
    assert (whole["models"], whole["prefixes.1.text"]) == ("sft, rl", "Hello")


def test_attributable_rates_are_the_table(runs: dict[str, RunContent], folder: Path) -> None:
    table = pl.read_parquet(folder / "attribution.parquet").filter(at="fixed")
    checked = 0
    for row in table.iter_rows(named=True):
        run = runs[f"invented/{row['model']}/{row['prefix']}/seed-{row['seed']}"]
        name = "/".join(row[key] for key in ("source", "level", "field", "metric"))
        for quantity, column in (
            ("attributable", "attributable"),
            ("attributable_low", "low"),
            ("member_wins", "member_wins"),
            ("n", "n"),
        ):
            assert values(run, f"{quantity}/{name}") == [(0, row[column])]
            checked += 1
    assert checked == 8 * 4 * 4


def test_sweeps_have_thresholds_as_steps(runs: dict[str, RunContent], folder: Path) -> None:
    name = "sums/rows/question/cosine"
    sweep = values(runs["invented/rl/user/seed-0"], f"sweep_attributable/{name}")
    assert [step for step, _ in sweep] == list(range(500, 1001, 10))
    fixed = values(runs["invented/rl/user/seed-0"], f"attributable/{name}")[0][1]
    assert dict(sweep)[950] == pytest.approx(fixed)


def test_models_have_risk_shift_and_attacks(runs: dict[str, RunContent], folder: Path) -> None:
    run = runs["invented/models/rl"]
    risk = pl.read_parquet(folder / "risk.parquet").filter(model="rl", role="member")
    assert values(run, "expected_distinct/sums/member") == list(
        risk.select("samples", "expected_distinct").iter_rows()
    )
    shift = pl.read_parquet(folder / "shift.parquet").row(
        by_predicate=pl.col("template") & (pl.col("per") == "question"), named=True
    )
    name = "sft/sums/question/with-template/question"
    assert values(run, f"shift/{name}") == [(0, shift["difference"])]
    assert values(run, f"shift_low/{name}") == [(0, shift["low"])]
    attack = pl.read_parquet(folder / "membership.parquet").row(
        by_predicate=(pl.col("model") == "rl") & (pl.col("attack") == "ref") & pl.col("template"),
        named=True,
    )
    name = "sums/question/with-template/ref"
    assert values(run, f"auc/{name}") == [(0, attack["auc"])]
    assert values(run, f"tpr_high/{name}") == [(0, attack["tpr_high"])]


def test_training_curves_keep_valid_names_and_finite_values(runs: dict[str, RunContent]) -> None:
    run = runs["invented/training/sft"]
    assert values(run, "loss") == [(1, 2.0), (2, 1.0)]
    assert values(run, "reward _mean_") == [(2, 0.5)]


def test_students_have_results_over_all_seeds_and_curves_of_each(
    tmp_path: Path, study: StudySettings
) -> None:
    folder = tmp_path / "results"
    tracked_study.write_results(folder, study)
    quantities = [f"{n}{end}" for n in ("value", "difference") for end in ("", "_low", "_high")]
    of = {"family": "sft", "arm": "extracted"}
    results = {**of, "benchmark": "twins", "measure": "accuracy"}
    results |= {name: 0.1 * i for i, name in enumerate(quantities)}
    results |= {f"recovered{end}": math.nan for end in ("", "_low", "_high")}
    write_parquet(pl.DataFrame([results]), folder / "distillation.parquet")
    curves = [{**of, "seed": s, "step": 9, "metric": "loss", "value": 1.0 + s} for s in (0, 1)]
    write_parquet(pl.DataFrame(curves), folder / "distillation_curves.parquet")
    found = {run.name: run for run in study_runs("x", study, folder, {}, {})}
    whole = found["x/distillation/sft/extracted"]
    assert whole.kind == "student" and whole.params == of
    assert values(whole, "difference_low/twins/accuracy") == [(0, results["difference_low"])]
    assert whole.metrics.height == len(quantities)
    seed = found["x/distillation/sft/extracted/seed-1"]
    assert seed.params["seed"] == "1" and values(seed, "loss") == [(9, 2.0)]


def test_a_study_has_its_numbers_and_tables(runs: dict[str, RunContent]) -> None:
    run = runs["invented"]
    assert values(run, "headline/sft/rows_at_risk") == [(0, 3.5)]
    assert set(run.tables) >= {"metrics.json", "attribution.parquet", "risk.parquet"}
    # As large as the data: they stay with DVC.
    assert not set(run.tables) & {"scores.parquet", "rows.parquet"}


def test_shards_belong_to_the_run_of_their_condition(runs: dict[str, RunContent]) -> None:
    names = {name: set(run.data) for name, run in runs.items()}
    assert names["invented/sft/user/seed-0"] == {"corpus.parquet", "sft/user/seed-0/00000"}
    for name in (
        "",
        "/sft/user/seed-1",
        "/sft/hello/seed-0",
        "/models/rl",
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


@pytest.mark.parametrize("name", ["attribution.parquet", "metrics.json", "shift.parquet"])
def test_a_missing_result_is_named(tmp_path: Path, study: StudySettings, name: str) -> None:
    tracked_study.write_results(tmp_path / "results", study)
    (tmp_path / "results" / name).unlink()
    with pytest.raises(InputError, match=rf"results/{name}: no such file; run the step"):
        study_runs("invented", study, tmp_path / "results", {}, {})


def test_flat_keys() -> None:
    nested = {"a": {"b": 1.0, "c": [1, 2]}, "d": [{"e": None}, "f"], "g": []}
    assert flat(nested) == {"a.b": "1.0", "a.c": "1, 2", "d.0.e": "None", "d.1": "f", "g": ""}
