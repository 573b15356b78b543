"""Whether the models that are here can give the prefixes that a study samples them after."""

from pathlib import Path

from alignment_extraction import layout
from alignment_extraction.files import InputError
from alignment_extraction.settings.config import Params


def check_prefixes(params: Params) -> None:
    """Derive the prefix of every condition of the studies in `run` whose model is on disk.

    A model that a job has yet to fetch or train, or that a server has, is left out; its sampling
    checks the prefix again.

    Raises:
        InputError: a model's template cannot give a prefix; names the study's key.
    """
    for study_name in params.run:
        study = params.studies[study_name]
        for name in study.sampled_models:
            path = Path(layout.model_file(params, name))
            if params.models[name].served or not path.exists():
                continue
            # Imported here: a study whose models are not there yet does not need llama.cpp.
            from alignment_extraction.engine.model import Model
            from alignment_extraction.generations.prefix import prefix_tokens

            wanted = {study.prefix_of(c): None for c in study.all_conditions() if c.model == name}
            with Model(path) as model:
                for prefix in wanted:
                    try:
                        prefix_tokens(model, prefix)
                    except InputError as error:
                        at = study.prefixes.index(prefix)
                        raise InputError(
                            f"params.yaml: studies.{study_name}.prefixes.{at}: {error}"
                        ) from None
