"""Groups of options inside a component."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, field_validator

from videopolicy.paths import input_paths


class Options(BaseModel):
    """Base of a group of options: a strict pydantic model that does not change once it is made.

    A misspelled option is an error with the line and the nearest name, as it is for components. Several groups of
    which a recipe chooses one have a field ``type`` each and stand in an
    ``Annotated[A | B, Field(discriminator="type")]``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    _paths = field_validator("*")(input_paths)
