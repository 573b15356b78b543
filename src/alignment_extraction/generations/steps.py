"""The step of sampling, as rules and verbs run it: settings in, a shard on disk."""

from pathlib import Path

from alignment_extraction.engine.model import Model
from alignment_extraction.files import unchanged, write_parquet
from alignment_extraction.generations.generation import generate
from alignment_extraction.generations.prefix import describe_prefix
from alignment_extraction.gpu import usable_gpu_layers
from alignment_extraction.settings.studies import LiteralPrefix, PrefixForm, SamplingSettings


def literal(prefix: PrefixForm | LiteralPrefix) -> tuple[str, str | None, str]:
    """Name, literal text (None where it is derived) and end text of a prefix."""
    if isinstance(prefix, LiteralPrefix):
        return prefix.name, prefix.text, prefix.end
    return prefix, None, ""


def write_shard(
    model: Path,
    output: Path,
    *,
    prefix: PrefixForm | LiteralPrefix,
    sampling: SamplingSettings,
    seed: int,
    first: int,
    samples: int,
    threads: int | None = None,
    gpu_layers: int = 0,
    sha256: str | None = None,
) -> None:
    """Draw generations `first` to `first + samples - 1` of a condition and write them.

    Args:
        model: the GGUF.
        output: Parquet to write; how it was drawn is in its metadata.
        prefix: an entry of a study's `prefixes`.
        sampling: of the condition.
        seed: of the condition.
        first: index of the first generation.
        samples: how many.
        threads: of llama.cpp; None uses every core.
        gpu_layers: layers wanted on a GPU; -1 is all.
        sha256: what the GGUF must be; None takes any.

    Raises:
        InputError: see `generation.generate`, and the GGUF is another one or was replaced.
    """
    name, text, end = literal(prefix)
    with unchanged(model, sha256) as found:
        frame, about = generate(
            model,
            prefix=name,
            prefix_text=text,
            end_text=end,
            seed=seed,
            first=first,
            samples=samples,
            max_tokens=sampling.max_tokens,
            max_answer_tokens=sampling.max_answer_tokens if sampling.answer else None,
            sampling=sampling.model_dump(
                include={"temperature", "top_k", "top_p", "min_p", "slots"}
            ),
            threads=threads,
            gpu_layers=usable_gpu_layers(gpu_layers),
            model_sha256=found,
        )
    write_parquet(frame, output, about)


def shown_prefix(model: Path, prefix: PrefixForm | LiteralPrefix) -> str:
    """The tokens of a prefix with their ids, one per line, for a person to check."""
    name, text, _ = literal(prefix)
    with Model(model) as loaded:
        tokens = describe_prefix(loaded, name, text)
    return "\n".join(f"{token:>8}  {piece!r}" for token, piece in tokens.iter_rows())
