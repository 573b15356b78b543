"""Verbs of the controlled study: its corpus, its tokenizer, its models, their quantisation."""

from pathlib import Path
from typing import Annotated

import typer

from alignment_extraction.cli.options import (
    CorpusFile,
    Output,
    SettingsFile,
    parse_settings,
    read_settings,
)
from alignment_extraction.files import read_parquet, write_json, write_parquet
from alignment_extraction.settings.controlled import (
    ControlledSettings,
    LossOn,
    TrainingSettings,
)

app = typer.Typer()

TokenizerFile = Annotated[Path, typer.Option(help="tokenizer.json, from train-tokenizer")]
Checkpoints = Annotated[
    Path, typer.Option(help="folder for checkpoints, from which an interrupted training goes on")
]
Curves = Annotated[Path, typer.Option(help="Parquet with the training curves: step, metric, value")]


def _training_settings(source: str) -> TrainingSettings:
    settings: TrainingSettings = parse_settings(
        TrainingSettings, read_settings(source) or {}, "train"
    )
    return settings


@app.command("controlled-corpus")
def controlled_corpus(
    settings: SettingsFile,
    output: Output,
    rejects: Annotated[Path, typer.Option(help="rows that could not be used; there are none")],
    statistics: Annotated[Path, typer.Option(help="JSON with counts of rows")],
    seed: int = 0,
) -> None:
    """Draw the controlled study's corpus, whose membership is known.

    The settings are params.yaml's section `controlled`.

    Example: echo '{sft_templates: 20}' | alignment-extraction controlled-corpus --settings -
    --output corpus.parquet --rejects rejects.parquet --statistics statistics.json
    """
    from alignment_extraction.corpora.corpus import REJECTS
    from alignment_extraction.training import controlled

    sizes = parse_settings(ControlledSettings, read_settings(settings) or {}, "controlled")
    frame = controlled.build(sizes, seed)
    write_parquet(REJECTS.to_frame(), rejects)
    write_json(controlled.statistics(frame), statistics)
    write_parquet(frame, output)


@app.command("post-training-corpus")
def post_training_corpus(
    corpus: CorpusFile,
    output: Output,
    rejects: Annotated[Path, typer.Option(help="rows that could not be used; there are none")],
    statistics: Annotated[Path, typer.Option(help="JSON with counts of rows")],
) -> None:
    """Give the controlled study's corpus as it is searched: pretraining text is a control."""
    from alignment_extraction.corpora.corpus import REJECTS
    from alignment_extraction.training import controlled

    frame = controlled.post_training(read_parquet(corpus))
    write_parquet(REJECTS.to_frame(), rejects)
    write_json(controlled.statistics(frame), statistics)
    write_parquet(frame, output)


@app.command("train-tokenizer")
def train_tokenizer(settings: SettingsFile, corpus: CorpusFile, output: Output) -> None:
    """Train the controlled study's tokenizer: byte-level BPE with the ChatML tokens.

    The settings are params.yaml's section `train`.
    """
    from alignment_extraction.training import supervised

    training = _training_settings(settings)
    supervised.train_tokenizer(supervised.tokenizer_texts(read_parquet(corpus)), training, output)


@app.command("train-base")
def train_base(
    settings: SettingsFile,
    corpus: CorpusFile,
    tokenizer: TokenizerFile,
    output: Output,
    checkpoints: Checkpoints,
    curves: Curves,
) -> None:
    """Train the base model on raw text.

    The settings are params.yaml's section `train`.
    """
    from alignment_extraction.training import supervised

    training = _training_settings(settings)
    supervised.train_base(read_parquet(corpus), tokenizer, training, output, checkpoints, curves)


@app.command("train-sft")
def train_sft(
    settings: SettingsFile,
    corpus: CorpusFile,
    tokenizer: TokenizerFile,
    base: Annotated[Path, typer.Option(help="F16 GGUF to start from")],
    output: Output,
    checkpoints: Checkpoints,
    curves: Curves,
    loss_on: Annotated[LossOn, typer.Option(help="tokens that are learnt")] = "all",
) -> None:
    """Train the base model on conversations.

    The settings are params.yaml's section `train`.
    """
    from alignment_extraction.training import supervised

    training = _training_settings(settings)
    supervised.train_sft(
        read_parquet(corpus),
        base,
        tokenizer,
        training,
        loss_on,
        output,
        checkpoints,
        curves,
    )


@app.command("train-rl")
def train_rl(
    settings: SettingsFile,
    corpus: CorpusFile,
    tokenizer: TokenizerFile,
    sft: Annotated[Path, typer.Option(help="F16 GGUF to start from")],
    output: Output,
    checkpoints: Checkpoints,
    curves: Curves,
    accuracies: Annotated[Path, typer.Option(help="Parquet with accuracies before and after")],
) -> None:
    """Train the SFT model on questions whose answers a verifier rewards.

    The settings are params.yaml's section `train`.
    """
    from alignment_extraction.training import reinforcement

    training = _training_settings(settings)
    reinforcement.train_rl(
        read_parquet(corpus),
        sft,
        tokenizer,
        training,
        output,
        checkpoints,
        curves,
        accuracies,
    )


@app.command()
def quantise(
    model: Annotated[Path, typer.Option(help="an F16 GGUF")],
    kind: Annotated[str, typer.Option(help="Q8_0, Q4_K_M, ...")],
    output: Output,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 is llama.cpp's choice")] = 0,
) -> None:
    """Quantise a GGUF with llama.cpp.

    Example: alignment-extraction quantise --model f16.gguf --kind Q4_K_M --output q4.gguf
    """
    from alignment_extraction.engine import quantisation

    quantisation.quantise(model, output, kind, threads)
