"""Make the students' data sets, the evaluation questions and the card."""

from pathlib import Path

import polars as pl

from alignment_extraction.distillation import card, data_sets
from alignment_extraction.files import atomic_path, read_parquet, write_json, write_parquet
from alignment_extraction.settings.distillation import DistillationSettings
from alignment_extraction.step import step

COLUMNS = ["index", "question", "answer", "question_finish", "answer_finish"]

with step(snakemake.log[0]):
    params, output = snakemake.params, snakemake.output
    generations, origins = {}, {}
    for family, shards in params.shards.items():
        origins[family] = card.origin([Path(file) for files in shards.values() for file in files])
        generations[family] = pl.concat(
            pl.read_parquet(files, columns=COLUMNS).with_columns(
                model=pl.lit(condition.model),
                prefix=pl.lit(condition.prefix),
                seed=pl.lit(condition.seed, pl.Int64),
            )
            for condition, files in shards.items()
        )
    made = data_sets.build(
        generations,
        pl.scan_parquet(snakemake.input.scores),
        read_parquet(Path(snakemake.input.corpus)),
        DistillationSettings.model_validate(params.settings),
        params.thresholds,
        params.seed,
    )
    for name in ("data", "counts", "questions"):
        write_parquet(getattr(made, name), Path(output[name]))
    with atomic_path(Path(output.card)) as partial:
        text = card.card("Students' data sets", made.counts, origins, params.thresholds)
        partial.write_text(text)
    write_json(params.record, Path(output.settings))
