"""A real model with known truth: it writes conversations, and half of them train an adapter of it.

All conversations are independent draws from one model, so a coin makes members and twins
exchangeable; the model itself, without the adapter, is the control.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from alignment_extraction.engine.model import Model
from alignment_extraction.engine.quantisation import quantise
from alignment_extraction.files import InputError, write_parquet
from alignment_extraction.generations.conversation import ChatFormat
from alignment_extraction.generations.generation import generate
from alignment_extraction.generations.sampler import LlamaCpp
from alignment_extraction.models.peft_adapter import convert_peft
from alignment_extraction.settings.adapter import AdapterSettings
from alignment_extraction.settings.controlled import TrainingSettings
from alignment_extraction.settings.studies import SamplingSettings
from alignment_extraction.statistics import named_seed
from alignment_extraction.training.stages import members
from alignment_extraction.vocabulary import CORPUS

SOURCE = "conversations"  # of the corpus's rows


def draw(model: Path, settings: AdapterSettings, seed: int, threads: int = 1) -> pl.DataFrame:
    """Let a model, a GGUF, write conversations after its full prefix, at temperature 1.

    It draws with its weights in BF16, in which llama.cpp is twice as fast as in Q4_1. Another
    number of threads can give other texts. The columns are those of `request.SCHEMA`.

    Raises:
        InputError: the model cannot be loaded or has no chat template.
    """
    with TemporaryDirectory(prefix=".draw.", dir=model.parent) as folder:
        wide = Path(folder) / "model.gguf"
        quantise(model, wide, "BF16")
        sampling = SamplingSettings(
            answer=True,
            max_tokens=settings.max_question_tokens,
            max_answer_tokens=settings.max_answer_tokens,
        )
        with Model(wide, threads=threads) as loaded:
            drawn, _ = generate(
                LlamaCpp(loaded),
                prefix="full",
                sampling=sampling,
                seed=seed,
                first=0,
                samples=settings.samples,
            )
    return drawn


def assign(drawn: pl.DataFrame, settings: AdapterSettings, seed: int) -> pl.DataFrame:
    """Pair drawn conversations, and let coins say which of each pair is trained on, and how often.

    From columns of `request.SCHEMA` it gives a corpus, columns of `vocabulary.CORPUS`. Used are
    conversations whose question ended and is long enough, one for each question, without bytes that
    are no text.

    Raises:
        InputError: fewer than two conversations a pair are usable.
    """
    times = np.repeat(list(settings.repetitions), list(settings.repetitions.values()))
    usable = drawn.filter(
        pl.col("question_finish") == "stop",
        pl.col("question_tokens").list.len() >= settings.min_question_tokens,
        pl.col("answer").str.strip_chars() != "",
        ~pl.concat_str("question", "answer").str.contains("\ufffd"),
    ).unique("question", keep="first", maintain_order=True)
    if usable.height < 2 * len(times):
        raise InputError(
            f"adapter.samples: {settings.samples} samples gave {usable.height} usable "
            f"conversations, but adapter.repetitions needs {2 * len(times)}; draw more"
        )
    coins = np.random.default_rng(named_seed(seed, "adapter/coins"))
    times = coins.permutation(times)
    first = coins.integers(2, size=len(times))
    coin = np.stack([first, 1 - first], axis=1).ravel()
    message = pl.struct(role=pl.lit("user"), content="question")
    reply = pl.struct(role=pl.lit("assistant"), content="answer")
    table = usable.head(2 * len(times)).with_columns(
        id=pl.format(f"{SOURCE}/{{}}", pl.col("index").cast(pl.String).str.zfill(5)),
        source=pl.lit(SOURCE),
        role=pl.Series(np.where(coin, "member", "twin")),
        pair=(pl.int_range(pl.len()) // 2).cast(pl.String).str.zfill(4),
        repetitions=pl.Series(np.repeat(times, 2)),
        messages=pl.concat_list(message, reply),
        text=pl.concat_str("question", "answer", separator="\n"),
        **dict.fromkeys(("template", "seed_problem", "edit", "metadata")),
    )
    return table.select(pl.col(name).cast(dtype) for name, dtype in CORPUS.items())


def sequences(rows: pl.DataFrame, model: Path) -> list[list[int]]:
    """Tokens of conversations (question, answer) in a GGUF's template after its `user` prefix.

    llama.cpp's own, each turn ended, so that the training shows what is sampled and scored.
    """
    with Model(model) as loaded:
        chat = ChatFormat.of(loaded)
        prefix = chat.turns.user
        end = chat.question("Yes", prefix).end
        return [
            [*answer.context, *answer.target, *end]
            for question, text in rows.select("question", "answer").iter_rows()
            for answer in [chat.answer(question, text, prefix)]
        ]


def train_adapter(
    corpus: pl.DataFrame,
    model: Path,
    settings: AdapterSettings,
    training: TrainingSettings,
    output: Path,
    checkpoints: Path,
) -> None:
    """Train a LoRA adapter on the members of `assign`'s corpus and write it as a GGUF in F16.

    All linear layers are adapted, with the loss on all tokens; one pass shows each member
    `repetitions` times, in random order. The model is the GGUF of a Llama, whose quantised weights
    are made whole; of `training`, seed and bf16 are used. The curves lie beside `output`, and an
    interrupted run goes on from its `checkpoints`.

    Raises:
        InputError: no members, or an unusable model.
    """
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainingArguments, set_seed
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from alignment_extraction.training.fitting import Run, fit

    rows = members(corpus, SOURCE)
    run = Run(training, model, model, output, checkpoints)  # the GGUF has its tokenizer
    texts = pl.DataFrame({"ids": sequences(rows, model), "times": rows["repetitions"]})
    ids = texts.select(pl.col("ids").repeat_by("times").explode()).to_series()
    # Of like lengths, not of equal ones: copies of a conversation are to be apart.
    lengths = (ids.list.len() // 16).to_list()
    set_seed(training.seed)
    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(run.model(), lora)
    arguments = run.arguments(settings, settings, rows)
    trainer = Trainer(
        model=adapted,
        args=TrainingArguments(
            **{**arguments, "save_total_limit": None},
            num_train_epochs=1,
            train_sampling_strategy="group_by_length",
        ),
        train_dataset=Dataset.from_dict({"input_ids": ids.to_list(), "length": lengths}),
        data_collator=DataCollatorForLanguageModeling(adapted.config.pad_token_id or 0),
    )
    curves = fit(trainer)
    with TemporaryDirectory(prefix=".adapter.", dir=output.parent) as saved:
        adapted.save_pretrained(saved)
        convert_peft(Path(saved), model, output)
    write_parquet(curves, run.beside("curves"))
