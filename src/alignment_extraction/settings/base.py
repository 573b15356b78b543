"""What every section of params.yaml has: its base class, names, similarities."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from alignment_extraction.files import InputError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
"""A name that is also a folder's: lower-case letters, digits, dots and hyphens."""

Similarity = Annotated[float, Field(ge=-1, le=1)]


class Settings(BaseModel):
    """Base of every section: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def checked(kind: Any, value: Any, origin: str) -> Any:
    """A value checked against a pydantic model or type.

    Args:
        kind: the model or type.
        value: what was given.
        origin: what messages call it.

    Raises:
        InputError: one line that names the first offending key.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in (origin, *first["loc"]))
        raise InputError(f"{key}: {first['msg'].removeprefix('Value error, ')}") from None
