"""``mergearena zoo ...``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mergearena.bench.cli.console import console as _console
from mergearena.bench.cli.options import SuiteOption

zoo_app = typer.Typer(no_args_is_help=True, help="Build, verify and list the suites' models.")


@zoo_app.command("list")
def zoo_list(suite: SuiteOption = "embedded") -> None:
    """Show a suite's tasks, data and models."""
    from mergearena.bench.cli.commands import zoo

    _console().print(zoo.listing(suite))


@zoo_app.command("verify")
def zoo_verify(suite: SuiteOption = "embedded") -> None:
    """Evaluate a suite's models again and compare with the figures stored beside them."""
    from mergearena.bench.cli.commands import zoo

    if not zoo.verify(suite, _console()):
        raise typer.Exit(1)


@zoo_app.command("build")
def zoo_build(
    suite: SuiteOption = "embedded",
    out: Annotated[Path | None, typer.Option(help="Folder to write to; the suite's own by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
) -> None:
    """Train a suite's base and fine-tuned models from nothing."""
    from mergearena.bench.cli.commands import zoo

    zoo.build(suite, out, seed, _console())
