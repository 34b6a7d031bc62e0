"""Meters: what a player's work cost, in seconds, floating-point operations, bytes, examples and steps."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Cost(BaseModel):
    """What one piece of work took."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    flops: int = 0
    """Floating-point operations of matrix products, convolutions and attention; assignments are not counted."""
    peak_host_bytes: int = 0
    peak_accelerator_bytes: int = 0
    unlabelled_examples: int = 0
    labelled_examples: int = 0
    gradient_steps: int = 0
