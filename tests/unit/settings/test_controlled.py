"""The controlled study's settings: what cannot work is refused, and nothing heavy is imported."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from alignment_extraction.settings.controlled import TrainingSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"unknown": 1}, "unknown"),
        ({"rl": {"batch_size": 10, "generations": 4}}, "batch_size = 10 is not a multiple of"),
        ({"architecture": {"hidden": 100, "heads": 3}}, "hidden = 100 is not a multiple of"),
        ({"sft": {"bare_share": 2}}, "bare_share"),
    ],
)
def test_settings_that_cannot_work_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingSettings.model_validate(values)


def test_the_schema_imports_nothing_heavy() -> None:
    program = (
        "import sys, alignment_extraction.settings.config;"
        "print(*{'torch', 'transformers', 'llama_cpp'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""
