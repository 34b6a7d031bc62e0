"""What models of records, boards and submissions are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
"""A share of examples, of a skill, of anything: 0 to 1."""


class Strict(BaseModel):
    """Frozen, without unknown fields, without numbers that are none; documented by its attribute docstrings."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
