"""Make the students' data sets, the evaluation questions and the card."""

from pathlib import Path

import polars as pl

from alignment_extraction.distillation import card, data_sets
from alignment_extraction.files import atomic_path, read_parquet, write_json, write_parquet
from alignment_extraction.settings.distillation import DistillationSettings

_COLUMNS = ["index", "question", "answer", "question_finish", "answer_finish"]


def main(snakemake):
    params, output = snakemake.params, snakemake.output
    settings = DistillationSettings.model_validate(params.settings)
    generations, origins = {}, {}
    for family in settings.families:
        own = [entry for entry in params.generations if entry["family"] == family]
        origins[family] = card.origin([Path(file) for entry in own for file in entry["files"]])
        generations[family] = pl.concat(
            pl.read_parquet(entry["files"], columns=_COLUMNS).with_columns(
                model=pl.lit(entry["model"]),
                prefix=pl.lit(entry["prefix"]),
                seed=pl.lit(entry["seed"], pl.Int64),
            )
            for entry in own
        )
    made = data_sets.build(
        generations,
        pl.scan_parquet(snakemake.input.scores),
        read_parquet(Path(snakemake.input.corpus)),
        settings,
        params.thresholds,
        params.seed,
    )
    for name in ("data", "counts", "questions"):
        write_parquet(getattr(made, name), Path(output[name]))
    with atomic_path(Path(output.card)) as partial:
        text = card.card("Students' data sets", made.counts, origins, params.thresholds)
        partial.write_text(text)
    write_json(params.record, Path(output.settings))


main(snakemake)  # noqa: F821
