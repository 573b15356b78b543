"""What every section of params.yaml has: its base class, names, similarities."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from alignment_extraction.files import InputError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
"""A name that is also a folder's: lower-case letters, digits, dots and hyphens."""

Names = Annotated[tuple[str, ...], Field(min_length=1)]
Similarity = Annotated[float, Field(ge=-1, le=1)]


class Settings(BaseModel):
    """Base of every section: immutable, and a misspelt key is an error.

    A meaning that is too long for its field's line follows it as a docstring.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def checked(kind: Any, value: Any, origin: str) -> Any:
    """A value checked against a pydantic model or type.

    Raises:
        InputError: one line that names `origin`, where the value is from, and the first wrong key.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
    # Pydantic inserts the branch of a union where a key would be.
    key = ".".join(str(k) for k in first["loc"] if not re.match(r"[A-Z]|.*\[|constrained-", str(k)))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key; remove it or correct its spelling"
    elif first["type"] == "missing":
        message = "missing; add it"
    elif isinstance(first["input"], str | int | float) and "not" not in message:
        message += f", not {first['input']!r}"
    more = f" ({len(others)} more after this one)" if others else ""
    raise InputError(": ".join(filter(None, (origin, key, message))) + more)
