"""Checks of params.yaml that need a model: whether its template can give a study's prefixes."""

from collections.abc import Callable
from pathlib import Path

from alignment_extraction.files import InputError
from alignment_extraction.settings.config import Params


def check_prefixes(params: Params, model_file: Callable[[str], Path]) -> None:
    """Derive every prefix of the studies in `run` from the models that are already on disk.

    A model that a job has yet to fetch or train is left out; its sampling checks the prefix again.

    Args:
        params: the checked parameters.
        model_file: where the GGUF of a model lies.

    Raises:
        InputError: a model's template cannot give a prefix; names the study's key.
    """
    for study_name in params.run:
        study = params.studies[study_name]
        for model_name in study.sampled_models:
            path = model_file(model_name)
            if not path.exists():
                continue
            # Imported here: a study whose models are not there yet does not need llama.cpp.
            from alignment_extraction.engine.model import Model
            from alignment_extraction.generations.prefix import prefix_tokens

            with Model(path) as model:
                for i, name in enumerate(study.prefix_names):
                    try:
                        prefix_tokens(model, name, study.prefix_text(name))
                    except InputError as error:
                        raise InputError(
                            f"params.yaml: studies.{study_name}.prefixes.{i}: {error}"
                        ) from None
