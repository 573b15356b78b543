"""What every section of params.yaml has: its base class, names, similarities."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
"""A name that is also a folder's: lower-case letters, digits, dots and hyphens."""

Similarity = Annotated[float, Field(ge=-1, le=1)]


class Settings(BaseModel):
    """Base of every section: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
