"""``mergearena zoo``: build, verify and list the models of a suite."""

from __future__ import annotations

from rich.console import Console
